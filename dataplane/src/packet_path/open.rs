//! Packets that belong to no connection: which of them open one, and to which real server.

use super::connections::{Flags, NewConnection, NotInserted, Slot, Via};
use super::known::Course;
use super::parse::Packet;
use super::schedule::Flow;
use super::states;
use super::{Address, DropReason, Frame, PacketPath, Verdict, View};
use crate::table::{ClientAddress, Method, Protocol, Real, Service};
use crate::tick::Ticks;
use crate::wire::ip;
use crate::wire::transport::{sctp, tcp};
use arrayvec::ArrayVec;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};

/// Lifetime of a connection until its first packet has moved its state (IPVS).
const FIRST_TIMEOUT: Ticks = Ticks::from_secs(3);
/// Source ports tried before full NAT gives up on an address.
const PORTS_TRIED: u32 = 64;
/// Ports that full NAT uses of an address that is the host's own: above what Linux gives to its own
/// connections (`ip_local_port_range`).
pub const RESERVED_PORTS: RangeInclusive<u16> = 61_000..=65_535;
/// Ports that full NAT uses of an address from a service's own pool.
pub const POOL_PORTS: RangeInclusive<u16> = 1_024..=65_535;
/// FTP servers connect from here; such packets never open connections (IPVS).
const FTP_DATA: u16 = 20;

impl PacketPath {
    /// A packet without a connection.
    pub(super) fn open(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        mut packet: Packet,
    ) -> Result<Verdict, DropReason> {
        let Some(protocol) = Protocol::from_number(packet.protocol) else {
            return Ok(Verdict::Host);
        };
        if view.table.is_silent(&packet.destination.ip()) {
            return Err(DropReason::NotMaster);
        }
        let service = view.table.lookup(
            protocol,
            &packet.source.ip(),
            &packet.destination.ip(),
            packet.destination_port,
        );
        let Some(service) = service.map(Arc::clone) else {
            return self.stray(view, frame, packet);
        };
        let tunables = &view.table.tunables;
        let opens =
            states::opens(packet.protocol, packet.flags, tunables.sloppy_tcp, tunables.sloppy_sctp);
        if !opens || packet.source_port == FTP_DATA {
            return self.refuse_segment(view, frame, &packet);
        }
        let flow = Flow {
            protocol,
            client: packet.source.ip(),
            client_port: packet.source_port,
            destination: packet.destination.ip(),
            destination_port: packet.destination_port,
        };
        let chosen = match service.persistence {
            Some(persistence) => self.choose_persistent(view, &service, persistence, &flow),
            None => self
                .schedule(view, &service, &flow)
                .map(|real| (real, own_port_or(real, packet.destination_port), None)),
        };
        let Some((real, real_port, template)) = chosen else {
            return self.without_real(view, frame, &packet, &service);
        };
        self.counters.count_connection(real.id);
        if service.one_packet && packet.protocol == ip::UDP {
            let via = via(real.method);
            let course = Course { real, real_port, via, local: None };
            return self.send_to_real(view, frame, &mut packet, course, None);
        }
        let slot = self.connect(view, frame, &packet, &service, (real, real_port), template)?;
        self.client_packet(view, frame, &mut packet, slot)
    }

    /// A packet that no service wants. With `nat_icmp_send` a real server that goes on sending for a
    /// connection that is no more is told so, as long as the packet itself is no such notice.
    fn stray(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: Packet,
    ) -> Result<Verdict, DropReason> {
        let ends = match packet.protocol {
            ip::TCP => packet.flags & tcp::RST != 0,
            ip::SCTP => packet.flags == sctp::ABORT,
            _ => false,
        };
        let tell = view.table.tunables.nat_icmp_send
            && !ends
            && view.table.is_nat_real(&packet.source.ip(), packet.source_port);
        if tell {
            return self.port_unreachable(view, frame, &packet, DropReason::NoConnection);
        }
        Ok(Verdict::Host)
    }

    /// Asks the service's scheduler.
    pub(super) fn schedule<'a>(
        &mut self,
        view: View<'_>,
        service: &'a Service,
        flow: &Flow,
    ) -> Option<&'a Real> {
        let scheduler = view.director.scheduler(service.id)?;
        let loads = view.director.reals();
        let mut state = scheduler.lock().unwrap_or_else(PoisonError::into_inner);
        let index =
            state.as_mut()?.choose(service, loads, flow, view.now, &mut || self.random())?;
        service.reals.get(index)
    }

    /// Stores the connection.
    fn connect(
        &mut self,
        view: View<'_>,
        frame: &Frame<'_>,
        packet: &Packet,
        service: &Service,
        (real, real_port): (&Real, u16),
        template: Option<Slot>,
    ) -> Result<Slot, DropReason> {
        let via = if Self::breaks_without_source(view, packet.source, real) {
            Via::FullNat
        } else {
            via(real.method)
        };
        let mut flags = Flags::INACTIVE;
        if !via.rewrites_replies() {
            flags = flags.with(Flags::NO_OUTPUT);
        }
        // What a flood forges, and what the real server is told about.
        let marks = matches!(service.client_address, ClientAddress::TcpOption(_));
        if packet.protocol == ip::UDP || via == Via::FullNat && marks {
            flags = flags.with(Flags::YOUNG);
        }
        let peer = if service.return_by_mac { self.peer_of(view, frame) } else { 0 };
        let new = NewConnection {
            protocol: packet.protocol,
            client: packet.source,
            client_port: packet.source_port,
            virtual_address: packet.destination,
            virtual_port: packet.destination_port,
            real: real.id,
            real_address: real.address.into(),
            real_port,
            via,
            local: 0,
            local_address: Address(0),
            local_port: 0,
            state: 0,
            flags,
            control: template,
            peer,
            timeout: FIRST_TIMEOUT,
        };
        if via == Via::FullNat {
            self.insert_with_source(view, service, real, new)
        } else {
            self.insert(view, &new)
        }
    }

    /// Whether replies would miss the director if the real server saw the client's own address: the
    /// client is the director, or the real server itself, or lives on the real server's link.
    pub(super) fn breaks_without_source(view: View<'_>, client: Address, real: &Real) -> bool {
        match real.method {
            Method::FullNat => return true,
            Method::Nat | Method::Local => {}
            Method::DirectRouting | Method::Tunnel(_) => return false,
        }
        let (client, hops) = (client.ip(), view.hops);
        if client == real.address || hops.is_local(&client) || hops.is_local(&real.address) {
            return true;
        }
        let real_link = hops.link_of(&real.address);
        real_link.is_some() && real_link == hops.link_of(&client)
    }

    /// Stores a connection under the first free source address and port.
    fn insert_with_source(
        &mut self,
        view: View<'_>,
        service: &Service,
        real: &Real,
        new: NewConnection,
    ) -> Result<Slot, DropReason> {
        let sources = sources(view, service, real);
        let mut missing = sources.is_empty();
        for (address, ports) in sources {
            let Some(local) = view.director.reals().sources().find(address.into()) else {
                missing = true;
                continue;
            };
            let count = u32::from(*ports.end() - *ports.start()) + 1;
            let start = self.random() % count;
            for step in 0..PORTS_TRIED.min(count) {
                let offset = u16::try_from((start + step) % count).unwrap_or(0);
                let local_port = ports.start() + offset;
                let new = NewConnection { local, local_address: address.into(), local_port, ..new };
                match self.try_insert(view, &new) {
                    Ok(slot) | Err(NotInserted::Exists(slot)) => return Ok(slot),
                    Err(NotInserted::ReplyExists(_)) => {}
                    Err(NotInserted::Full) => return Err(DropReason::TableFull),
                    Err(NotInserted::NoSource) => {
                        missing = true;
                        break;
                    }
                }
            }
        }
        Err(if missing { DropReason::NoSourceAddress } else { DropReason::NoSourcePort })
    }

    /// Stores a connection, shedding lesser ones when the table is full.
    pub(super) fn insert(
        &mut self,
        view: View<'_>,
        new: &NewConnection,
    ) -> Result<Slot, DropReason> {
        match self.try_insert(view, new) {
            Ok(slot) | Err(NotInserted::Exists(slot)) => Ok(slot),
            Err(NotInserted::ReplyExists(other)) => {
                let entry = view.director.connections().entry(other);
                let meta = entry.meta();
                if states::is_open(meta.protocol, meta.state) || !view.director.end(other, view.now)
                {
                    return Err(DropReason::TupleInUse);
                }
                self.try_insert(view, new).map_err(|_| DropReason::TupleInUse)
            }
            Err(NotInserted::Full) => Err(DropReason::TableFull),
            Err(NotInserted::NoSource) => Err(DropReason::NoSourceAddress),
        }
    }

    fn try_insert(&mut self, view: View<'_>, new: &NewConnection) -> Result<Slot, NotInserted> {
        match view.director.store(&mut self.owned, new, view.now) {
            Err(NotInserted::Full) if self.shed(view) => {
                view.director.store(&mut self.owned, new, view.now)
            }
            inserted => inserted,
        }
    }

    fn peer_of(&self, view: View<'_>, frame: &Frame<'_>) -> u16 {
        let source = frame.bytes().get(6..12).and_then(|mac| mac.try_into().ok());
        source.map_or(0, |mac| view.director.reals().peer_number(mac, frame.ingress))
    }
}

/// Source addresses towards a real server under full NAT, each with its ports: the service's pool, or else
/// the host's own address. Programs of this host answer to its own address only.
pub(super) fn sources(view: View<'_>, service: &Service, real: &Real) -> Sources {
    let own = view.hops.source_for(&real.address);
    let to_host = view.hops.is_local(&real.address);
    let pool: &[IpAddr] = if to_host { &[] } else { &service.source_pool };
    let fallback = own.into_iter().filter(|_| pool.is_empty()).map(|a| (a, RESERVED_PORTS));
    pool.iter().map(|a| (*a, POOL_PORTS)).chain(fallback).take(MOST_SOURCES).collect()
}

/// Source addresses with their ports.
type Sources = ArrayVec<(IpAddr, RangeInclusive<u16>), MOST_SOURCES>;

/// Addresses of a pool; the document allows no more.
const MOST_SOURCES: usize = 16;

/// The port on a real server: its own, or else what the client asked for.
pub(super) const fn own_port_or(real: &Real, asked: u16) -> u16 {
    if real.port == 0 { asked } else { real.port }
}

/// How connections to a server with this method are forwarded.
pub(super) const fn via(method: Method) -> Via {
    match method {
        Method::Nat => Via::Nat,
        Method::DirectRouting => Via::DirectRouting,
        Method::Tunnel(_) => Via::Tunnel,
        Method::FullNat => Via::FullNat,
        Method::Local => Via::Local,
    }
}
