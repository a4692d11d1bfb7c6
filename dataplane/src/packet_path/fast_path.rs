//! The fast path: an ordinary packet of a known connection, judged with few instructions.
//!
//! Ordinary is TCP or UDP, whole, untagged, without IP options or extension headers, that neither
//! opens nor closes anything and leaves as it came: as a super-frame, too, unless by a tunnel. The fast path has no rules of its own:
//! it rules out what is unusual, with nothing changed yet, and then calls what the general path calls.
//! Whatever is unusual goes to [`PacketPath::one`].
//!
//! Everything is compiled once for each family, protocol and forwarding method, so that the processor
//! meets none of these questions again.

use super::connections::{Connections, Direction, Entry, Flags, Guess, Via};
use super::egress::flow_hash;
use super::forward::{self, nat, nat::Rewrite, tunnel};
use super::ftp;
use super::known::assure;
use super::parse::{Fragment, Packet};
use super::states;
use super::{Address, Frame, PacketPath, Verdict, View, tuple};
use crate::frame::{Offload, Segmentation};
use crate::table::{Method, Near, PortId};
use crate::tick::Ticks;
use crate::wire::ip::{self, v4, v6};
use crate::wire::transport::{SOURCE_PORT, tcp, udp};
use crate::wire::{be16, be32, be64, be128, byte, ethernet, put16};

/// Where the IP header starts.
const L3: usize = ethernet::LENGTH;
/// The shortest frame of interest. Shorter ones do not occur on a wire.
const SHORTEST: usize = L3 + v4::LENGTH + tcp::LENGTH;
const TCP: u32 = ip::TCP as u32;
const UDP: u32 = ip::UDP as u32;

// Forwarding methods, as parameters of types.
const NAT: u8 = Via::Nat as u8;
const LOCAL: u8 = Via::Local as u8;
const TUNNEL: u8 = Via::Tunnel as u8;
const DIRECT: u8 = Via::DirectRouting as u8;
const FULL_NAT: u8 = Via::FullNat as u8;

/// Judges packets of one kind.
type Run = fn(&mut PacketPath, &View<'_>, &mut [Frame<'_>], &[Sight], &mut [Verdict]) -> usize;

/// What the first two passes over a batch learn of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sight {
    hash: u64,
    guess: Guess,
    /// IPv4: source and destination address.
    addresses: u64,
    /// Source and destination port.
    ports: u32,
    /// Of the IP packet, in bytes.
    length: u16,
    kind: Kind,
}

/// What kind of frame it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Kind {
    /// Nothing is known of it.
    #[default]
    Unread,
    /// Its tuple is known, but it opens or closes a connection.
    Unusual,
    Tcp4,
    Udp4,
    Tcp6,
    Udp6,
}

impl Kind {
    #[inline(always)]
    const fn of<const V6: bool, const PROTOCOL: u8>() -> Self {
        match (V6, PROTOCOL == ip::TCP) {
            (false, true) => Self::Tcp4,
            (false, false) => Self::Udp4,
            (true, true) => Self::Tcp6,
            (true, false) => Self::Udp6,
        }
    }
}

impl Sight {
    /// The first pass: reads the headers and asks for the line of the index. What it cannot make
    /// sense of stays unread. Neighbouring fields are judged together.
    #[inline(always)]
    pub fn look(&mut self, frame: &Frame<'_>, connections: &Connections) {
        let Some(bytes) = frame.at_least(SHORTEST) else { return };
        // EtherType, version with header length, and one byte more.
        let kind = be32(bytes, ethernet::TYPE);
        if kind & 0xffff_ff00 == u32::from(ethernet::IPV4) << 16 | 0x4500 {
            self.look_v4(bytes, connections);
        } else if kind & 0xffff_f000 == u32::from(ethernet::IPV6) << 16 | 0x6000 {
            self.look_v6(bytes, connections);
        }
    }

    #[inline(always)]
    fn look_v4(&mut self, bytes: &[u8], connections: &Connections) {
        const FRAGMENT: u32 = ((v4::MF | v4::OFFSET) as u32) << 16;
        let length = be16(bytes, L3 + v4::TOTAL_LENGTH);
        // Fragment field, hop limit and protocol.
        match be32(bytes, L3 + v4::FRAGMENT) & (FRAGMENT | 0xff) {
            TCP => self.look_above::<false, { ip::TCP }>(bytes, length, connections),
            UDP => self.look_above::<false, { ip::UDP }>(bytes, length, connections),
            _ => {}
        }
    }

    #[inline(always)]
    fn look_v6(&mut self, bytes: &[u8], connections: &Connections) {
        let payload = be16(bytes, L3 + v6::PAYLOAD_LENGTH);
        let Some(length) = payload.checked_add(v6::LENGTH as u16) else { return };
        match u32::from(byte(bytes, L3 + v6::NEXT_HEADER)) {
            TCP => self.look_above::<true, { ip::TCP }>(bytes, length, connections),
            UDP => self.look_above::<true, { ip::UDP }>(bytes, length, connections),
            _ => {}
        }
    }

    /// `length`: of the whole IP packet.
    #[inline(always)]
    fn look_above<const V6: bool, const PROTOCOL: u8>(
        &mut self,
        bytes: &[u8],
        length: u16,
        connections: &Connections,
    ) {
        let l4 = l4::<V6>();
        if bytes.len() < l4 + least::<PROTOCOL>() {
            return;
        }
        let seen = Self {
            addresses: be64(bytes, L3 + v4::SOURCE),
            ports: be32(bytes, l4 + SOURCE_PORT),
            length,
            ..*self
        };
        let packet = seen.packet::<V6, PROTOCOL>(bytes);
        let header = match PROTOCOL {
            ip::TCP => usize::from(byte(bytes, l4 + tcp::DATA_OFFSET) >> 4) * 4,
            _ => udp::LENGTH,
        };
        let mapped = V6 && (packet.source.is_v4() || packet.destination.is_v4());
        let short = header < least::<PROTOCOL>() || packet.end < l4 + header;
        if packet.end > bytes.len() || short || mapped {
            return;
        }
        let hash = connections.hash(&tuple(&packet));
        connections.prefetch(hash);
        let flags = if PROTOCOL == ip::TCP { byte(bytes, l4 + tcp::FLAGS) } else { 0 };
        let ordinary = states::is_ordinary(PROTOCOL, flags);
        let kind = if ordinary { Kind::of::<V6, PROTOCOL>() } else { Kind::Unusual };
        *self = Self { hash, kind, ..seen };
    }

    /// What the packet is, as far as rewriting it goes; its flags are of no interest any more.
    #[inline(always)]
    fn packet<const V6: bool, const PROTOCOL: u8>(&self, bytes: &[u8]) -> Packet {
        let (source, destination) = if V6 {
            let address = |at| Address::v6(be128(bytes, L3 + at));
            (address(v6::SOURCE), address(v6::DESTINATION))
        } else {
            (Address::v4((self.addresses >> 32) as u32), Address::v4(self.addresses as u32))
        };
        Packet {
            l3: L3,
            l4: l4::<V6>(),
            end: L3 + usize::from(self.length),
            vlan: None,
            source,
            destination,
            protocol: PROTOCOL,
            source_port: (self.ports >> 16) as u16,
            destination_port: self.ports as u16,
            flags: 0,
            fragment: Fragment::Whole,
        }
    }

    /// The second pass: looks the connection up and asks for its line.
    #[inline(always)]
    pub fn locate(&mut self, connections: &Connections) {
        self.guess = connections.guess(self.hash);
    }

    /// The entry that the packet probably belongs to, when it is of this kind and direction.
    #[inline(always)]
    fn entry<'a, const V6: bool, const PROTOCOL: u8>(
        &self,
        connections: &'a Connections,
        direction: Direction,
    ) -> Option<&'a Entry> {
        (self.kind == Kind::of::<V6, PROTOCOL>()).then_some(())?;
        connections.guessed(self.guess, direction)
    }

    /// Whether a real server's packet belongs to the connection, leaves it as it is and asks for
    /// nothing but new addresses.
    #[inline(always)]
    fn is_mere_reply<const V6: bool, const PROTOCOL: u8, const VIA: u8>(
        &self,
        view: &View<'_>,
        bytes: &[u8],
        entry: &Entry,
    ) -> bool {
        let packet = self.packet::<V6, PROTOCOL>(bytes);
        let (connections, reals) = (view.director.connections(), view.director.reals());
        let (meta, [_, virtual_port, ..]) = (entry.meta(), entry.ports());
        meta.via as u8 == VIA
            && meta.state == states::open_state(PROTOCOL)
            && meta.peer == 0
            && !meta.flags.has(Flags::NO_OUTPUT)
            && !meta.flags.has(Flags::SHIFTED)
            && !meta.flags.has(Flags::DOOMED)
            && !PacketPath::is_ftp(meta, virtual_port)
            && connections.is_entry(entry, Direction::Reply, &tuple(&packet), reals)
    }

    /// The hash of the packet's tuple, when it was read.
    #[inline]
    pub fn hash(&self) -> Option<u64> {
        (self.kind != Kind::Unread).then_some(self.hash)
    }
}

/// Where the transport header starts.
const fn l4<const V6: bool>() -> usize {
    L3 + if V6 { v6::LENGTH } else { v4::LENGTH }
}

/// The shortest transport header.
const fn least<const PROTOCOL: u8>() -> usize {
    if PROTOCOL == ip::TCP { tcp::LENGTH } else { udp::LENGTH }
}

impl PacketPath {
    /// The third pass: judges ordinary packets from the front of a batch on, as long as they are of
    /// one kind, go one way and are forwarded alike. How many; nothing is changed about the one after the last, which
    /// begins another run or is for the general path.
    pub(super) fn fast(
        &mut self,
        view: &View<'_>,
        frames: &mut [Frame<'_>],
        sights: &[Sight],
        verdicts: &mut [Verdict],
    ) -> usize {
        let Some(first) = sights.first() else { return 0 };
        let Some(direction) = first.guess.direction() else { return 0 };
        let guessed = view.director.connections().guessed(first.guess, direction);
        let Some(via) = guessed.map(|entry| entry.meta().via) else { return 0 };
        let run = match first.kind {
            Kind::Unread | Kind::Unusual => return 0,
            Kind::Tcp4 => Self::run_of::<false, { ip::TCP }>(direction, via),
            Kind::Udp4 => Self::run_of::<false, { ip::UDP }>(direction, via),
            Kind::Tcp6 => Self::run_of::<true, { ip::TCP }>(direction, via),
            Kind::Udp6 => Self::run_of::<true, { ip::UDP }>(direction, via),
        };
        run.map_or(0, |run| run(self, view, frames, sights, verdicts))
    }

    #[inline(always)]
    fn run_of<const V6: bool, const PROTOCOL: u8>(direction: Direction, via: Via) -> Option<Run> {
        const REPLY: bool = true;
        const CLIENT: bool = false;
        Some(match (direction, via) {
            (Direction::Forward, Via::Nat) => Self::run::<V6, PROTOCOL, CLIENT, NAT>,
            (Direction::Forward, Via::Local) => Self::run::<V6, PROTOCOL, CLIENT, LOCAL>,
            (Direction::Forward, Via::Tunnel) => Self::run::<V6, PROTOCOL, CLIENT, TUNNEL>,
            (Direction::Forward, Via::DirectRouting) => Self::run::<V6, PROTOCOL, CLIENT, DIRECT>,
            (Direction::Forward, Via::FullNat) => Self::run::<V6, PROTOCOL, CLIENT, FULL_NAT>,
            (Direction::Reply, Via::Nat) => Self::run::<V6, PROTOCOL, REPLY, NAT>,
            (Direction::Reply, Via::Local) => Self::run::<V6, PROTOCOL, REPLY, LOCAL>,
            (Direction::Reply, Via::FullNat) => Self::run::<V6, PROTOCOL, REPLY, FULL_NAT>,
            (Direction::Reply, Via::Tunnel | Via::DirectRouting) => return None,
        })
    }

    #[inline(never)]
    fn run<const V6: bool, const PROTOCOL: u8, const REPLY: bool, const VIA: u8>(
        &mut self,
        view: &View<'_>,
        frames: &mut [Frame<'_>],
        sights: &[Sight],
        verdicts: &mut [Verdict],
    ) -> usize {
        let (mut judged, mut near) = (0, Near::default());
        for ((frame, sight), verdict) in frames.iter_mut().zip(sights).zip(verdicts) {
            let port = if REPLY {
                self.fast_reply_packet::<V6, PROTOCOL, VIA>(view, frame, sight, &mut near)
            } else {
                self.fast_client_packet::<V6, PROTOCOL, VIA>(view, frame, sight)
            };
            let Some(port) = port else { break };
            *verdict = Verdict::Send(port);
            judged += 1;
        }
        judged
    }

    /// The life of an ordinary packet from a client, top to bottom.
    #[inline(always)]
    fn fast_client_packet<const V6: bool, const PROTOCOL: u8, const VIA: u8>(
        &mut self,
        view: &View<'_>,
        frame: &mut Frame<'_>,
        sight: &Sight,
    ) -> Option<PortId> {
        let connections = view.director.connections();
        let entry = sight.entry::<V6, PROTOCOL>(connections, Direction::Forward)?;
        let (bytes, offload) = frame.with_offload(l4::<V6>() + least::<PROTOCOL>())?;
        let packet = sight.packet::<V6, PROTOCOL>(bytes);
        let control = PROTOCOL == ip::TCP && packet.destination_port == ftp::CONTROL;
        let reads_text = matches!(VIA, NAT | LOCAL) && control;
        let open = states::open_state(PROTOCOL);
        if reads_text || !entry.is_from_client_by::<VIA>(&tuple(&packet), open) {
            return None;
        }
        if VIA == TUNNEL {
            return self.fast_send_through_tunnel(view, frame, packet, entry);
        }
        // The real server may have to learn about the client.
        if VIA == FULL_NAT && PROTOCOL == ip::TCP && Self::announces(*view, entry) {
            return None;
        }
        self.fast_send_to_real::<VIA>(view, (bytes, offload), packet, entry)
    }

    /// Sends an ordinary packet of a known connection through the tunnel to its real server.
    #[inline(always)]
    fn fast_send_through_tunnel(
        &mut self,
        view: &View<'_>,
        frame: &mut Frame<'_>,
        packet: Packet,
        entry: &Entry,
    ) -> Option<PortId> {
        let real = entry.real();
        let hop = view.hops.for_real(real).filter(|hop| hop.vlan.is_none())?;
        let Method::Tunnel(kind) = view.table.real(real)?.1.method else { return None };
        let source = view.hops.source_for_real(real)?;
        let (destination, mtu) = view.director.reals().path(real, hop.mtu)?;
        let is_v4 = destination.is_v4();
        let (length, mtu) = (tunnel::length(kind, is_v4), tunnel::inner_mtu(kind, is_v4, mtu));
        // Neither a checksum inside nor cutting can be left to the network card.
        let offload = frame.offload;
        let unfinished = offload.partial_checksum || offload.segmentation != Segmentation::None;
        if unfinished || frame.headroom() < length {
            return None;
        }
        let timeout = timeout(view, packet.protocol);
        let bytes = frame.bytes_mut();
        if !passes(bytes, &packet, &offload, mtu) || !entry.renew(view.now, timeout, 1) {
            return None;
        }
        self.counters.count_in(real, packet.ip_length());
        forward::decrement_hop_limit(bytes, &packet);
        self.tunnel_id = self.tunnel_id.wrapping_add(1);
        let outer = tunnel::Outer {
            source: source.into(),
            destination,
            id: self.tunnel_id,
            flow: flow_hash(&packet),
            discover_mtu: view.table.tunables.pmtu_disc,
        };
        // Ethernet padding must not end up behind the inner packet.
        frame.set_len(packet.end)?;
        frame.push_front(length)?;
        let bytes = frame.bytes_mut();
        forward::write_macs(bytes, hop);
        put16(bytes, ethernet::TYPE, if is_v4 { ethernet::IPV4 } else { ethernet::IPV6 });
        let (head, inner) = bytes.get_mut(L3..)?.split_at_mut_checked(length)?;
        tunnel::write(kind, head, inner, &outer);
        Some(hop.port)
    }

    /// Sends an ordinary packet of a known connection to its real server.
    #[inline(always)]
    fn fast_send_to_real<const VIA: u8>(
        &mut self,
        view: &View<'_>,
        (bytes, offload): (&mut [u8], &Offload),
        mut packet: Packet,
        entry: &Entry,
    ) -> Option<PortId> {
        let (real, reals) = (entry.real(), view.director.reals());
        let hop = view.hops.for_real(real).filter(|hop| hop.vlan.is_none())?;
        let address = reals.address(real);
        let timeout = timeout(view, packet.protocol);
        if !passes(bytes, &packet, offload, hop.mtu) || !entry.renew(view.now, timeout, 1) {
            return None;
        }
        self.counters.count_in(real, packet.ip_length());
        let [_, _, real_port, local_port] = entry.ports();
        let mut new = Rewrite { source: None, destination: Some((address, real_port)), hops: 1 };
        if VIA == FULL_NAT {
            new.source = Some((reals.local_address(entry.meta().local), local_port));
        }
        if VIA == DIRECT {
            forward::decrement_hop_limit(bytes, &packet);
        } else {
            nat::rewrite_bytes(bytes, offload.partial_checksum, &mut packet, new);
        }
        forward::write_macs(bytes, hop);
        Some(hop.port)
    }

    /// The life of an ordinary packet from a real server, top to bottom.
    #[inline(always)]
    fn fast_reply_packet<'a, const V6: bool, const PROTOCOL: u8, const VIA: u8>(
        &mut self,
        view: &View<'a>,
        frame: &mut Frame<'_>,
        sight: &Sight,
        near: &mut Near<'a>,
    ) -> Option<PortId> {
        let (connections, input) = (view.director.connections(), frame.ingress);
        let entry = sight.entry::<V6, PROTOCOL>(connections, Direction::Reply)?;
        let (bytes, offload) = frame.with_offload(l4::<V6>() + least::<PROTOCOL>())?;
        let packet = sight.packet::<V6, PROTOCOL>(bytes);
        let [_, virtual_port, ..] = entry.ports();
        let control = PROTOCOL == ip::TCP && virtual_port == ftp::CONTROL;
        let (real, open) =
            (view.director.reals().address(entry.real()), states::open_state(PROTOCOL));
        let mere = if VIA == NAT {
            !control && entry.is_nat_from_real(&tuple(&packet), real, open)
        } else {
            sight.is_mere_reply::<V6, PROTOCOL, VIA>(view, bytes, entry)
        };
        if !mere {
            return None;
        }
        self.fast_send_to_client::<VIA>(view, (bytes, offload, input), packet, (entry, near))
    }

    /// Sends an ordinary packet of a known connection to its client.
    #[inline(always)]
    fn fast_send_to_client<'a, const VIA: u8>(
        &mut self,
        view: &View<'a>,
        (bytes, offload, input): (&mut [u8], &Offload, PortId),
        mut packet: Packet,
        (entry, near): (&Entry, &mut Near<'a>),
    ) -> Option<PortId> {
        let [client_port, virtual_port, ..] = entry.ports();
        let client = if VIA == FULL_NAT { entry.client() } else { packet.destination };
        let virtual_address = entry.virtual_address_in(packet.is_v4());
        let hop = view.hops.known(client, (virtual_address, input), near)?;
        let timeout = timeout(view, packet.protocol);
        if !passes(bytes, &packet, offload, hop.mtu) || !entry.renew(view.now, timeout, 0) {
            return None;
        }
        self.counters.count_out(entry.real(), packet.ip_length());
        if packet.protocol == ip::UDP {
            assure(*view, entry);
        }
        let source = Some((virtual_address, virtual_port));
        let mut new = Rewrite { source, destination: None, hops: 1 };
        if VIA == FULL_NAT {
            new.destination = Some((client, client_port));
        }
        nat::rewrite_bytes(bytes, offload.partial_checksum, &mut packet, new);
        forward::write_macs(bytes, hop);
        Some(hop.port)
    }
}

/// How long connections last that ordinary packets of this protocol change nothing about.
#[inline(always)]
fn timeout(view: &View<'_>, protocol: u8) -> Ticks {
    states::timeout(protocol, states::open_state(protocol), &view.table.timeouts)
}

/// Whether a packet may go on whole, or cut by the network card.
#[inline(always)]
fn passes(bytes: &[u8], packet: &Packet, offload: &Offload, mtu: u16) -> bool {
    let fits = packet.ip_length() <= usize::from(mtu)
        || forward::largest_on_wire(bytes, offload, packet) <= usize::from(mtu);
    fits && forward::may_hop(bytes, packet)
}
