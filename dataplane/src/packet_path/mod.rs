//! What happens to one packet.
//!
//! [`PacketPath::process`] judges a batch in place; [`PacketPath::one`] is the table of contents of
//! a packet's life, and [`fast_path`] the same life with everything unusual left out. Nothing here
//! does I/O, reads a clock or, for packets of known connections, takes a lock or allocates.

mod accounts;
pub mod adopt;
pub mod answer;
mod client_address;
pub mod connections;
pub mod counters;
pub mod director;
mod doomed;
mod egress;
pub mod explain;
mod fast_path;
pub mod forward;
mod fragments;
mod ftp;
mod icmp_error;
mod known;
mod next_hop;
pub mod open;
pub mod outbox;
pub mod parse;
mod persistence;
pub mod reals;
pub mod schedule;
pub mod sequence;
mod shed;
pub mod sources;
pub mod states;
pub mod verdict;

#[cfg(test)]
pub(crate) mod tests;

pub use crate::table::Address;
pub use adopt::Adopter;
pub use director::{Capacity, Director, Notice};
pub use open::{POOL_PORTS, RESERVED_PORTS};
pub use verdict::{DropReason, Verdict};

use crate::frame::{BATCH, Batch, Frame, Offload};
use crate::table::{Hops, ServiceTable};
use crate::tick::Tick;
use crate::wire::ip;
use arrayvec::ArrayVec;
use connections::{Direction, Owned, Sweeper, Tuple};
use counters::{Counters, bump};
use fast_path::Sight;
use next_hop::Waiting;
use outbox::Outbox;
use parse::{Fragment, Packet, Parsed};
use std::sync::Arc;

/// Everything that a batch may read. Fixed for the whole batch, so that a change of configuration
/// never splits one.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What all workers share.
    pub director: &'a Director,
    /// Services.
    pub table: &'a ServiceTable,
    /// Next hops.
    pub hops: &'a Hops,
    /// The batch's moment.
    pub now: Tick,
}

/// Verdicts of a batch, in its order.
pub type Verdicts = ArrayVec<Verdict, BATCH>;

/// One worker's packet path.
#[derive(Debug)]
pub struct PacketPath {
    director: Arc<Director>,
    counters: Arc<Counters>,
    owned: Owned,
    sweeper: Sweeper,
    waiting: Waiting,
    error_budget: icmp_error::PerSecond,
    claims: icmp_error::PerSecond,
    tunnel_id: u16,
    piece: Vec<u8>,
    shed_from: usize,
    held: fragments::Held,
    first_parts_seen: bool,
    random: u64,
    /// Frames to send that did not come in: the worker takes them after each batch.
    pub outbox: Outbox,
}

impl PacketPath {
    /// The path of worker number `worker`. Each number is used once.
    pub fn new(director: Arc<Director>, worker: usize, seed: u64) -> Self {
        let owned = director.connections().owned(worker);
        Self {
            counters: director.worker_counters(worker),
            director,
            owned,
            sweeper: Sweeper::between_batches(),
            waiting: Waiting::default(),
            error_budget: icmp_error::PerSecond::default(),
            claims: icmp_error::PerSecond::default(),
            tunnel_id: 0,
            piece: Vec::new(),
            shed_from: 0,
            held: fragments::Held::default(),
            first_parts_seen: false,
            random: seed | 1,
            outbox: Outbox::default(),
        }
    }

    /// The shared state.
    pub fn director(&self) -> &Arc<Director> {
        &self.director
    }

    /// Judges a batch, rewriting frames in place. Leaves one verdict per frame, in order.
    ///
    /// The first two passes only read, and ask for memory that the third one will need.
    #[inline(never)] // Instructions are counted by this name.
    pub fn process(&mut self, view: View<'_>, frames: &mut Batch<'_>, verdicts: &mut Verdicts) {
        self.judge(view, frames, verdicts);
    }

    /// As [`PacketPath::process`]. How many frames took the fast path.
    #[inline(always)]
    fn judge(&mut self, view: View<'_>, frames: &mut Batch<'_>, verdicts: &mut Verdicts) -> usize {
        let connections = view.director.connections();
        connections.begin_batch(&self.owned);
        let mut sights = [Sight::default(); BATCH];
        for (frame, sight) in frames.iter().zip(&mut sights) {
            sight.look(frame, connections);
        }
        for (_, sight) in frames.iter().zip(&mut sights) {
            sight.locate(connections);
        }
        *verdicts = Verdicts::from([Verdict::Consumed; BATCH]);
        verdicts.truncate(frames.len());
        let (mut judged, mut fast, mut sent) = (0, 0, 0);
        while judged < frames.len() {
            let (frames, verdicts) = (&mut frames[judged..], &mut verdicts[judged..]);
            let ordinary = self.fast(&view, frames, &sights[judged..], verdicts);
            judged += ordinary;
            fast += ordinary;
            if ordinary == 0 {
                let verdict = self.one(view, &mut frames[0], sights[judged].hash());
                verdicts[0] = verdict.unwrap_or_else(Verdict::Drop);
                sent += self.count(verdicts[0]);
                judged += 1;
            }
        }
        bump(&self.counters.received, frames.len() as u64);
        bump(&self.counters.sent, sent + fast as u64);
        if self.first_parts_seen {
            self.retry_held(view);
        }
        fast
    }

    /// The life of one packet, top to bottom. `hash`: its tuple's, where that is known already.
    #[inline(never)]
    fn one(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        hash: Option<u64>,
    ) -> Result<Verdict, DropReason> {
        let packet = match parse::frame(frame.bytes())? {
            Parsed::Ip(packet) => packet,
            Parsed::Arp(at) => return Ok(self.answer_arp(view, frame, at)),
            Parsed::Other => return Ok(Verdict::Host),
        };
        match packet.fragment {
            Fragment::Whole => self.whole(view, frame, packet, hash),
            Fragment::First { .. } => {
                let judged = self.whole(view, frame, packet, hash);
                if judged == Ok(Verdict::Host) {
                    self.remember_host_fragment(view, &packet);
                }
                judged
            }
            Fragment::Later { .. } => self.follow_fragment(view, frame, packet),
        }
    }

    /// A packet with its transport header.
    fn whole(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        mut packet: Packet,
        hash: Option<u64>,
    ) -> Result<Verdict, DropReason> {
        if matches!(packet.protocol, ip::ICMP | ip::ICMPV6) {
            return self.icmp(view, frame, packet);
        }
        if !packet.has_ports() {
            return Ok(Verdict::Host);
        }
        match self.find(&packet, hash, view) {
            Some((slot, Direction::Forward)) => self.client_packet(view, frame, &mut packet, slot),
            Some((slot, Direction::Reply)) => self.reply_packet(view, frame, &mut packet, slot),
            None => self.open(view, frame, packet),
        }
    }

    /// Counts a verdict, unless it is to send the frame: how many of those there are.
    fn count(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Send(_) => return 1,
            Verdict::Host | Verdict::Deliver => bump(&self.counters.host, 1),
            Verdict::Drop(reason) => self.count_drop(reason),
            Verdict::Consumed => {}
        }
        0
    }

    /// Counts packets that died after they were judged.
    pub fn count_drops(&self, reason: DropReason, many: u64) {
        self.counters.count_drops(reason, many);
    }

    /// Tells control something. `false` when it is too busy to hear.
    pub fn tell(&self, notice: Notice) -> bool {
        self.director.notify(notice)
    }

    fn count_drop(&self, reason: DropReason) {
        self.counters.count_drops(reason, 1);
    }

    /// Ends what has expired, spread over time, and takes up what waited for a next hop. Whether
    /// the sweep is behind and wants to be called again soon.
    pub fn expire(&mut self, view: View<'_>) -> bool {
        let director = view.director;
        director.connections().begin_batch(&self.owned);
        let settle = |slot| director.settle(slot);
        director.connections().sweep(
            &mut self.sweeper,
            &mut self.owned,
            director.reals(),
            view.now,
            settle,
        );
        self.retry_waiting(view);
        self.retry_held(view);
        self.sweeper.is_behind()
    }

    /// Entries are looked at from here on; those found before are not any more.
    pub fn begin(&self) {
        self.director.connections().begin_batch(&self.owned);
    }

    /// Whether this worker has said that it holds no entry.
    #[cfg(test)]
    pub fn is_resting(&self) -> bool {
        self.director.connections().is_resting(&self.owned)
    }

    /// The worker will wait for packets: it holds no entry until the next batch.
    pub fn rest(&self) {
        self.director.connections().rest(&self.owned);
    }

    /// A pseudo-random number (xorshift64*): for twos and for probing source ports, nothing secret.
    fn random(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

/// The tuple of a packet that has ports.
#[inline(always)]
fn tuple(packet: &Packet) -> Tuple {
    Tuple {
        protocol: packet.protocol,
        source: packet.source,
        source_port: packet.source_port,
        destination: packet.destination,
        destination_port: packet.destination_port,
        template: false,
    }
}
