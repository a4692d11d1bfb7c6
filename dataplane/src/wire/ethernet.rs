//! Ethernet II, 802.1Q and ARP (IEEE 802.3, RFC 826).

/// Destination MAC.
pub const DESTINATION: usize = 0;
/// Source MAC.
pub const SOURCE: usize = 6;
/// EtherType, or the tag's protocol identifier.
pub const TYPE: usize = 12;
/// Length of an untagged header.
pub const LENGTH: usize = 14;
/// Length of one 802.1Q tag.
pub const TAG_LENGTH: usize = 4;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// ARP for IPv4 over Ethernet.
pub mod arp {
    /// Operation: 1 request, 2 reply.
    pub const OPERATION: usize = 6;
    /// Sender's MAC.
    pub const SENDER_MAC: usize = 8;
    /// Sender's IPv4 address.
    pub const SENDER_ADDRESS: usize = 14;
    /// Target's MAC.
    pub const TARGET_MAC: usize = 18;
    /// Target's IPv4 address.
    pub const TARGET_ADDRESS: usize = 24;
    /// Length of the packet.
    pub const LENGTH: usize = 28;
    /// The first six bytes: Ethernet, IPv4, address lengths 6 and 4.
    pub const PREAMBLE: [u8; 6] = [0, 1, 8, 0, 6, 4];
    /// A question.
    pub const REQUEST: u16 = 1;
    /// An answer.
    pub const REPLY: u16 = 2;
}
