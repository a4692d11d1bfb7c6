//! Finding the next hop of a packet, and what happens while its Ethernet address is unknown.
//!
//! A packet whose next hop is not known yet waits, a bounded number of them for a bounded time,
//! while the neighbour is asked for: by the host through control, and by the dataplane itself, for
//! an interface on which the host has no address.

use super::answer;
use super::outbox::OwnFrame;
use super::{Address, DropReason, Frame, PacketPath, Verdict, View};
use crate::packet_path::Notice;
use crate::table::{Hop, NoHop, PortId, Real, Refusal};
use crate::tick::{PER_SECOND, Tick, Ticks};
use std::net::IpAddr;

/// Frames kept back at most while their next hops are asked for; further ones are dropped.
const MOST_WAITING: usize = 256;
/// Neighbours remembered as asked for at most; further ones are asked for with every packet.
const MOST_ASKED: usize = 64;
/// How long a frame waits.
const PATIENCE: Ticks = Ticks(PER_SECOND);
/// How often one neighbour is asked for.
const ASK_AGAIN: Ticks = Ticks(PER_SECOND / 2);

/// A frame whose next hop is being asked for.
#[derive(Debug)]
struct WaitingFrame {
    until: Tick,
    neighbour: (PortId, IpAddr),
    own: OwnFrame,
}

/// Frames whose next hop is being asked for, and who was asked for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    frames: Vec<WaitingFrame>,
    asked: Vec<(Tick, PortId, IpAddr)>,
    generation: u64,
}

impl PacketPath {
    /// The next hop towards a real server; `None` when the frame waits for it.
    #[inline]
    pub(super) fn hop_to_real(
        &mut self,
        view: View<'_>,
        real: &Real,
        frame: &Frame<'_>,
    ) -> Result<Option<Hop>, DropReason> {
        match view.hops.for_real(real.id) {
            Some(hop) => Ok(Some(*hop)),
            None => match view.hops.to_real(real) {
                Ok(hop) => Ok(Some(hop)),
                Err(missing) => self.without_hop(view, missing, frame),
            },
        }
    }

    /// The next hop of a reply; `None` when the frame waits for it.
    #[inline]
    pub(super) fn hop_to_client(
        &mut self,
        view: View<'_>,
        peer: u16,
        (client, virtual_address): (Address, Address),
        frame: &Frame<'_>,
    ) -> Result<Option<Hop>, DropReason> {
        if peer != 0
            && let Some((mac, port)) = view.director.reals().peer(peer)
            && let Some(info) = view.hops.port(port)
        {
            return Ok(Some(Hop::new(port, mac, info.mac, info.mtu)));
        }
        match view.hops.resolve(view.hops.flow(client, virtual_address, frame.ingress)) {
            Ok(hop) => Ok(Some(hop)),
            Err(missing) => self.without_hop(view, missing, frame),
        }
    }

    fn without_hop(
        &mut self,
        view: View<'_>,
        missing: NoHop,
        frame: &Frame<'_>,
    ) -> Result<Option<Hop>, DropReason> {
        match missing {
            NoHop::NoRoute => Err(DropReason::NoRoute),
            NoHop::NotAttached => Err(DropReason::PortNotAttached),
            NoHop::Refused(Refusal::Blackhole) => Err(DropReason::RouteBlackhole),
            NoHop::Refused(Refusal::Unreachable) => Err(DropReason::RouteUnreachable),
            NoHop::Refused(Refusal::Prohibit) => Err(DropReason::RouteProhibits),
            NoHop::Unresolved { port, neighbour } => {
                self.ask(view, port, neighbour);
                if self.waiting.frames.len() >= MOST_WAITING {
                    return Err(DropReason::NextHopUnresolved);
                }
                let copy = self.outbox.copy_of(frame).ok_or(DropReason::NextHopUnresolved)?;
                self.waiting.frames.push(WaitingFrame {
                    until: view.now.after(PATIENCE),
                    neighbour: (port, neighbour),
                    own: copy,
                });
                self.waiting.generation = view.hops.generation;
                Ok(None)
            }
        }
    }

    /// Asks for a neighbour, at most every [`ASK_AGAIN`].
    fn ask(&mut self, view: View<'_>, port: PortId, neighbour: IpAddr) {
        let asked = &mut self.waiting.asked;
        if asked.iter().any(|(_, p, n)| (*p, *n) == (port, neighbour)) {
            return;
        }
        if asked.len() < MOST_ASKED {
            asked.push((view.now.after(ASK_AGAIN), port, neighbour));
        }
        view.director.notify(Notice::NeighbourNeeded { port, address: neighbour });
        let Some(info) = view.hops.port(port) else { return };
        if let Some(source) = view.hops.source_for(&neighbour) {
            answer::ask_neighbour(&mut self.outbox, port, info.mac, source, neighbour);
        }
    }

    /// Whether this neighbour was asked for not long ago, or a frame still waits for it.
    pub(super) fn was_asked(&self, port: PortId, neighbour: IpAddr) -> bool {
        let Waiting { frames, asked, .. } = &self.waiting;
        asked.iter().any(|(_, p, n)| (*p, *n) == (port, neighbour))
            || frames.iter().any(|frame| frame.neighbour == (port, neighbour))
    }

    /// Judges the waiting frames again when the next hops have changed, and drops those that have
    /// waited too long.
    pub(super) fn retry_waiting(&mut self, view: View<'_>) {
        self.waiting.asked.retain(|(until, ..)| !until.is_due(view.now));
        if self.waiting.frames.is_empty() {
            return;
        }
        let changed = self.waiting.generation != view.hops.generation;
        for frame in std::mem::take(&mut self.waiting.frames) {
            if changed {
                self.judge_again(view, frame.own);
            } else if frame.until.is_due(view.now) {
                self.outbox.discard(frame.own);
                self.count_drop(DropReason::NextHopUnresolved);
            } else {
                self.waiting.frames.push(frame);
            }
        }
    }

    /// Judges a frame that was kept back.
    pub(super) fn judge_again(&mut self, view: View<'_>, mut own: OwnFrame) {
        let mut frame = own.frame();
        let judged = self.one(view, &mut frame, None);
        let (place, offload) = ((frame.offset(), frame.len()), frame.offload);
        match judged {
            Ok(verdict @ (Verdict::Send(_) | Verdict::Deliver | Verdict::Host)) => {
                if !self.outbox.put_judged(own, place, offload, verdict) {
                    self.count_drop(DropReason::TransmitQueueFull);
                }
            }
            Ok(Verdict::Consumed) => self.outbox.discard(own),
            Ok(Verdict::Drop(reason)) | Err(reason) => {
                self.count_drop(reason);
                self.outbox.discard(own);
            }
        }
    }
}
