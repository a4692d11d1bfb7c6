//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers.

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// SCTP's protocol number.
pub const SCTP: u8 = 132;
/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// ICMPv6's protocol number.
pub const ICMPV6: u8 = 58;
/// IPv4 inside IP.
pub const IPIP: u8 = 4;
/// IPv6 inside IP.
pub const IPV6_IN_IP: u8 = 41;
/// GRE's protocol number.
pub const GRE: u8 = 47;

/// The smallest path MTU that an ICMP error may tell of: Linux's `ip_rt_min_pmtu`, and the least
/// that an IPv6 link carries (RFC 8201 section 4).
pub const fn least_path(is_v4: bool) -> u16 {
    if is_v4 { 552 } else { v6::LEAST_MTU }
}

/// IPv4 header fields.
pub mod v4 {
    /// Type of service: DSCP and ECN.
    pub const TOS: usize = 1;
    /// Length of the whole packet.
    pub const TOTAL_LENGTH: usize = 2;
    /// Offset of the identification.
    pub const ID: usize = 4;
    /// Flags and fragment offset.
    pub const FRAGMENT: usize = 6;
    /// Time to live.
    pub const TTL: usize = 8;
    /// Offset of the protocol number.
    pub const PROTOCOL: usize = 9;
    /// Header checksum.
    pub const CHECKSUM: usize = 10;
    /// Source address.
    pub const SOURCE: usize = 12;
    /// Destination address.
    pub const DESTINATION: usize = 16;
    /// Length without options.
    pub const LENGTH: usize = 20;
    /// Don't fragment.
    pub const DF: u16 = 0x4000;
    /// More fragments follow.
    pub const MF: u16 = 0x2000;
    /// Fragment offset, in units of 8 bytes.
    pub const OFFSET: u16 = 0x1fff;
}

/// IPv6 header fields.
pub mod v6 {
    /// Length of what follows the header.
    pub const PAYLOAD_LENGTH: usize = 4;
    /// Next header.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Source address.
    pub const SOURCE: usize = 8;
    /// Destination address.
    pub const DESTINATION: usize = 24;
    /// Length of the fixed header.
    pub const LENGTH: usize = 40;
    /// What every link carries (RFC 8200 section 5).
    pub const LEAST_MTU: u16 = 1280;

    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing header.
    pub const ROUTING: u8 = 43;
    /// Fragment header, 8 bytes.
    pub const FRAGMENT: u8 = 44;
    /// No next header.
    pub const NONE: u8 = 59;
    /// Destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Mobility header.
    pub const MOBILITY: u8 = 135;
}
