//! What word 7 of an entry tells.

/// How packets of a connection are forwarded: [`crate::table::Method`] without its parameters,
/// which stay with the real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Via {
    /// NAT.
    Nat = 0,
    /// Local delivery.
    Local = 1,
    /// Tunnel.
    Tunnel = 2,
    /// Direct routing.
    DirectRouting = 3,
    /// Full NAT.
    FullNat = 4,
}

impl Via {
    const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Nat,
            1 => Self::Local,
            2 => Self::Tunnel,
            3 => Self::DirectRouting,
            _ => Self::FullNat,
        }
    }

    /// Whether replies pass the director and are rewritten by it.
    pub const fn rewrites_replies(self) -> bool {
        matches!(self, Self::Nat | Self::FullNat | Self::Local)
    }
}

/// Bits of an entry that are not state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// Only client packets are seen (IPVS `NOOUTPUT`).
    pub const NO_OUTPUT: Self = Self(1);
    /// Counted as inactive.
    pub const INACTIVE: Self = Self(2);
    /// A persistence template.
    pub const TEMPLATE: Self = Self(4);
    /// The client port is not known yet.
    pub const NO_CLIENT_PORT: Self = Self(8);
    /// Sequence numbers are shifted (FTP helper).
    pub const SHIFTED: Self = Self(16);
    /// A template that a completed connection has used.
    pub const ASSURED: Self = Self(32);
    /// Learned from a peer.
    pub const SYNCED: Self = Self(64);
    /// Removed; the slot is reused after a grace period.
    pub const DEAD: Self = Self(128);
    /// Has an index entry for replies.
    pub const REPLY_INDEXED: Self = Self(256);
    /// Both ends are reset with the next packet.
    pub const DOOMED: Self = Self(512);
    /// Has seen so few packets from the client that their number still matters. The count in the
    /// entry wraps; this flag, once cleared, stays so.
    pub const YOUNG: Self = Self(1024);
    /// Removed, and its slot given to an owner who may use it again after a grace period.
    pub const RETIRED: Self = Self(2048);
    /// Counted in its real server's load and by its controller; whoever ends it takes it off.
    pub const COUNTED: Self = Self(4096);

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
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

/// The byte and half-word fields of word 7.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Protocol number.
    pub protocol: u8,
    /// Forwarding method.
    pub via: Via,
    /// State number, by protocol.
    pub state: u8,
    /// Full NAT: index of the source address.
    pub local: u8,
    /// Flags.
    pub flags: Flags,
    /// Return MAC, 0 for none.
    pub peer: u16,
}

impl Meta {
    pub(super) const fn pack(self) -> u64 {
        // Protocol numbers in use (0, 6, 17, 132) and methods share a byte: five bits and three.
        let protocol = protocol_code(self.protocol);
        (self.via as u64 | (protocol as u64) << 3)
            | (self.state as u64) << 8
            | (self.local as u64) << 16
            | (self.flags.0 as u64) << 32
            | (self.peer as u64) << 48
    }

    #[inline(always)]
    pub(super) const fn unpack(word: u64) -> Self {
        Self {
            protocol: protocol_number((word >> 3) as u8 & 0x1f),
            via: Via::from_bits(word as u8),
            state: (word >> 8) as u8,
            local: (word >> 16) as u8,
            flags: Flags((word >> 32) as u16),
            peer: (word >> 48) as u16,
        }
    }
}

/// A number below 4 for each protocol that connections can have.
#[inline(always)]
pub(in crate::packet_path::connections) const fn protocol_code(number: u8) -> usize {
    match number {
        6 => 1,
        17 => 2,
        132 => 3,
        _ => 0,
    }
}

#[inline(always)]
const fn protocol_number(code: u8) -> u8 {
    match code {
        1 => 6,
        2 => 17,
        3 => 132,
        _ => 0,
    }
}
