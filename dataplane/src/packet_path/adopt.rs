//! Connections that a peer tells of: as if this director had opened them itself.
//!
//! The adopter is one more owner of slots in the connection table, without packets: what it takes in
//! never waits for a worker, and no worker waits for it.

use super::client_address::Announcement;
use super::connections::{
    ConnectionInfo, Direction, Flags, Meta, NewConnection, NotInserted, Owned, Slot, Sweeper,
    Tuple, Via,
};
use super::ftp::{self, Session};
use super::persistence::{mark_of, template_key};
use super::schedule::Flow;
use super::sequence::Shifts;
use super::{Address, Director, PacketPath};
use crate::table::{Family, Protocol, Real, Service, ServiceKey, ServiceTable};
use crate::tick::{Tick, Ticks};
use crate::wire::ip;
use std::net::IpAddr;
use std::sync::Arc;

/// Flags that one director may set on another's connections.
const TOLD: [Flags; 5] =
    [Flags::NO_OUTPUT, Flags::INACTIVE, Flags::TEMPLATE, Flags::NO_CLIENT_PORT, Flags::ASSURED];

/// A connection or template as another director has it, by address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// What it is found by: protocol, client, VIP.
    pub tuple: Tuple,
    /// The real server's address.
    pub real: IpAddr,
    /// Port on the real server.
    pub real_port: u16,
    /// Forwarding method.
    pub via: Via,
    /// Full NAT: source address and port towards the real server.
    pub local: Option<(IpAddr, u16)>,
    /// State number, by protocol.
    pub state: u8,
    /// Flags; only those that are the same on every director count.
    pub flags: Flags,
    /// Lifetime after each packet.
    pub timeout: Ticks,
    /// Time left.
    pub remaining: Ticks,
    /// How its sequence numbers are shifted, if they are.
    pub shifts: Option<Shifts>,
}

impl Told {
    /// A connection of this director.
    pub fn of(director: &Director, info: &ConnectionInfo) -> Self {
        Self { shifts: director.shifts(info), ..Self::from(info) }
    }
}

impl Director {
    /// How the sequence numbers of a connection are shifted, if they are.
    pub fn shifts(&self, info: &ConnectionInfo) -> Option<Shifts> {
        if !info.meta.flags.has(Flags::SHIFTED) {
            return None;
        }
        let shifts = if PacketPath::is_ftp(info.meta, info.virtual_port) {
            self.ftp().get(&info.slot)?.shifts()
        } else {
            let inbound = self.announcements().get(&info.slot)?.shift();
            Shifts { inbound, ..Shifts::default() }
        };
        (!shifts.is_none()).then_some(shifts)
    }

    /// Goes on with the shifts that another director began.
    fn resume_shifts(&self, slot: Slot, shifts: Shifts) {
        let entry = self.connections().entry(slot);
        let (meta, [_, virtual_port, ..]) = (entry.meta(), entry.ports());
        if PacketPath::is_ftp(meta, virtual_port) {
            self.ftp().insert(slot, Session::resumed(shifts));
        } else if meta.protocol == ip::TCP && meta.via == Via::FullNat {
            self.announcements().insert(slot, Announcement::resumed(shifts.inbound));
        } else {
            return;
        }
        self.mark_shifted(slot);
    }
}

impl From<&ConnectionInfo> for Told {
    fn from(info: &ConnectionInfo) -> Self {
        Self {
            tuple: Tuple {
                protocol: info.meta.protocol,
                template: info.meta.flags.has(Flags::TEMPLATE),
                source: info.client,
                source_port: info.client_port,
                destination: info.virtual_address,
                destination_port: info.virtual_port,
            },
            real: info.real_address.ip(),
            real_port: info.real_port,
            via: info.meta.via,
            local: info.local.map(|(address, port)| (address.ip(), port)),
            state: info.meta.state,
            flags: allowed(info.meta.flags),
            timeout: info.timeout,
            remaining: info.remaining,
            shifts: None,
        }
    }
}

/// Why a connection was not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAdopted {
    /// This director has no such service.
    NoService,
    /// The service has no such real server here.
    NoReal,
    /// Full NAT from an address that is not this director's.
    NotOurSource,
    /// This director is master and knows better.
    Master,
    /// Its reply's tuple belongs to another connection.
    TupleInUse,
    /// The table is full.
    TableFull,
}

/// Owner of the connections that a peer told of.
#[derive(Debug)]
pub struct Adopter {
    director: Arc<Director>,
    owned: Owned,
    sweeper: Sweeper,
}

impl Adopter {
    /// The adopter of a director with so many workers. There is one.
    pub fn new(director: Arc<Director>, workers: usize) -> Self {
        let owned = director.connections().owned(workers);
        Self { director, owned, sweeper: Sweeper::default() }
    }

    /// Entries are looked at from here on; see
    /// [`Connections::begin_batch`](super::connections::Connections::begin_batch).
    pub fn begin(&mut self) {
        self.director.connections().begin_batch(&self.owned);
    }

    /// No entry is held any more. Free slots are for the workers, too.
    pub fn rest(&mut self) {
        self.director.connections().give_back(&mut self.owned);
        self.director.connections().rest(&self.owned);
    }

    /// Ends what has expired of what was taken in. To be called many times a second.
    pub fn expire(&mut self, now: Tick) {
        let director = &self.director;
        let settle = |slot| director.settle(slot);
        let reals = director.reals();
        director.connections().sweep(&mut self.sweeper, &mut self.owned, reals, now, settle);
    }

    /// Takes a connection in, or brings it up to date. The slot that it is in.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn adopt(&mut self, told: &Told, now: Tick) -> Result<Slot, NotAdopted> {
        self.take(told, false, now)
    }

    /// As [`Adopter::adopt`], but also what this director is master of, as the kernel's sync daemon
    /// does, which knows no masters.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn adopt_always(&mut self, told: &Told, now: Tick) -> Result<Slot, NotAdopted> {
        self.take(told, true, now)
    }

    fn take(&mut self, told: &Told, always: bool, now: Tick) -> Result<Slot, NotAdopted> {
        let table = Arc::clone(&self.director.table());
        let service = service_of(&table, &told.tuple).ok_or(NotAdopted::NoService)?;
        let real = real_of(service, told).ok_or(NotAdopted::NoReal)?;
        let known = self.find(&told.tuple, told.flags);
        if let Some(slot) = known {
            let entry = self.director.connections().entry(slot);
            if !always && table.real(entry.real()).is_some() {
                return Err(NotAdopted::Master);
            }
            let [_, _, real_port, _] = entry.ports();
            if entry.real() == real.id && real_port == told.real_port {
                self.update(slot, told, now);
                self.resume(slot, told);
                return Ok(slot);
            }
            self.director.end(slot, now);
        }
        let slot = self.insert(told, service, real, now)?;
        self.resume(slot, told);
        Ok(slot)
    }

    fn resume(&self, slot: Slot, told: &Told) {
        if let Some(shifts) = told.shifts {
            self.director.resume_shifts(slot, shifts);
        }
    }

    /// Ends a connection that the peer has ended, unless this director is its master.
    pub fn close(&mut self, tuple: &Tuple, template: bool, now: Tick) {
        let flags = if template { Flags::TEMPLATE } else { Flags::default() };
        let Some(slot) = self.find(tuple, flags) else { return };
        self.forget(slot, now);
    }

    /// Ends a connection in a slot if a peer told of it and this director is not its master.
    pub fn forget(&mut self, slot: Slot, now: Tick) {
        let entry = self.director.connections().entry(slot);
        let ours = self.director.table().real(entry.real()).is_some();
        if !ours && entry.meta().flags.has(Flags::SYNCED) {
            self.director.end(slot, now);
        }
    }

    fn find(&self, tuple: &Tuple, flags: Flags) -> Option<Slot> {
        let connections = self.director.connections();
        let hash = connections.hash(tuple);
        let (slot, direction) = connections.find(tuple, hash, self.director.reals())?;
        let is_template = connections.entry(slot).meta().flags.has(Flags::TEMPLATE);
        let same = direction == Direction::Forward && is_template == flags.has(Flags::TEMPLATE);
        same.then_some(slot)
    }

    fn update(&self, slot: Slot, told: &Told, now: Tick) {
        let connections = self.director.connections();
        let entry = connections.entry(slot);
        let before = entry.update_meta(|meta| {
            let kept = TOLD.iter().fold(meta.flags, |flags, flag| flags.without(*flag));
            // From now on it is the peer's, whoever opened it.
            let flags = Flags(kept.0 | allowed(told.flags).with(Flags::SYNCED).0);
            (!meta.flags.has(Flags::DEAD)).then_some(Meta { state: told.state, flags, ..meta })
        });
        let Ok(before) = before else { return };
        let (was, is) = (!before.flags.has(Flags::INACTIVE), !told.flags.has(Flags::INACTIVE));
        if was != is && !told.flags.has(Flags::TEMPLATE) {
            self.director.reals().shift(entry.real(), is);
        }
        self.set_timer(slot, told, now);
    }

    fn set_timer(&self, slot: Slot, told: &Told, now: Tick) {
        let connections = self.director.connections();
        let entry = connections.entry(slot);
        entry.set_timer(now, told.timeout);
        entry.set_expiry(now.after(told.remaining));
        connections.wake_by(slot, now.after(told.remaining));
    }

    fn insert(
        &mut self,
        told: &Told,
        service: &Service,
        real: &Real,
        now: Tick,
    ) -> Result<Slot, NotAdopted> {
        let (local_address, local_port) = match (told.via, told.local) {
            (Via::FullNat, Some((address, port))) => (Address::from(address), port),
            (Via::FullNat, None) => return Err(NotAdopted::NotOurSource),
            (Via::Nat | Via::Local | Via::Tunnel | Via::DirectRouting, _) => (Address(0), 0),
        };
        let local = match told.via {
            Via::FullNat => {
                let number = self.director.reals().sources().find(local_address);
                number.ok_or(NotAdopted::NotOurSource)?
            }
            Via::Nat | Via::Local | Via::Tunnel | Via::DirectRouting => 0,
        };
        let is_template = told.flags.has(Flags::TEMPLATE);
        let control = if is_template { None } else { self.template_of(service, &told.tuple) };
        let new = NewConnection {
            protocol: told.tuple.protocol,
            client: told.tuple.source,
            client_port: told.tuple.source_port,
            virtual_address: told.tuple.destination,
            virtual_port: told.tuple.destination_port,
            real: real.id,
            real_address: real.address.into(),
            real_port: told.real_port,
            via: told.via,
            local,
            local_address,
            local_port,
            state: told.state,
            flags: allowed(told.flags).with(Flags::SYNCED),
            control,
            peer: 0,
            timeout: told.timeout,
        };
        let slot = self.store(&new, now)?;
        self.set_timer(slot, told, now);
        Ok(slot)
    }

    fn store(&mut self, new: &NewConnection, now: Tick) -> Result<Slot, NotAdopted> {
        let director = &self.director;
        let stored = match director.store(&mut self.owned, new, now) {
            // The real server's port is in use by a connection that the peer no longer has.
            Err(NotInserted::ReplyExists(other)) => {
                let entry = director.connections().entry(other);
                if director.table().real(entry.real()).is_some() {
                    return Err(NotAdopted::TupleInUse);
                }
                director.end(other, now);
                director.store(&mut self.owned, new, now)
            }
            stored => stored,
        };
        stored.map_err(|refused| match refused {
            NotInserted::Exists(_) | NotInserted::ReplyExists(_) => NotAdopted::TupleInUse,
            NotInserted::NoSource => NotAdopted::NotOurSource,
            NotInserted::Full => NotAdopted::TableFull,
        })
    }

    /// The template that a persistent service has for the connection's client.
    fn template_of(&self, service: &Service, tuple: &Tuple) -> Option<Slot> {
        let flow = Flow {
            protocol: Protocol::from_number(tuple.protocol)?,
            client: tuple.source.ip(),
            client_port: tuple.source_port,
            destination: tuple.destination.ip(),
            destination_port: tuple.destination_port,
        };
        let (key, _) = template_key(service, service.persistence?, &flow);
        self.find(&key, Flags::TEMPLATE)
    }
}

fn allowed(flags: Flags) -> Flags {
    TOLD.iter().filter(|flag| flags.has(**flag)).fold(Flags::default(), |all, flag| all.with(*flag))
}

fn service_of<'a>(table: &'a ServiceTable, tuple: &Tuple) -> Option<&'a Service> {
    let (source, destination) = (tuple.source.ip(), tuple.destination.ip());
    let found = match Protocol::from_number(tuple.protocol) {
        Some(protocol) => table.lookup(protocol, &source, &destination, tuple.destination_port)?,
        None => {
            let family = Family::of(&source);
            let mark = mark_of(family, tuple.destination)?;
            table.by_key(&ServiceKey::Mark { family, mark })?
        }
    };
    Some(found)
}

fn real_of<'a>(service: &'a Service, told: &Told) -> Option<&'a Real> {
    let mut same = service.reals.iter().filter(|real| real.address == told.real);
    let first = same.next()?;
    // An FTP server names the ports of data connections as it likes.
    let is_data = service.key.port() == ftp::CONTROL && told.tuple.destination_port != ftp::CONTROL;
    // Several servers on one address differ by port; one without a port takes them all.
    std::iter::once(first).chain(same).find(|real| {
        is_data || real.port == told.real_port || real.port == 0 || told.real_port == 0
    })
}

#[cfg(test)]
mod tests;
