#![doc = include_str!("README.md")]
pub mod foreign;
pub mod frame;
pub mod fsm;
pub mod garp;
pub mod group;
pub mod hmac;
pub mod instance;
pub mod interfaces;
pub mod packet;
pub mod socket;
mod speaker;
pub mod status;
pub mod task;
pub mod tracking;

use std::num::NonZeroU8;

/// Protocol version of an instance. Peers must agree on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Version {
    /// RFC 3768; whole seconds, skew of up to one second.
    V2,
    /// RFC 9568; centiseconds, skew in proportion to the interval.
    V3,
}

impl Version {
    /// The number in the first half of the first byte.
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// Virtual router id, 1 to 255.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// An id; `None` for 0.
    pub const fn new(id: u8) -> Option<Self> {
        match NonZeroU8::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// The virtual router's Ethernet address (RFC 9568 section 7.3).
    pub const fn mac(self, family: dataplane::table::Family) -> dataplane::table::Mac {
        let kind = match family {
            dataplane::table::Family::V4 => 1,
            dataplane::table::Family::V6 => 2,
        };
        [0x00, 0x00, 0x5e, 0x00, kind, self.get()]
    }
}

impl std::fmt::Display for Vrid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Priority of a living router, 1 to 255. The 0 that only a resigning master sends is not one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Priority(NonZeroU8);

impl Priority {
    /// The owner of the addresses; nothing lowers it.
    pub const OWNER: Self = Self(NonZeroU8::MAX);
    /// What an instance has when nobody chose.
    pub const DEFAULT: Self = Self::clamped(100);

    /// A priority; `None` for 0.
    pub const fn new(priority: u8) -> Option<Self> {
        match NonZeroU8::new(priority) {
            Some(priority) => Some(Self(priority)),
            None => None,
        }
    }

    /// The nearest priority that is not the owner's: 1 to 254.
    pub const fn clamped(priority: i32) -> Self {
        let wire = if priority < 1 {
            1
        } else if priority > 254 {
            254
        } else {
            priority as u8
        };
        match NonZeroU8::new(wire) {
            Some(priority) => Self(priority),
            None => Self(NonZeroU8::MIN),
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
