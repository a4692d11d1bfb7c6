//! TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260) headers. All three begin with source and
//! destination port.

/// Source port.
pub const SOURCE_PORT: usize = 0;
/// Destination port.
pub const DESTINATION_PORT: usize = 2;

/// TCP header fields.
pub mod tcp {
    /// Sequence number.
    pub const SEQUENCE: usize = 4;
    /// Acknowledgement number.
    pub const ACKNOWLEDGEMENT: usize = 8;
    /// Header length in 32-bit words, in the upper four bits.
    pub const DATA_OFFSET: usize = 12;
    /// Offset of the flags.
    pub const FLAGS: usize = 13;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 16;
    /// Length without options.
    pub const LENGTH: usize = 20;
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// The SYN flag.
    pub const SYN: u8 = 0x02;
    /// The RST flag.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// UDP header fields.
pub mod udp {
    /// Length of header and payload.
    pub const LENGTH_FIELD: usize = 4;
    /// Checksum; zero means none over IPv4.
    pub const CHECKSUM: usize = 6;
    /// Length of the header.
    pub const LENGTH: usize = 8;
}

/// SCTP common header fields and chunk types.
pub mod sctp {
    /// Verification tag.
    pub const TAG: usize = 4;
    /// CRC32c, little endian.
    pub const CHECKSUM: usize = 8;
    /// Length of the common header.
    pub const LENGTH: usize = 12;
    /// Chunk type DATA.
    pub const DATA: u8 = 0;
    /// First message of an association.
    pub const INIT: u8 = 1;
    /// Its answer.
    pub const INIT_ACK: u8 = 2;
    /// Unusual end.
    pub const ABORT: u8 = 6;
    /// Orderly end.
    pub const SHUTDOWN: u8 = 7;
    /// Its answer.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// An error was met.
    pub const ERROR: u8 = 9;
    /// The cookie comes back.
    pub const COOKIE_ECHO: u8 = 10;
    /// And is accepted.
    pub const COOKIE_ACK: u8 = 11;
    /// The end of the end.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}
