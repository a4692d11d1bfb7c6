//! How the packet path's and the document's words look as JSON.

use crate::model::{
    Family, GueChecksum, Method, Netmask, Protocol, SchedulerFlags, Tunnel, VirtualAddress,
};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

#[derive(Serialize, Deserialize)]
#[serde(remote = "Protocol", rename_all = "snake_case")]
enum ProtocolWire {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Family", rename_all = "snake_case")]
enum FamilyWire {
    V4,
    V6,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "VirtualAddress", rename_all = "snake_case")]
pub(super) enum VirtualAddressWire {
    Socket {
        #[serde(with = "ProtocolWire")]
        protocol: Protocol,
        address: SocketAddr,
    },
    Mark {
        #[serde(with = "FamilyWire")]
        family: Family,
        mark: u32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SchedulerFlags")]
pub(super) struct SchedulerFlagsWire {
    flag_1: bool,
    flag_2: bool,
    flag_3: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Netmask", rename_all = "snake_case")]
pub(super) enum NetmaskWire {
    V4(Ipv4Addr),
    V6(u8),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "GueChecksum", rename_all = "snake_case")]
enum GueChecksumWire {
    None,
    Full,
    Remote,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Tunnel", rename_all = "snake_case")]
enum TunnelWire {
    Ipip,
    Gre {
        checksum: bool,
    },
    Gue {
        port: u16,
        #[serde(with = "GueChecksumWire")]
        checksum: GueChecksum,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Method", rename_all = "snake_case")]
pub(super) enum MethodWire {
    Nat,
    DirectRouting,
    Tunnel(#[serde(with = "TunnelWire")] Tunnel),
    FullNat,
    Local,
}
