//! Why a packet is not an advert; each reason is a counter.

/// Why a packet is not an advert for this instance. Each is a counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Rejected {
    /// Not a whole IPv4 packet of protocol 112.
    #[error("IP header malformed")]
    Ip,
    /// The sender is of the other IP family.
    #[error("wrong address family")]
    Family,
    /// The TTL shows that a router forwarded it, or that it was forged.
    #[error("TTL or hop limit too small")]
    Ttl,
    /// Shorter or longer than its address count implies.
    #[error("length does not match the address count")]
    Length,
    /// Another protocol version.
    #[error("version differs")]
    Version,
    /// Not an advertisement.
    #[error("unknown packet type")]
    Type,
    /// For another virtual router.
    #[error("virtual router id differs")]
    Vrid,
    /// RFC 9568 demands at least one.
    #[error("no addresses")]
    NoAddresses,
    /// Not one of the instance's addresses is listed: another cluster uses the same virtual router id.
    #[error("no address in common")]
    ForeignAddresses,
    /// Neither checksum dialect matches.
    #[error("checksum wrong")]
    Checksum,
    /// Version 2: the authentication type is not the configured one.
    #[error("authentication type differs")]
    AuthenticationType,
    /// Version 2: the password is not the configured one.
    #[error("password differs")]
    Password,
    /// Version 2: both sides must use the same interval.
    #[error("advertisement interval differs")]
    Interval,
    /// Version 3: zero would make everybody master at once.
    #[error("advertisement interval is zero")]
    IntervalZero,
    /// A unicast advert where multicast is configured, or the reverse.
    #[error("unicast and multicast mixed")]
    Reach,
    /// The sender is not one of the configured peers.
    #[error("sender is not a configured peer")]
    Peer,
    /// `auth_hmac` is enforced and there is no trailer.
    #[error("HMAC missing")]
    HmacMissing,
    /// A trailer of an unknown kind.
    #[error("HMAC trailer malformed")]
    HmacMalformed,
    /// The trailer names a key that is not configured.
    #[error("HMAC key unknown")]
    HmacKey,
    /// The HMAC is not made with our key.
    #[error("HMAC wrong")]
    Hmac,
    /// The sender's clock is too far from ours, or the packet is a recording.
    #[error("HMAC time stamp outside the window")]
    HmacStale,
    /// The packet was seen before.
    #[error("HMAC sequence number replayed")]
    HmacReplay,
}

impl Rejected {
    /// Every reason, in the order of [`Rejected::index`].
    pub const ALL: [Self; 22] = [
        Self::Ip,
        Self::Family,
        Self::Ttl,
        Self::Length,
        Self::Version,
        Self::Type,
        Self::Vrid,
        Self::NoAddresses,
        Self::ForeignAddresses,
        Self::Checksum,
        Self::AuthenticationType,
        Self::Password,
        Self::Interval,
        Self::IntervalZero,
        Self::Reach,
        Self::Peer,
        Self::HmacMissing,
        Self::HmacMalformed,
        Self::HmacKey,
        Self::Hmac,
        Self::HmacStale,
        Self::HmacReplay,
    ];

    /// Place of its counter.
    pub const fn index(self) -> usize {
        self as usize
    }
}
