//! Persistence: one client, one real server, for as long as its template lives.
//!
//! A template is an entry of the connection table without client port. Its key depends on the kind
//! of service, as in IPVS: protocol, client group, VIP and port; without the port for FTP and
//! port-0 services; the mark instead of protocol and VIP for mark services.

use super::connections::{Direction, Flags, NewConnection, Slot, Tuple};
use super::open::via;
use super::schedule::Flow;
use super::{Address, PacketPath, View};
use crate::table::{Availability, Family, Persistence, Real, Service, ServiceKey, Tunables};

const FTP: u16 = 21;

/// A real server, the port on it, and the template that chose it.
pub(super) type Chosen<'a> = (&'a Real, u16, Option<Slot>);

impl PacketPath {
    /// The real server of the client's template, or a newly scheduled one and a new template.
    pub(super) fn choose_persistent<'a>(
        &mut self,
        view: View<'_>,
        service: &'a Service,
        persistence: Persistence,
        flow: &Flow,
    ) -> Option<Chosen<'a>> {
        let (key, keeps_port) = template_key(service, persistence, flow);
        let (real, template) = match self.template(view, service, &key) {
            Some(found) => found,
            None => {
                let real = self.schedule(view, service, flow)?;
                let template = self.make_template(view, persistence, &key, real, keeps_port)?;
                // Another worker may have been faster, and chosen otherwise.
                let chosen = view.director.connections().entry(template).real();
                let agreed = service.reals.iter().find(|real| real.id == chosen);
                (agreed.unwrap_or(real), template)
            }
        };
        let asked = flow.destination_port;
        Some((real, persistent_port(service, real, asked), Some(template)))
    }

    /// A template that still holds. One whose server is gone is hidden, and dies by itself once the
    /// connections under it have ended.
    fn template<'a>(
        &mut self,
        view: View<'_>,
        service: &'a Service,
        key: &Tuple,
    ) -> Option<(&'a Real, Slot)> {
        let (connections, reals) = (view.director.connections(), view.director.reals());
        let hash = connections.hash(key);
        let (slot, direction) = connections.find(key, hash, reals)?;
        let entry = connections.entry(slot);
        if direction == Direction::Reply {
            return None;
        }
        if entry.expires().is_due(view.now) && entry.controls() == 0 {
            view.director.end(slot, view.now);
            return None;
        }
        let real = service.reals.iter().find(|real| real.id == entry.real());
        match real.filter(|real| keeps_clients(real, &view.table.tunables)) {
            Some(real) => {
                connections.reset_timer(slot, view.now, entry.timeout());
                Some((real, slot))
            }
            None => {
                connections.hide(slot);
                None
            }
        }
    }

    fn make_template(
        &mut self,
        view: View<'_>,
        persistence: Persistence,
        key: &Tuple,
        real: &Real,
        keeps_port: bool,
    ) -> Option<Slot> {
        let new = NewConnection {
            protocol: key.protocol,
            client: key.source,
            client_port: 0,
            virtual_address: key.destination,
            virtual_port: key.destination_port,
            real: real.id,
            real_address: real.address.into(),
            real_port: if keeps_port { real.port } else { 0 },
            via: via(real.method),
            local: 0,
            local_address: Address(0),
            local_port: 0,
            state: 0,
            flags: Flags::TEMPLATE,
            control: None,
            peer: 0,
            timeout: persistence.timeout,
        };
        self.insert(view, &new).ok()
    }
}

/// Whether templates that name a real server still lead clients to it.
pub(super) fn keeps_clients(real: &Real, tunables: &Tunables) -> bool {
    real.weight > 0
        || real.availability == Availability::Serving && !tunables.expire_quiescent_template
}

/// The port on a real server that persistence chose: its own for the service's port, or else what the
/// client asked for.
pub(super) fn persistent_port(service: &Service, real: &Real, asked: u16) -> u16 {
    if asked == service.key.port() { super::open::own_port_or(real, asked) } else { asked }
}

/// The template's key, and whether it names the real server's port.
pub(super) fn template_key(
    service: &Service,
    persistence: Persistence,
    flow: &Flow,
) -> (Tuple, bool) {
    let source = Address::from(flow.client).masked(persistence.mask);
    let destination = Address::from(flow.destination);
    let port = service.key.port();
    let own_port = flow.destination_port == port && port != FTP;
    let key = |protocol, destination, destination_port| Tuple {
        protocol,
        source,
        source_port: 0,
        destination,
        destination_port,
        template: true,
    };
    match service.key {
        ServiceKey::Mark { family, mark } => (key(0, mark_address(family, mark), 0), false),
        ServiceKey::Address { .. } if own_port => {
            (key(flow.protocol.number(), destination, port), true)
        }
        ServiceKey::Address { .. } => (key(flow.protocol.number(), destination, 0), false),
    }
}

/// The mark that an address stands for, if it does.
pub(super) fn mark_of(family: Family, address: Address) -> Option<u32> {
    let mark = match family {
        Family::V4 => address.low(),
        Family::V6 => (address.0 >> 96) as u32,
    };
    (mark != 0 && mark_address(family, mark) == address).then_some(mark)
}

/// A mark in the place of an address, as IPVS stores it: in the first 32 bits.
pub fn mark_address(family: Family, mark: u32) -> Address {
    match family {
        Family::V4 => Address::v4(mark),
        Family::V6 => Address::v6(u128::from(mark) << 96),
    }
}
