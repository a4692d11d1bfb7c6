//! How a real server behind full NAT learns whom it serves: a TCP option on the client's first
//! segments, or a PROXY protocol header (version 2) before the client's first byte.

use super::connections::{Entry, Flags, Slot};
use super::forward::split;
use super::parse::Packet;
use super::sequence::{self, Shift};
use super::{PacketPath, View};
use crate::frame::{Frame, Offload, Segmentation};
use crate::table::{ClientAddress, Hop};
use crate::wire::transport::tcp;
use crate::wire::{be32, byte, ip, put, put16, put32};
use arrayvec::ArrayVec;

/// Client packets that carry the option: the end of the handshake and the first data, so that one
/// lost segment does not lose the address.
pub(super) const MARKED_PACKETS: u16 = 4;
/// PROXY protocol 2: signature, version and command, then family and length.
const SIGNATURE: [u8; 13] = *b"\r\n\r\n\0\r\nQUIT\n\x21";
/// The longest header: IPv6.
type ProxyHeader = ArrayVec<u8, 52>;

/// A PROXY header on its way to the real server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcement {
    /// Sequence number of the client's first byte, as the client counts.
    start: u32,
    /// What the header adds.
    shift: Shift,
    /// The real server has acknowledged the header.
    arrived: bool,
}

impl Announcement {
    /// One that another director made. Should its header not have arrived, the client's first byte
    /// comes again and brings it along; should it have, the real server has no use for it twice.
    pub(super) const fn resumed(shift: Shift) -> Self {
        Self { start: shift.start.wrapping_add(1), shift, arrived: false }
    }

    pub(super) const fn shift(&self) -> Shift {
        self.shift
    }
}

impl PacketPath {
    /// Whether the real server of a connection is told about its client.
    pub(super) fn announces(view: View<'_>, entry: &Entry) -> bool {
        Self::announcement_kind(view, entry) != ClientAddress::Hidden
    }

    fn announcement_kind(view: View<'_>, entry: &Entry) -> ClientAddress {
        let service = view.table.real(entry.real()).map(|(service, _)| service);
        service.map_or(ClientAddress::Hidden, |service| service.client_address)
    }

    /// Tells the real server about the client with this segment, before it is rewritten.
    pub(super) fn announce_client(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &mut Packet,
        slot: Slot,
        hop: &Hop,
    ) {
        let entry = view.director.connections().entry(slot);
        match Self::announcement_kind(view, entry) {
            ClientAddress::Hidden => {}
            ClientAddress::TcpOption(kind) => {
                let handshake = packet.flags & (tcp::SYN | tcp::RST) != 0;
                if !handshake && entry.meta().flags.has(Flags::YOUNG) {
                    insert_option(frame, packet, kind, hop.mtu);
                }
            }
            ClientAddress::ProxyProtocol => self.announce_by_proxy(view, frame, packet, slot, hop),
        }
    }

    fn announce_by_proxy(
        &mut self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        slot: Slot,
        hop: &Hop,
    ) {
        let sequence = be32(frame.bytes(), packet.l4 + tcp::SEQUENCE);
        let header = proxy_header(packet);
        if packet.flags & tcp::SYN != 0 {
            let mut shift = Shift::default();
            // From the first byte on: that is, after the SYN.
            shift.grow(sequence, i32::try_from(header.len()).unwrap_or(0));
            view.director.announcements().insert(slot, Announcement::resumed(shift));
            view.director.mark_shifted(slot);
            return;
        }
        let Some(told) = view.director.announcements().get(&slot).copied() else { return };
        if !told.arrived && sequence == told.start && packet.flags & tcp::RST == 0 {
            self.send_proxy_header(view, frame, packet, slot, (&header, hop));
        }
        let partial = frame.offload.partial_checksum;
        if let Some(segment) = frame.bytes_mut().get_mut(packet.l4..packet.end) {
            sequence::apply(segment, &told.shift, &Shift::default(), partial);
        }
    }

    /// Sends the header in a segment of its own. As long as it has not arrived, every segment with
    /// the client's first byte brings it along again.
    fn send_proxy_header(
        &mut self,
        view: View<'_>,
        frame: &Frame<'_>,
        packet: &Packet,
        slot: Slot,
        (header, hop): (&[u8], &Hop),
    ) {
        let entry = view.director.connections().entry(slot);
        let meta = entry.meta();
        let [_, _, real_port, local_port] = entry.ports();
        let from = view.director.reals().local_address(meta.local);
        let to = view.director.reals().address(entry.real());
        let original = frame.bytes().get(packet.l4..).unwrap_or_default();
        const PSH: u8 = 0x08;
        let mut segment = [0; tcp::LENGTH];
        put(&mut segment, 0, original.get(..tcp::LENGTH).unwrap_or_default());
        put16(&mut segment, 0, local_port);
        put16(&mut segment, 2, real_port);
        put(&mut segment, tcp::DATA_OFFSET, &[5 << 4, tcp::ACK | PSH]);
        put32(&mut segment, tcp::CHECKSUM, 0);
        let length = u32::try_from(tcp::LENGTH + header.len()).unwrap_or(0);
        let sum = crate::wire::checksum::pseudo_header(from.is_v4(), from.0, to.0, ip::TCP, length);
        let checksum = sum.bytes(&segment).bytes(header).checksum();
        put16(&mut segment, tcp::CHECKSUM, checksum);
        super::icmp_error::push_packet(
            &mut self.outbox,
            hop,
            (from, to),
            ip::TCP,
            &[&segment, header],
        );
    }

    /// Shifts a reply's acknowledgements back, and notes when the header has arrived.
    pub(super) fn undo_announcement(
        &self,
        view: View<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        slot: Slot,
    ) {
        let mut announcements = view.director.announcements();
        let Some(told) = announcements.get_mut(&slot) else { return };
        let acknowledged = be32(frame.bytes(), packet.l4 + tcp::ACKNOWLEDGEMENT);
        told.arrived |= told.shift.back(acknowledged) != acknowledged;
        let partial = frame.offload.partial_checksum;
        if let Some(segment) = frame.bytes_mut().get_mut(packet.l4..packet.end) {
            sequence::apply(segment, &Shift::default(), &told.shift, partial);
        }
    }
}

/// The header for this client and VIP.
fn proxy_header(packet: &Packet) -> ProxyHeader {
    let mut header = ProxyHeader::new();
    let mut put = |bytes: &[u8]| {
        // 16 bytes of preamble and at most 36 of addresses are 52.
        let _ = header.try_extend_from_slice(bytes);
    };
    put(&SIGNATURE);
    if packet.is_v4() {
        put(&[0x11, 0, 12]);
        put(&packet.source.low().to_be_bytes());
        put(&packet.destination.low().to_be_bytes());
    } else {
        put(&[0x21, 0, 36]);
        put(&packet.source.0.to_be_bytes());
        put(&packet.destination.0.to_be_bytes());
    }
    put(&packet.source_port.to_be_bytes());
    put(&packet.destination_port.to_be_bytes());
    header
}

/// Puts an option with the client's port and address first among a segment's options. A segment
/// that has no room for it, and a super-frame, goes without.
fn insert_option(frame: &mut Frame<'_>, packet: &mut Packet, kind: u8, mtu: u16) {
    let mut option: ArrayVec<u8, 20> = ArrayVec::new();
    let length = if packet.is_v4() { 8 } else { 20 };
    let mut put_in = |bytes: &[u8]| {
        // Two bytes of kind and length, two of port, and an address: 8 or 20.
        let _ = option.try_extend_from_slice(bytes);
    };
    put_in(&[kind, length]);
    put_in(&packet.source_port.to_be_bytes());
    if packet.is_v4() {
        put_in(&packet.source.low().to_be_bytes());
    } else {
        put_in(&packet.source.0.to_be_bytes());
    }
    let added = option.len();
    let words = byte(frame.bytes(), packet.l4 + tcp::DATA_OFFSET) >> 4;
    let full = usize::from(words) * 4 + added > 60;
    let super_frame = frame.offload.segmentation != Segmentation::None;
    if full || super_frame || packet.ip_length() + added > usize::from(mtu) {
        return;
    }
    if frame.push_front(added).is_none() {
        return;
    }
    let head = packet.l4 + tcp::LENGTH;
    let bytes = frame.bytes_mut();
    bytes.copy_within(added..added + head, 0);
    put(bytes, head, &option);
    packet.end += added;
    let offset = byte(bytes, packet.l4 + tcp::DATA_OFFSET);
    let grown = u8::try_from(added * 4).unwrap_or(0);
    put(bytes, packet.l4 + tcp::DATA_OFFSET, &[offset.wrapping_add(grown)]);
    set_ip_length(bytes, packet);
    frame.offload = Offload { partial_checksum: true, ..Offload::default() };
    split::finish_checksum(frame, packet);
}

fn set_ip_length(bytes: &mut [u8], packet: &Packet) {
    let length = packet.ip_length();
    let Some(header) = bytes.get_mut(packet.l3..) else { return };
    if packet.is_v4() {
        put16(header, ip::v4::TOTAL_LENGTH, u16::try_from(length).unwrap_or(u16::MAX));
        split::header_checksum(header);
    } else {
        let added = length.saturating_sub(ip::v6::LENGTH);
        put16(header, ip::v6::PAYLOAD_LENGTH, u16::try_from(added).unwrap_or(u16::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet_path::tests::fixture::packet::{assert_sound, parsed, tcp};
    use crate::packet_path::tests::fixture::*;
    use crate::table::{Method, Protocol};

    fn network(v6: bool, client_address: ClientAddress) -> Network {
        let mut one = service(0, v6, Protocol::Tcp, Method::FullNat);
        one.client_address = client_address;
        Network::new(vec![one])
    }

    fn segment(v6: bool, sequence: u32, flags: &str, payload: &[u8]) -> Vec<u8> {
        let (client, vip) = if v6 { (CLIENT6, VIP6) } else { (CLIENT4, VIP4) };
        let mut frame = tcp(((client, 4242), (vip, 80)), flags, payload);
        let packet = parsed(&frame);
        put32(&mut frame, packet.l4 + tcp::SEQUENCE, sequence);
        let length = frame.len();
        let mut whole = Frame::new(&mut frame, 0, length, OUTSIDE);
        whole.offload.partial_checksum = true;
        split::finish_checksum(&mut whole, &packet);
        frame
    }

    #[test]
    fn the_option_names_the_client_on_its_first_segments_only() {
        for v6 in [false, true] {
            let mut net = network(v6, ClientAddress::TcpOption(254));
            let (_, left) = net.arrive(OUTSIDE, &segment(v6, 10, "S", b""));
            assert_eq!(left[0].bytes.len(), segment(v6, 10, "S", b"").len(), "not on the SYN");
            let (_, left) = net.arrive(OUTSIDE, &segment(v6, 11, "A", b"hello"));
            let bytes = &left[0].bytes;
            assert_sound(&bytes[14..]);
            let packet = parsed(bytes);
            let option = &bytes[packet.l4 + 20..];
            assert_eq!(&option[..4], &[254, if v6 { 20 } else { 8 }, 0x10, 0x92]);
            assert!(bytes.ends_with(b"hello"));
            for _ in 0..4 {
                net.arrive(OUTSIDE, &segment(v6, 11, "A", b"hello"));
            }
            let (_, left) = net.arrive(OUTSIDE, &segment(v6, 11, "A", b"hello"));
            assert_eq!(left[0].bytes.len(), segment(v6, 11, "A", b"hello").len());
        }
    }

    #[test]
    fn the_option_does_not_come_back_on_a_long_connection() {
        let mut net = network(false, ClientAddress::TcpOption(254));
        net.arrive(OUTSIDE, &segment(false, 10, "S", b""));
        let plain = segment(false, 11, "A", b"hello");
        let marked = (0..3000).filter(|_| {
            let (_, left) = net.arrive(OUTSIDE, &plain);
            left[0].bytes.len() != plain.len()
        });
        assert_eq!(marked.count(), usize::from(MARKED_PACKETS) - 1, "not on the SYN");
    }

    #[test]
    fn the_proxy_header_comes_before_the_first_byte_until_it_has_arrived() {
        for v6 in [false, true] {
            let added = if v6 { 52 } else { 28 };
            let mut net = network(v6, ClientAddress::ProxyProtocol);
            let (_, left) = net.arrive(OUTSIDE, &segment(v6, 10, "S", b""));
            assert_eq!(left.len(), 1);
            let sent = parsed(&left[0].bytes);
            let sequence = |bytes: &[u8]| be32(bytes, parsed(bytes).l4 + tcp::SEQUENCE);
            for _ in 0..2 {
                let (_, left) = net.arrive(OUTSIDE, &segment(v6, 11, "A", b"hello"));
                assert_eq!(left.len(), 2, "the segment, and the header again");
                assert_eq!(sequence(&left[0].bytes), 11 + added);
                assert_eq!(sequence(&left[1].bytes), 11);
                assert_sound(&left[0].bytes[14..]);
                assert_sound(&left[1].bytes[14..]);
                let header = &left[1].bytes[parsed(&left[1].bytes).l4 + 20..];
                assert_eq!(header.len() as u32, added);
                assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21"));
            }
            let (real, own) = (sent.destination.to_string(), sent.source.to_string());
            let mut reply = tcp(((&real, 8080), (&own, sent.source_port)), "A", b"");
            let l4 = parsed(&reply).l4;
            put32(&mut reply, l4 + tcp::ACKNOWLEDGEMENT, 11 + added + 5);
            let (_, left) = net.arrive(INSIDE, &reply);
            assert_eq!(be32(&left[0].bytes, l4 + tcp::ACKNOWLEDGEMENT), 16);
            let (_, left) = net.arrive(OUTSIDE, &segment(v6, 16, "A", b"more"));
            assert_eq!((left.len(), sequence(&left[0].bytes)), (1, 16 + added));
        }
    }
}
