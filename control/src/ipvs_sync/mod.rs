//! The kernel's own IPVS connection synchronisation, so that Viaduct can be one half of an old LVS pair.
//!
//! Unlike Viaduct's own peer link it has no acknowledgements, no authentication and no deletions: a
//! connection that is not refreshed times out on the backup. `codec` is the bytes of versions 0 and 1,
//! `packer` fills messages, `policy` says when a connection is worth a record, `table` is
//! the packet path's connections, `task` owns the sockets.

pub mod codec;
pub mod packer;
pub mod policy;
pub mod table;
pub mod task;

use dataplane::packet_path::sequence;
use std::net::IpAddr;

/// Bits of a record's flags, numbered as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// Forwarding method: 0 NAT, 1 local, 2 tunnel, 3 direct routing, 4 bypass.
    pub const METHOD: Self = Self(0x7);
    /// Came from a sync daemon.
    pub const SYNC: Self = Self(0x20);
    /// Hashed in the sender's table; never on the wire.
    pub const HASHED: Self = Self(0x40);
    /// Replies do not pass the director.
    pub const NO_OUTPUT: Self = Self(0x80);
    /// Counted as inactive.
    pub const INACTIVE: Self = Self(0x100);
    /// Sequence numbers of replies are shifted.
    pub const OUT_SEQUENCE: Self = Self(0x200);
    /// Sequence numbers of requests are shifted.
    pub const IN_SEQUENCE: Self = Self(0x400);
    /// Either of the two.
    pub const SEQUENCES: Self = Self(0x600);
    /// The client port is not known yet.
    pub const NO_CLIENT_PORT: Self = Self(0x800);
    /// A persistence template.
    pub const TEMPLATE: Self = Self(0x1000);
    /// Scheduled packet by packet; never synchronised.
    pub const ONE_PACKET: Self = Self(0x2000);
    /// What a backup takes over.
    pub const TAKEN_OVER: Self = Self(0x0007 | 0x0080 | 0x0100 | 0x0600 | 0x0800 | 0x1000);

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits that are also in `other`.
    #[must_use]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// With the bits of `other` set.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// With the bits of `other` cleared.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// How far one direction's sequence numbers are shifted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Shift {
    /// Sequence number from which `delta` applies.
    pub start: u32,
    /// Shift from there on.
    pub delta: u32,
    /// Shift before.
    pub previous: u32,
}

/// Shifts of both directions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Shifts {
    /// Client to real server.
    pub inbound: Shift,
    /// Real server to client.
    pub outbound: Shift,
}

impl From<sequence::Shift> for Shift {
    fn from(shift: sequence::Shift) -> Self {
        let sequence::Shift { start, previous, delta } = shift;
        Self { start, delta: delta.cast_unsigned(), previous: previous.cast_unsigned() }
    }
}

impl From<Shift> for sequence::Shift {
    fn from(shift: Shift) -> Self {
        let Shift { start, delta, previous } = shift;
        Self { start, previous: previous.cast_signed(), delta: delta.cast_signed() }
    }
}

impl From<sequence::Shifts> for Shifts {
    fn from(shifts: sequence::Shifts) -> Self {
        Self { inbound: shifts.inbound.into(), outbound: shifts.outbound.into() }
    }
}

impl From<Shifts> for sequence::Shifts {
    fn from(shifts: Shifts) -> Self {
        Self { inbound: shifts.inbound.into(), outbound: shifts.outbound.into() }
    }
}

/// What a persistence engine adds to a template.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Engine {
    /// Name, such as `sip`: 1 to 16 bytes.
    pub name: Vec<u8>,
    /// What it compares, such as a Call-ID: 1 to 255 bytes.
    pub data: Vec<u8>,
}

/// One connection or template as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// Protocol number; 0 for templates of mark services.
    pub protocol: u8,
    /// Method and flags.
    pub flags: Flags,
    /// State number of the protocol; of templates, 1 when assured.
    pub state: u16,
    /// Client, masked in templates. All three addresses are of one family.
    pub client: IpAddr,
    /// Client port; 0 in templates.
    pub client_port: u16,
    /// Virtual address; of templates of mark services, the mark.
    pub vip: IpAddr,
    /// Virtual port.
    pub virtual_port: u16,
    /// Real server.
    pub real: IpAddr,
    /// Port on the real server.
    pub real_port: u16,
    /// Mark of the packet that opened the connection. Version 1 only.
    pub mark: u32,
    /// Lifetime after each packet in seconds; 0 when unknown. Version 1 only.
    pub timeout: u32,
    /// Shifted sequence numbers, present exactly when the flags say so.
    pub shifts: Option<Shifts>,
    /// Persistence engine. Version 1 only.
    pub engine: Option<Engine>,
}

impl Record {
    /// Whether it is a persistence template.
    pub const fn is_template(&self) -> bool {
        self.flags.intersects(Flags::TEMPLATE)
    }

    /// Whether both fit into version 0, which knows no IPv6.
    pub const fn is_ipv4(&self) -> bool {
        matches!((self.client, self.vip, self.real), (IpAddr::V4(_), IpAddr::V4(_), IpAddr::V4(_)))
    }
}
