//! Packets in and out: adverts, announcements, and word of changes.

use super::member::Member;
use super::{Actions, Running, Speaker};
use crate::vrrp::frame;
use crate::vrrp::fsm::{Action, Heard, Reason, State};
use crate::vrrp::garp::{self, ArpForm};
use crate::vrrp::group::Group;
use crate::vrrp::interfaces::Interface;
use crate::vrrp::packet::{self, GROUP_V4, GROUP_V6, Path, RESIGN, Reach, Rejected, TTL};
use crate::vrrp::status::{Change, InstanceStatus};
use crate::vrrp::task::{clock, wall_clock};
use dataplane::table::Family;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc::error::TrySendError;

/// Packets taken from one socket before the timers are looked at again.
const PACKETS_PER_TURN: usize = 64;
/// Announcements sent before adverts get their turn again.
const ANNOUNCEMENTS_PER_TURN: usize = 64;

impl Speaker {
    /// Reads what arrived on the link at `position` of [`Speaker::links`].
    pub fn receive(&mut self, position: usize, now: Instant) {
        let Some(key) = self.links.keys().nth(position).cloned() else { return };
        let Some(mut link) = self.links.remove(&key) else { return };
        for _ in 0..PACKETS_PER_TURN {
            let Some(received) = link.receive() else { break };
            // Nothing names an instance in a packet that is not VRRP; it is nobody's to count.
            let Ok(datagram) = received else { continue };
            self.hear(&key.0, key.1, &datagram, now);
        }
        self.links.insert(key, link);
    }

    fn hear(&mut self, interface: &str, family: Family, datagram: &packet::Datagram, now: Instant) {
        let Some(vrid) = datagram.vrid() else { return };
        let addressed = |member: &Member| {
            let instance = &member.instance;
            let format = &instance.format;
            instance.interface == interface && format.family() == family && format.vrid() == vrid
        };
        let found = self.groups.iter().enumerate().find_map(|(at, running)| {
            running.members.iter().position(addressed).map(|index| (at, index))
        });
        let Some((at, index)) = found else { return };
        let mut running = self.groups.swap_remove(at);
        let mut out = Vec::new();
        if let Some(member) = running.members.get_mut(index) {
            let differences = member.differences;
            match accept(member, datagram) {
                Ok(heard) => {
                    member.counters.adverts_received.fetch_add(1, Ordering::Relaxed);
                    let master = |group: &Group| group.get(index).and_then(|m| m.master().copied());
                    let before = master(&running.group);
                    running.group.advert(index, heard, now, &mut out);
                    self.dirty |= master(&running.group) != before;
                    self.dirty |= member.differences != differences;
                }
                Err(reason) => {
                    if reason == Rejected::ForeignAddresses {
                        let sender = Some(datagram.path.source);
                        self.dirty |= std::mem::replace(&mut member.foreign, sender) != sender;
                    }
                    // Readers of the status see the sender no later than the count.
                    member.counters.reject(reason);
                    tracing::trace!(instance = member.instance.name, %reason, "advert rejected");
                }
            }
        }
        self.carry_out(&mut running, out, now);
        self.groups.push(running);
    }

    /// Does everything that is due: adverts first, announcements and unsent changes after.
    pub fn timeout(&mut self, now: Instant) {
        self.with_groups(|speaker, running| {
            if running.group.deadline().is_some_and(|deadline| deadline <= now) {
                speaker.group_timeout(running, now);
            }
        });
        self.with_groups(|speaker, running| {
            for member in &mut running.members {
                speaker.announce(member);
                speaker.tell(member);
            }
        });
    }

    fn group_timeout(&mut self, running: &mut Running, now: Instant) {
        let due: Vec<Option<Instant>> = (0..running.members.len())
            .map(|index| running.group.get(index)?.advert_due().filter(|due| *due <= now))
            .collect();
        let mut out = Vec::new();
        running.group.timeout(now, &mut out);
        self.carry_out(running, out, now);
        let sent = clock();
        for ((index, due), member) in due.into_iter().enumerate().zip(&running.members) {
            let still = running.group.get(index).is_some_and(|m| m.state() == State::Master);
            if let Some(due) = due.filter(|_| still) {
                member.counters.jitter.record(sent.saturating_duration_since(due));
            }
        }
    }

    /// Carries out what the machines decided, in order.
    pub(super) fn carry_out(&mut self, running: &mut Running, actions: Actions, now: Instant) {
        for (index, action) in actions {
            let Some(member) = running.members.get_mut(index) else { continue };
            match action {
                Action::Advertise { priority } => self.advertise(member, priority),
                Action::Announce { rounds } => member.announcing = (rounds, 0),
                // The owner of the addresses learns both from the change of state.
                Action::TakeAddresses | Action::ReleaseAddresses => {}
                Action::Changed { from, to, reason } => {
                    self.changed(member, from, to, reason, now);
                }
            }
        }
    }

    fn changed(
        &mut self,
        member: &mut Member,
        from: State,
        to: State,
        reason: Reason,
        at: Instant,
    ) {
        tracing::info!(instance = member.instance.name, %from, %to, %reason, "VRRP");
        if to == State::Master {
            member.counters.became_master.fetch_add(1, Ordering::Relaxed);
        } else {
            member.announcing = (0, 0);
        }
        let instance = member.instance.name.clone();
        let faults = if to == State::Fault { member.faults.clone() } else { Vec::new() };
        let change = Change { instance, from, to, reason, faults, at };
        let first = member.untold.take().map_or(from, |untold| untold.from);
        member.untold = Some(Change { from: first, ..change.clone() });
        member.last_change = Some(change);
        self.dirty = true;
        self.tell(member);
    }

    /// Offers the newest change. While the receiver's queue is full the thread keeps one merged change per
    /// instance and tries again; nobody waits.
    fn tell(&mut self, member: &mut Member) {
        if let Some(change) = member.untold.take()
            && let Err(TrySendError::Full(change)) = self.changes.try_send(change)
        {
            member.untold = Some(change);
        }
    }

    fn advertise(&mut self, member: &mut Member, priority: u8) {
        let Some(source) = member.source else { return };
        let format = &member.instance.format;
        let mut message = format.message(priority);
        if let Some(authenticator) = &mut member.authenticator {
            authenticator.sign(format, source, &mut message, wall_clock());
        }
        let group = match format.family() {
            Family::V4 => IpAddr::V4(GROUP_V4),
            Family::V6 => IpAddr::V6(GROUP_V6),
        };
        let destinations = match &member.instance.reach {
            Reach::Multicast => std::slice::from_ref(&group),
            Reach::Unicast { peers, .. } => peers,
        };
        member.counters.adverts_sent.fetch_add(1, Ordering::Relaxed);
        if priority == RESIGN {
            member.counters.resignations_sent.fetch_add(1, Ordering::Relaxed);
        }
        for destination in destinations.iter().filter(|destination| **destination != source) {
            let path = Path { source, destination: *destination };
            format.seal(&mut message, &path);
            self.identification = self.identification.checked_add(1).unwrap_or(1);
            if let Err(error) = self.send(member, &path, &message) {
                member.counters.send_errors.fetch_add(1, Ordering::Relaxed);
                tracing::trace!(instance = member.instance.name, %error, "advertisement not sent");
            }
        }
    }

    /// A multicast leaves from the virtual MAC as a frame; a unicast needs the kernel's routes and
    /// neighbours and leaves from the interface's own MAC.
    fn send(&self, member: &Member, path: &Path, message: &[u8]) -> io::Result<()> {
        let missing = || io::Error::from(io::ErrorKind::NotConnected);
        let instance = &member.instance;
        let packet =
            frame::ip_packet(path, TTL, self.identification, message).ok_or_else(missing)?;
        match instance.mac() {
            Some(mac) if path.destination.is_multicast() => {
                let interface = self.interfaces.get(&instance.interface).ok_or_else(missing)?;
                let frame = frame::ethernet(mac, frame::group_mac(path.destination), &packet);
                self.frames.send(interface, &frame)
            }
            Some(_) | None => {
                let key = (instance.interface.clone(), instance.format.family());
                self.links.get(&key).ok_or_else(missing)?.send(&packet, path.destination)
            }
        }
    }

    /// Sends the next few announcements of an instance.
    fn announce(&self, member: &mut Member) {
        let owned: Vec<(IpAddr, &str)> = member.instance.owned().collect();
        for _ in 0..ANNOUNCEMENTS_PER_TURN {
            let (rounds, next) = member.announcing;
            if rounds == 0 {
                return;
            }
            member.announcing = match owned.get(next) {
                Some((address, interface)) => {
                    self.announce_one(member, *address, interface);
                    (rounds, next + 1)
                }
                None => (rounds - 1, 0),
            };
        }
    }

    fn announce_one(&self, member: &Member, address: IpAddr, interface: &str) {
        let Some(interface) = self.interfaces.get(interface) else { return };
        let instance = &member.instance;
        let mac = instance.mac().unwrap_or_else(|| interface.mac());
        let forms: &[ArpForm] = match address {
            IpAddr::V4(_) if instance.arp_replies => &[ArpForm::Request, ArpForm::Reply],
            IpAddr::V4(_) | IpAddr::V6(_) => &[ArpForm::Request],
        };
        for form in forms {
            let frame = garp::announcement(address, mac, *form, instance.router);
            let counter = match self.frames.send(interface, &frame) {
                Ok(()) => &member.counters.announcements_sent,
                Err(_) => &member.counters.send_errors,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All instances as they stand, by name.
    pub fn status(&self) -> Vec<InstanceStatus> {
        let mut all = Vec::new();
        for running in &self.groups {
            for (index, member) in running.members.iter().enumerate() {
                let own = self.interfaces.get(&member.instance.interface).map(Interface::mac);
                all.extend(running.group.get(index).map(|machine| member.status(machine, own)));
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// Judges a packet for an instance; warns when the two sides are configured differently.
fn accept(member: &mut Member, datagram: &packet::Datagram) -> Result<Heard, Rejected> {
    let instance = &member.instance;
    let parsed = packet::parse(datagram, &instance.format, &instance.reach)?;
    // Before the HMAC, which another cluster does not know: operators have to hear of it all the same.
    if parsed.is_foreign {
        return Err(Rejected::ForeignAddresses);
    }
    match &mut member.authenticator {
        Some(authenticator) => authenticator.verify(
            &instance.format,
            &datagram.path,
            parsed.message,
            parsed.trailer,
            wall_clock(),
        )?,
        // A plain receiver sees a message that is too long, as keepalived does.
        None if parsed.trailer.is_some() => return Err(Rejected::Length),
        None => {}
    }
    if parsed.differences != member.differences {
        member.differences = parsed.differences;
        let packet::Differences { addresses, interval, checksum } = parsed.differences;
        if addresses || interval || checksum {
            let (name, from) = (&instance.name, parsed.advert.source);
            tracing::warn!(name, %from, addresses, interval, checksum, "VRRP peer differs");
        }
    }
    let packet::Advert { priority, interval, source } = parsed.advert;
    Ok(Heard { priority, interval, source })
}
