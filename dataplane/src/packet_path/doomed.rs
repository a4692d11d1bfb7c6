//! Connections whose server was given up: both ends are reset.
//!
//! A reset is believed only with the right sequence number, and the director keeps none. So the
//! connection is doomed first; the next packet of either end has the numbers for both: it goes on as
//! a reset to the other end, and its sender is reset as if nobody listened.

use super::answer::ip_header;
use super::connections::{Direction, Flags, Identity, Meta, Slot};
use super::parse::{self, Packet, Parsed};
use super::states;
use super::{Director, DropReason, Frame, PacketPath, Verdict, View};
use crate::frame::Offload;
use crate::tick::Tick;
use crate::wire::checksum::pseudo_header;
use crate::wire::transport::tcp;
use crate::wire::{byte, ip, put, put16};

impl Director {
    /// Has a TCP connection reset with its next packet; any other is ended now.
    ///
    /// As with [`Director::end_meant`], no other than the one that is meant.
    pub fn doom(&self, meant: &Identity, now: Tick) {
        if !self.connections().is_alive(meant) {
            return;
        }
        if meant.tuple.protocol != ip::TCP || meant.tuple.template {
            self.end(meant.slot, now);
            return;
        }
        // One that has just ended needs no reset.
        let entry = self.connections().entry(meant.slot);
        let _ = entry.update_meta(|meta| {
            let flags = meta.flags.with(Flags::DOOMED);
            (!meta.flags.has(Flags::DEAD)).then_some(Meta {
                flags,
                state: states::tcp::CLOSE,
                ..meta
            })
        });
    }
}

impl PacketPath {
    /// The packet that ends a doomed connection.
    pub(super) fn last_packet(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        (slot, direction): (Slot, Direction),
    ) -> Result<Verdict, DropReason> {
        // What follows is the ordinary way.
        let entry = view.director.connections().entry(slot);
        let _ = entry
            .update_meta(|meta| Some(Meta { flags: meta.flags.without(Flags::DOOMED), ..meta }));
        self.reset_sender(view, frame, packet);
        let judged = match (as_reset(frame, packet), direction) {
            (Ok(mut reset), Direction::Forward) => {
                self.client_packet(view, frame, &mut reset, slot)
            }
            (Ok(mut reset), Direction::Reply) => self.reply_packet(view, frame, &mut reset, slot),
            (Err(reason), _) => Err(reason),
        };
        view.director.end(slot, view.now);
        judged
    }

    /// When the outbox is full, the sender learns of it with its next packet.
    fn reset_sender(&mut self, view: View<'_>, frame: &Frame<'_>, packet: &Packet) {
        let Some(mut own) = self.outbox.copy_of(frame) else { return };
        let mut copy = own.frame();
        let verdict = self.refuse_segment(view, &mut copy, packet);
        let (place, offload) = ((copy.offset(), copy.len()), copy.offload);
        let verdict = verdict.unwrap_or_else(Verdict::Drop);
        if !self.outbox.put_judged(own, place, offload, verdict) {
            self.count_drop(DropReason::TransmitQueueFull);
        }
    }
}

/// Makes a reset of a segment, with its addresses, ports and numbers, and without its data.
fn as_reset(frame: &mut Frame<'_>, packet: &Packet) -> Result<Packet, DropReason> {
    let header = frame.bytes().get(packet.l4..).unwrap_or_default();
    let mut segment = [0; tcp::LENGTH];
    let kept = header.get(..tcp::DATA_OFFSET).ok_or(DropReason::Truncated)?;
    segment[..tcp::DATA_OFFSET].copy_from_slice(kept);
    segment[tcp::DATA_OFFSET] = 5 << 4;
    segment[tcp::FLAGS] = tcp::RST | byte(header, tcp::FLAGS) & tcp::ACK;
    let (from, to) = (packet.source, packet.destination);
    let length = u32::try_from(segment.len()).unwrap_or(0);
    let sum = pseudo_header(packet.is_v4(), from.0, to.0, ip::TCP, length).bytes(&segment);
    put16(&mut segment, tcp::CHECKSUM, sum.checksum());
    let l4 = packet.l3 + if packet.is_v4() { ip::v4::LENGTH } else { ip::v6::LENGTH };
    frame.set_len(l4 + segment.len()).ok_or(DropReason::NoHeadroom)?;
    frame.offload = Offload::default();
    let bytes = frame.bytes_mut();
    ip_header(bytes, packet.l3, from, to, ip::TCP, segment.len());
    put(bytes, l4, &segment);
    match parse::frame(frame.bytes())? {
        Parsed::Ip(packet) => Ok(packet),
        Parsed::Arp(_) | Parsed::Other => Err(DropReason::Truncated),
    }
}
