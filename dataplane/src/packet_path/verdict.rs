//! What becomes of a packet, and every reason for which one can die.

use crate::table::PortId;

/// What becomes of a packet. Every packet gets exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Out of this port, as rewritten.
    Send(PortId),
    /// Not ours: the host's stack has it, untouched.
    Host,
    /// Given to the host's stack as rewritten: local delivery.
    Deliver,
    /// Replaced by other frames in the outbox, or kept until something it needs is known.
    Consumed,
    /// Dead, and counted.
    Drop(DropReason),
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal,)+) => {
        /// Why a packet died. Each is a counter, a metric and a row in the console.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $name,)+ }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its stable name: metric label and JSON key.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// One sentence for people.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

drop_reasons! {
    /// The frame is shorter than its headers say.
    Truncated = "truncated",
    /// The IP header contradicts itself: version or length. Its checksum is the receiving kernel's to
    /// verify, or the next hop's: forwarding updates it by the difference, so a wrong one stays wrong.
    BadIpHeader = "bad_ip_header",
    /// The transport header contradicts itself.
    BadTransportHeader = "bad_transport_header",
    /// IPv6 extension headers that are too many or out of order.
    BadExtensionHeader = "bad_extension_header",
    /// For a virtual service, but part of no connection and not allowed to open one.
    NoConnection = "no_connection",
    /// Every real server of the service is down, drained or over its threshold.
    NoRealServer = "no_real_server",
    /// The real server of the connection was removed from the service.
    RealServerRemoved = "real_server_removed",
    /// The connection table is full of connections worth more than this one.
    TableFull = "table_full",
    /// The real server already has a connection from the same client port, to another VIP.
    TupleInUse = "tuple_in_use",
    /// No free source port is left in the full-NAT pool.
    NoSourcePort = "no_source_port",
    /// Full NAT has no address to send from: the host has none towards the real server, or the book of
    /// 256 addresses is full.
    NoSourceAddress = "no_source_address",
    /// No route leads to the next hop.
    NoRoute = "no_route",
    /// A blackhole route or rule of the host swallows packets for there.
    RouteBlackhole = "route_blackhole",
    /// An unreachable route or rule of the host refuses packets for there.
    RouteUnreachable = "route_unreachable",
    /// A prohibit route or rule of the host refuses packets for there.
    RouteProhibits = "route_prohibits",
    /// The next hop's interface is not attached to the dataplane.
    PortNotAttached = "port_not_attached",
    /// The next hop does not answer neighbour resolution.
    NextHopUnresolved = "next_hop_unresolved",
    /// The hop limit ran out; the sender was told, unless of an ICMP error.
    TtlExceeded = "ttl_exceeded",
    /// Larger than the path's MTU and not to be fragmented; the sender was told.
    TooBig = "too_big",
    /// No room in the buffer for the headers to add.
    NoHeadroom = "no_headroom",
    /// A fragment whose first part never came.
    OrphanFragment = "orphan_fragment",
    /// Too many fragments are waiting for their first part.
    FragmentQueueFull = "fragment_queue_full",
    /// An ICMP error about no known connection.
    UnrelatedIcmp = "unrelated_icmp",
    /// The kernel had no room for it, as the worker did not take frames in time, or it was longer
    /// than any buffer.
    ReceiveQueueFull = "receive_queue_full",
    /// The transmit queue of the port was full.
    TransmitQueueFull = "transmit_queue_full",
    /// The kernel refused the frame on transmit.
    TransmitError = "transmit_error",
    /// This node is backup for the address: the master answers.
    NotMaster = "not_master",
    /// A method that this kind of packet cannot take, such as a fragment of SCTP a change of ports.
    UnsupportedByMethod = "unsupported_by_method",
}
