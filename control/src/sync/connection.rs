//! A connection as peers tell it to each other: by address, not by the sender's numbers.

use crate::ipvs_sync::Shifts;
pub use dataplane::packet_path::connections::Via;
use dataplane::tick::Ticks;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// What a connection or template is found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Protocol number: 6, 17 or 132; 0 for templates of mark services.
    pub protocol: u8,
    /// Whether it is a persistence template.
    pub template: bool,
    /// Client, masked in templates.
    pub client: SocketAddr,
    /// Virtual address and port; of templates of mark services, the mark as an address.
    pub vip: SocketAddr,
}

/// In one piece: a keyed hash of many small ones takes several times as long.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let mut bytes = [0; 38];
        let (client, rest) = bytes.split_at_mut(16);
        let (vip, rest) = rest.split_at_mut(16);
        client.copy_from_slice(&bits(self.client.ip()).to_ne_bytes());
        vip.copy_from_slice(&bits(self.vip.ip()).to_ne_bytes());
        let [a, b] = self.client.port().to_ne_bytes();
        let [c, d] = self.vip.port().to_ne_bytes();
        rest.copy_from_slice(&[a, b, c, d, self.protocol, u8::from(self.template)]);
        state.write(&bytes);
    }
}

/// Facts about a connection that are not its state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Traits {
    /// Replies do not pass the director.
    pub no_output: bool,
    /// Counted as inactive.
    pub inactive: bool,
    /// The client port is not known yet.
    pub no_client_port: bool,
    /// A template that a completed connection has used.
    pub assured: bool,
    /// A template or an FTP connection controls it.
    pub controlled: bool,
}

/// A connection or template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// What it is found by.
    pub key: Key,
    /// The real server.
    pub real: SocketAddr,
    /// Forwarding method.
    pub via: Via,
    /// State number of the protocol, 0 to 15.
    pub state: u8,
    /// The rest of what it is.
    pub traits: Traits,
    /// Lifetime after each packet.
    pub timeout: Ticks,
    /// Time left, so that clocks need not agree.
    pub remaining: Ticks,
    /// Mark of the service, or 0.
    pub mark: u32,
    /// Full NAT: the source that the real server sees.
    pub local: Option<SocketAddr>,
    /// Shifted sequence numbers.
    pub shifts: Option<Shifts>,
}

/// One change of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// New, or different from before.
    Update(Connection),
    /// The connection ended.
    Close(Key),
}

impl Change {
    /// The connection concerned.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Update(connection) => &connection.key,
            Self::Close(key) => key,
        }
    }
}

impl Key {
    /// Whether client and VIP are of one family, as they must be.
    pub const fn is_sound(&self) -> bool {
        matches!(
            (self.client.ip(), self.vip.ip()),
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_))
        )
    }
}
