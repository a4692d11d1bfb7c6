//! One worker's loop.

use super::clock;
use super::mailbox::{Command, Mailbox};
use super::rank::Rank;
use super::waiting::Waiting;
use crate::frame::{BATCH, Batch};
use crate::io::{Port, Receive, Sent, Transmit};
use crate::packet_path::{DropReason, Notice, PacketPath, Verdict, Verdicts, View};
use crate::table::PortId;
use arrayvec::ArrayVec;
use std::sync::Arc;

/// How long an idle worker waits before it looks at its timers.
const IDLE_MILLISECONDS: u16 = 20;
/// Every how many turns a receiver that has to be asked by a system call is asked while others keep
/// the worker busy.
const ASK_EVERY: u32 = 16;
/// Every how many turns transmitters are asked for buffers of frames that have left.
const RECLAIM_EVERY: u32 = 16;
/// Interfaces that one worker can serve; with a larger port number than that none is.
pub const MOST_PORTS: usize = 64;

/// A worker's queues, by port. Receivers and transmitters are apart, because frames stay borrowed
/// from one while they are handed to the other.
#[derive(Default)]
struct Ports {
    ids: Vec<PortId>,
    /// Which attachment of its port each is.
    editions: Vec<u64>,
    receivers: Vec<Box<dyn Receive>>,
    transmitters: Vec<Box<dyn Transmit>>,
    hosts: Vec<(Box<dyn Transmit>, bool)>,
    /// Whether a look at the receiver may find something; always true where looking costs nothing.
    ready: Vec<bool>,
}

impl Ports {
    fn add(&mut self, id: PortId, edition: u64, port: Port, waiting: &Waiting) {
        self.remove(id, waiting);
        if self.ids.len() < MOST_PORTS {
            waiting.add(id, port.receive.as_ref());
            self.ids.push(id);
            self.editions.push(edition);
            self.ready.push(true);
            self.receivers.push(port.receive);
            self.transmitters.push(port.transmit);
            self.hosts.push((port.host, port.withheld));
        }
    }

    fn remove(&mut self, id: PortId, waiting: &Waiting) {
        if let Some(index) = self.position(id) {
            self.ids.remove(index);
            self.editions.remove(index);
            self.ready.remove(index);
            waiting.remove(self.receivers[index].as_ref());
            drop(self.receivers.remove(index));
            drop(self.transmitters.remove(index));
            drop(self.hosts.remove(index));
        }
    }

    fn position(&self, id: PortId) -> Option<usize> {
        self.ids.iter().position(|known| *known == id)
    }

    fn is_due(&self, index: usize, turns: u32) -> bool {
        self.ready.get(index).is_some_and(|ready| *ready) || turns.is_multiple_of(ASK_EVERY)
    }

    /// Takes back buffers of frames that have left, also where nothing more is sent.
    fn reclaim(&mut self) {
        self.transmitters.iter_mut().for_each(|transmitter| transmitter.reclaim());
    }

    /// A receiver had nothing.
    fn found_empty(&mut self, index: usize) {
        if let (Some(ready), Some(receiver)) =
            (self.ready.get_mut(index), self.receivers.get(index))
        {
            *ready = !receiver.asks_kernel();
        }
    }
}

/// What one look at a port brought.
#[derive(Default)]
struct Served {
    frames: usize,
    /// Lost before, for want of room.
    missed: u64,
}

pub(super) struct Worker {
    path: PacketPath,
    mailbox: Arc<Mailbox>,
    ports: Ports,
    waiting: Waiting,
    /// Ports that were lost and of which control does not know yet. Control is told again with every
    /// turn until its channel has room.
    lost: Vec<(PortId, u64)>,
    turns: u32,
}

impl Worker {
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(path: PacketPath, mailbox: Arc<Mailbox>) -> std::io::Result<Self> {
        let waiting = Waiting::new(&mailbox)?;
        Ok(Self { path, mailbox, ports: Ports::default(), waiting, lost: Vec::new(), turns: 0 })
    }

    /// Turns until told to stop.
    pub fn run(mut self) {
        let mut rank = Rank::new(clock::now());
        loop {
            if self.mailbox.is_waiting() && !self.obey() {
                return;
            }
            if !self.turn(&mut rank) {
                self.wait();
            }
        }
    }

    /// Carries out what control asked for. `false` to stop.
    fn obey(&mut self) -> bool {
        // Some look at entries, and the worker may have rested.
        self.path.begin();
        for command in self.mailbox.take() {
            match command {
                Command::Attach(id, edition, port) => {
                    self.ports.add(id, edition, *port, &self.waiting);
                }
                Command::Detach(id, done) => {
                    self.ports.remove(id, &self.waiting);
                    // Control may have lost its patience.
                    let _ = done.try_send(());
                }
                Command::End(meant) => {
                    let (director, now) = (self.path.director(), clock::now());
                    for connection in &meant {
                        director.end_meant(connection, now);
                    }
                }
                Command::Doom(meant) => {
                    let (director, now) = (self.path.director(), clock::now());
                    meant.iter().for_each(|connection| director.doom(connection, now));
                }
                Command::Stop => return false,
            }
        }
        true
    }

    /// One look at every port. Whether there was anything to do.
    fn turn(&mut self, rank: &mut Rank) -> bool {
        let director = Arc::clone(self.path.director());
        let (table, hops) = (director.table(), director.hops());
        let view = View { director: &director, table: &table, hops: &hops, now: clock::now() };
        let (mut busy, mut full, mut missed) = (false, false, 0);
        let mut lost = None;
        self.turns = self.turns.wrapping_add(1);
        for index in 0..self.ports.ids.len() {
            if !self.ports.is_due(index, self.turns) {
                continue;
            }
            match self.serve(index, view) {
                Ok(served) => {
                    missed += served.missed;
                    full |= served.frames == BATCH;
                    if served.frames == 0 {
                        self.ports.found_empty(index);
                    } else {
                        busy = true;
                    }
                }
                Err(error) => {
                    tracing::warn!(port = ?self.ports.ids.get(index), %error, "port lost");
                    lost = Some(index);
                }
            }
        }
        rank.look(full, missed > 0, view.now);
        if missed > 0 {
            self.path.count_drops(DropReason::ReceiveQueueFull, missed);
        }
        if self.turns.is_multiple_of(RECLAIM_EVERY) {
            self.ports.reclaim();
        }
        busy |= self.path.expire(view);
        self.send_outbox();
        if let Some(index) = lost {
            self.lose(index);
        }
        let Self { lost, path, .. } = self;
        lost.retain(|(port, edition)| {
            !path.tell(Notice::PortLost { port: *port, edition: *edition })
        });
        busy
    }

    /// Closes a port that failed. Others that failed in the same turn fail in the next one.
    fn lose(&mut self, index: usize) {
        let port = self.ports.ids.get(index).zip(self.ports.editions.get(index));
        let Some((id, edition)) = port.map(|(id, edition)| (*id, *edition)) else { return };
        self.ports.remove(id, &self.waiting);
        self.lost.push((id, edition));
    }

    /// Receives a batch from one port, judges it and sends it on.
    fn serve(&mut self, index: usize, view: View<'_>) -> std::io::Result<Served> {
        let Ports { ids, receivers, transmitters, hosts, .. } = &mut self.ports;
        let mut served = Served::default();
        let Some(receiver) = receivers.get_mut(index) else { return Ok(served) };
        let mut batch = Batch::new();
        receiver.receive(&mut batch)?;
        served.frames = batch.len();
        if batch.is_empty() {
            drop(batch);
            served.missed = receiver.missed();
            return Ok(served);
        }
        let mut verdicts = Verdicts::new();
        self.path.process(view, &mut batch, &mut verdicts);
        let mut sent = Sent::default();
        let mut left = !0u64;
        for (at, verdict) in verdicts.iter().enumerate() {
            let Verdict::Send(port) = *verdict else { continue };
            if left & 1 << at == 0 {
                continue;
            }
            let same = selected(&verdicts, |v| *v == Verdict::Send(port));
            left &= !same;
            match ids.iter().position(|id| *id == port).and_then(|i| transmitters.get_mut(i)) {
                Some(transmitter) => add(&mut sent, same, transmitter.send(&mut batch, same)),
                None => sent.refused |= same,
            }
        }
        if let Some((host, withheld)) = hosts.get_mut(index) {
            let withheld = *withheld;
            let delivered =
                selected(&verdicts, |v| *v == Verdict::Deliver || withheld && *v == Verdict::Host);
            if delivered != 0 {
                add(&mut sent, delivered, host.send(&mut batch, delivered));
            }
        }
        drop(batch);
        if let Some(receiver) = receivers.get_mut(index) {
            receiver.release(sent.kept);
            served.missed = receiver.missed();
        }
        self.path.count_unsent(sent);
        Ok(served)
    }

    /// Sends what the packet path made itself.
    fn send_outbox(&mut self) {
        if self.path.outbox.is_empty() {
            return;
        }
        let Ports { ids, transmitters, hosts, .. } = &mut self.ports;
        let mut sent = Sent::default();
        for chunk in self.path.outbox.ready().chunks_mut(BATCH) {
            let judged: ArrayVec<(Option<PortId>, Option<Verdict>), BATCH> =
                chunk.iter().map(|own| (own.port, own.verdict)).collect();
            let mut batch: Batch<'_> = chunk.iter_mut().map(|own| own.frame()).collect();
            for (index, id) in ids.iter().enumerate() {
                let mask = |wanted: Verdict| {
                    judged.iter().enumerate().fold(0, |mask, (at, (port, verdict))| {
                        let same = *port == Some(*id) && *verdict == Some(wanted);
                        mask | u64::from(same) << at
                    })
                };
                let (out, up) = (mask(Verdict::Send(*id)), mask(Verdict::Deliver));
                let given_back = mask(Verdict::Host);
                if let Some(transmitter) = transmitters.get_mut(index)
                    && out != 0
                {
                    add(&mut sent, out, transmitter.send(&mut batch, out));
                }
                if let Some((host, withheld)) = hosts.get_mut(index) {
                    let up = if *withheld { up | given_back } else { up };
                    if up != 0 {
                        add(&mut sent, up, host.send(&mut batch, up));
                    }
                }
            }
        }
        self.path.outbox.clear();
        self.path.count_unsent(sent);
    }

    /// Waits for a frame, a command or the next look at the timers.
    fn wait(&mut self) {
        self.path.rest();
        self.ports.reclaim();
        let Ports { ids, ready, .. } = &mut self.ports;
        let rang = self.waiting.wait(IDLE_MILLISECONDS, |id| {
            let place = ids.iter().position(|known| *known == id);
            if let Some(ready) = place.and_then(|index| ready.get_mut(index)) {
                *ready = true;
            }
        });
        if rang {
            self.mailbox.awake();
        }
    }
}

/// The frames whose verdict is wanted, one bit each.
#[inline]
fn selected(verdicts: &[Verdict], wanted: impl Fn(&Verdict) -> bool) -> u64 {
    verdicts.iter().enumerate().fold(0, |mask, (at, v)| mask | u64::from(wanted(v)) << at)
}

/// Adds what one transmitter did with the frames `given`. One that failed altogether has refused
/// them all; its receiver will report the loss of the port.
fn add(total: &mut Sent, given: u64, result: std::io::Result<Sent>) {
    let sent = result.unwrap_or(Sent { refused: given, ..Sent::default() });
    total.kept |= sent.kept;
    total.full |= sent.full;
    total.refused |= sent.refused;
}

impl PacketPath {
    /// Counts frames that did not leave after all.
    fn count_unsent(&self, sent: Sent) {
        self.count_drops(DropReason::TransmitQueueFull, sent.full.count_ones().into());
        self.count_drops(DropReason::TransmitError, sent.refused.count_ones().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet_path::tests::fixture::Network;

    #[test]
    fn commands_are_carried_out_by_a_worker_that_does_not_rest() {
        let net = Network::new(vec![]);
        let mut worker = Worker::new(net.path, Arc::new(Mailbox::new().unwrap())).unwrap();
        worker.mailbox.send(Command::End(vec![]));
        worker.wait();
        assert!(worker.path.is_resting());
        assert!(worker.obey() && !worker.path.is_resting());
    }
}
