//! ICMP (RFC 792) and ICMPv6 (RFC 4443, neighbour discovery RFC 4861).

/// Offset of the type.
pub const TYPE: usize = 0;
/// Offset of the code.
pub const CODE: usize = 1;
/// Offset of the checksum.
pub const CHECKSUM: usize = 2;
/// Identifier of an echo.
pub const ECHO_ID: usize = 4;
/// In "fragmentation needed": the next hop's MTU, 16 bits.
pub const MTU_V4: usize = 6;
/// In "packet too big": the MTU, 32 bits.
pub const MTU_V6: usize = 4;
/// Length of the header; the embedded packet of an error follows.
pub const LENGTH: usize = 8;

/// IPv4 types.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench (deprecated, still translated).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Echo request.
    pub const ECHO: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Code of unreachable: port.
    pub const PORT: u8 = 3;
    /// Code of unreachable: fragmentation needed and DF set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}

/// IPv6 types.
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Types below this are errors.
    pub const FIRST_INFORMATIONAL: u8 = 128;
    /// Echo request.
    pub const ECHO: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Neighbour solicitation.
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const ADVERTISEMENT: u8 = 136;
    /// Code of unreachable: port.
    pub const PORT: u8 = 4;
}

/// Neighbour discovery, from the start of the ICMPv6 header.
pub mod nd {
    /// Flags of an advertisement: router, solicited, override.
    pub const FLAGS: usize = 4;
    /// Target address.
    pub const TARGET: usize = 8;
    /// Offset of the options.
    pub const OPTIONS: usize = 24;
    /// Length with one link-layer address option.
    pub const LENGTH: usize = 32;
    /// Option: source link-layer address.
    pub const SOURCE_LINK_LAYER: u8 = 1;
    /// Option: target link-layer address.
    pub const TARGET_LINK_LAYER: u8 = 2;
    /// Advertisement flags for an answer that replaces what was known.
    pub const SOLICITED_OVERRIDE: u8 = 0x60;
}
