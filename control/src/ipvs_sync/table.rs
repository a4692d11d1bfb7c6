//! The packet path's connections as the kernel's records, and back.

use super::policy::{Memory, Policy, Seen};
use super::{Flags, Record};
use dataplane::packet_path::Director;
use dataplane::packet_path::adopt::Told;
use dataplane::packet_path::connections::{self, ConnectionInfo, Slot, Tuple, Via};
use dataplane::tick::{Tick, Ticks};
use dataplane::worker::Dataplane;
use std::net::IpAddr;

/// Connections looked at in one piece.
const PAGE: usize = 4096;

/// The packet path counts a connection's packets modulo this.
const WRAP: u16 = 1024;

/// Lifetime of a template whose record says none: the kernel's.
const TEMPLATE_LIFETIME: Ticks = Ticks::from_secs(180);

/// What is remembered of a slot between two looks.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Whose: another client or port in the slot is another connection.
    client: (u128, u16),
    memory: Memory,
    /// Packets so far, and the packet path's count at the last look.
    packets: u32,
    counted: u16,
}

/// Looks through the table for connections that are worth a record.
#[derive(Debug, Default)]
pub struct Walk {
    policy: Policy,
    known: Vec<Known>,
}

impl Walk {
    /// The records that are due now, in the order of the table.
    pub fn records(&mut self, dataplane: &Dataplane, now: Tick, mut each: impl FnMut(Record)) {
        let mut from = Some(0);
        while let Some(cursor) = from {
            let page = dataplane.connections(cursor, PAGE);
            for info in &page.connections {
                if self.wants(info, now)
                    && let Some(record) = record(dataplane.director(), info)
                {
                    each(record);
                }
            }
            from = page.next;
        }
    }

    fn wants(&mut self, info: &ConnectionInfo, now: Tick) -> bool {
        let Slot(slot) = info.slot;
        let Ok(at) = usize::try_from(slot) else { return false };
        if self.known.len() <= at {
            self.known.resize(at + 1, Known::default());
        }
        let Some(known) = self.known.get_mut(at) else { return false };
        let client = (info.client.0, info.client_port);
        if known.client != client {
            *known = Known { client, ..Known::default() };
        }
        let fresh = (info.packets + WRAP - known.counted) % WRAP;
        known.counted = info.packets;
        known.packets = known.packets.saturating_add(fresh.into());
        let template = info.meta.flags.has(connections::Flags::TEMPLATE);
        // A template counts no packets of its own; it is told as it is first seen, and by its age.
        let (packets, fresh) = if template {
            let young = known.packets == 0;
            known.packets = 1;
            (3, u32::from(young) * 3)
        } else {
            (known.packets, u32::from(fresh))
        };
        if fresh == 0 && known.memory.state() == info.meta.state {
            return false;
        }
        let seen = Seen {
            protocol: info.meta.protocol,
            state: info.meta.state,
            template,
            persistent: info.control.is_some(),
            packets,
            fresh,
            timeout: info.timeout,
        };
        self.policy.wants(&seen, &mut known.memory, now)
    }
}

/// A connection as a record; `None` for methods that the kernel does not have.
pub fn record(director: &Director, info: &ConnectionInfo) -> Option<Record> {
    let own = info.meta.flags;
    let method = match info.meta.via {
        Via::Nat => 0,
        Via::Local => 1,
        Via::Tunnel => 2,
        Via::DirectRouting => 3,
        Via::FullNat => return None,
    };
    let mut flags = Flags(method);
    for (bit, wire) in BITS {
        if own.has(bit) {
            flags = flags.with(wire);
        }
    }
    let template = own.has(connections::Flags::TEMPLATE);
    let assured = own.has(connections::Flags::ASSURED);
    Some(Record {
        protocol: info.meta.protocol,
        flags,
        state: if template { u16::from(assured) } else { info.meta.state.into() },
        client: info.client.ip(),
        client_port: info.client_port,
        vip: info.virtual_address.ip(),
        virtual_port: info.virtual_port,
        real: info.real_address.ip(),
        real_port: info.real_port,
        mark: 0,
        timeout: info.timeout.as_secs(),
        shifts: director.shifts(info).map(Into::into),
        engine: None,
    })
}

const BITS: [(connections::Flags, Flags); 4] = [
    (connections::Flags::NO_OUTPUT, Flags::NO_OUTPUT),
    (connections::Flags::INACTIVE, Flags::INACTIVE),
    (connections::Flags::NO_CLIENT_PORT, Flags::NO_CLIENT_PORT),
    (connections::Flags::TEMPLATE, Flags::TEMPLATE),
];

/// A record as the packet path takes it in; `None` for what it cannot be.
pub fn told(record: &Record) -> Option<Told> {
    let via = match record.flags.only(Flags::METHOD).0 {
        0 => Via::Nat,
        1 => Via::Local,
        2 => Via::Tunnel,
        3 => Via::DirectRouting,
        _ => return None,
    };
    let template = record.is_template();
    let mut flags = connections::Flags::default();
    for (bit, wire) in BITS {
        if record.flags.intersects(wire) {
            flags = flags.with(bit);
        }
    }
    if template && record.state == 1 {
        flags = flags.with(connections::Flags::ASSURED);
    }
    let timeout = match (record.timeout, template) {
        (0, true) => TEMPLATE_LIFETIME,
        (0, false) => lifetime(record.protocol),
        (seconds, _) => Ticks::from_secs(seconds),
    };
    let same = |a: &IpAddr, b: &IpAddr| a.is_ipv4() == b.is_ipv4();
    if !same(&record.client, &record.vip) {
        return None;
    }
    Some(Told {
        tuple: Tuple {
            protocol: record.protocol,
            template,
            source: record.client.into(),
            source_port: record.client_port,
            destination: record.vip.into(),
            destination_port: record.virtual_port,
        },
        real: record.real,
        real_port: record.real_port,
        via,
        local: None,
        state: if template { 0 } else { u8::try_from(record.state).ok()? },
        flags,
        timeout,
        remaining: timeout,
        shifts: record.shifts.map(Into::into),
    })
}

/// Of a version 0 record, which says none: the usual one of the protocol's established state.
const fn lifetime(protocol: u8) -> Ticks {
    match protocol {
        17 => Ticks::from_secs(300),
        _ => Ticks::from_secs(900),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs_sync::codec::tests::any_record;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_record_is_taken_or_refused_and_never_panics(record in any_record()) {
            if let Some(told) = told(&record) {
                prop_assert_eq!(told.tuple.template, record.is_template());
                prop_assert_eq!(told.real, record.real);
                prop_assert!(told.timeout.0 > 0);
            }
        }
    }
}
