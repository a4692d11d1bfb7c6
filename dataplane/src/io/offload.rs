//! What network cards do for senders, done in software: for interfaces that take only finished
//! frames, and for frames that do not say what was left undone.

use crate::frame::{Frame, Offload, Segmentation};
use crate::packet_path::forward::split;
use crate::packet_path::parse::{self, Fragment, Packet, Parsed};

use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::transport::{sctp, tcp, udp};
use crate::wire::{be16, byte, ip, put, put16};

/// Buffers that are reused from frame to frame.
#[derive(Debug, Default)]
pub struct Workshop {
    piece: Vec<u8>,
    frame: Vec<u8>,
}

impl Workshop {
    /// Gives `each` the frames that really go on a wire: the frame itself with its checksum
    /// finished, or the segments of a super-frame. False when the frame cannot be understood.
    pub fn finished(&mut self, frame: &mut Frame<'_>, mut each: impl FnMut(&[u8])) -> bool {
        if frame.offload.segmentation == Segmentation::None {
            finish_checksum(frame);
            each(frame.bytes());
            return true;
        }
        let Ok(Parsed::Ip(packet)) = parse::frame(frame.bytes()) else { return false };
        if !matches!(packet.protocol, ip::TCP | ip::UDP) {
            return false;
        }
        let Some(ethernet) = frame.bytes().get(..packet.l3) else { return false };
        let whole = &mut self.frame;
        split::segments(frame, &packet, &mut self.piece, |piece| {
            whole.clear();
            whole.extend_from_slice(ethernet);
            whole.extend_from_slice(piece);
            each(whole);
        });
        true
    }
}

/// Finishes a partial checksum, in place. Works behind tunnel headers too, as the field holds the
/// sum of the pseudo-header already.
pub fn finish_checksum(frame: &mut Frame<'_>) {
    if !frame.offload.partial_checksum {
        return;
    }
    frame.offload.partial_checksum = false;
    let start = usize::from(frame.offload.checksum_start);
    let offset = usize::from(frame.offload.checksum_offset);
    let end = match parse::frame(frame.bytes()) {
        Ok(Parsed::Ip(packet)) => packet.end,
        Ok(Parsed::Arp(_) | Parsed::Other) | Err(_) => frame.len(),
    };
    let Some(covered) = frame.bytes_mut().get_mut(start..end) else { return };
    if covered.len() < offset + 2 {
        return;
    }
    if offset == sctp::CHECKSUM && covered.len() >= sctp::LENGTH {
        put(covered, offset, &[0; 4]);
        let crc = crc32c::crc32c(covered);
        put(covered, offset, &crc.to_le_bytes());
        return;
    }
    let checksum = Sum::default().bytes(covered).checksum();
    // 0 would say "no checksum" in UDP, and means the same as 0xffff elsewhere.
    put16(covered, offset, if checksum == 0 { 0xffff } else { checksum });
}

/// Finishes SCTP's checksum, which the kernel cannot be asked to do: virtio-net headers know only
/// the Internet checksum.
pub fn finish_sctp(frame: &mut Frame<'_>) {
    if frame.offload.partial_checksum
        && usize::from(frame.offload.checksum_offset) == sctp::CHECKSUM
    {
        finish_checksum(frame);
    }
}

/// Recognises what the sender left to a network card, in a frame that came without saying: a
/// transport checksum that holds only the pseudo-header's sum, and, with frames longer than `mtu`
/// allows, TCP segments still to be cut.
///
/// A finished checksum looks like the sum of its pseudo-header once in 65,536 frames; it is told
/// apart by being right.
pub fn recognise(frame: &mut Frame<'_>, mtu: usize) {
    let Ok(Parsed::Ip(packet)) = parse::frame(frame.bytes()) else { return };
    if packet.fragment != Fragment::Whole {
        return;
    }
    let offset = match packet.protocol {
        ip::TCP => tcp::CHECKSUM,
        ip::UDP => udp::CHECKSUM,
        ip::SCTP => sctp::CHECKSUM,
        _ => return,
    };
    let bytes = frame.bytes();
    let covered = bytes.get(packet.l4..packet.end).unwrap_or_default();
    if covered.len() < offset + 2 || !is_partial(&packet, covered, offset) {
        return;
    }
    let Ok(checksum_start) = u16::try_from(packet.l4) else { return };
    let mut offload = Offload {
        partial_checksum: true,
        checksum_start,
        checksum_offset: offset as u16,
        ..Offload::default()
    };
    if packet.ip_length() > mtu && packet.protocol == ip::TCP {
        let header = packet.l4 + usize::from(byte(covered, tcp::DATA_OFFSET) >> 4) * 4;
        let room = (mtu + packet.l3).saturating_sub(header);
        offload.header_length = u16::try_from(header).unwrap_or(0);
        offload.segment_size = u16::try_from(room).unwrap_or(0);
        offload.segmentation = if packet.is_v4() {
            Segmentation::Tcp4 { ecn: false }
        } else {
            Segmentation::Tcp6 { ecn: false }
        };
    }
    frame.offload = offload;
}

/// Whether the checksum field holds only the pseudo-header's sum; SCTP has no pseudo-header, and
/// leaves 0.
fn is_partial(packet: &Packet, covered: &[u8], offset: usize) -> bool {
    let field = be16(covered, offset);
    if packet.protocol == ip::SCTP {
        return field == 0 && be16(covered, offset + 2) == 0;
    }
    let length = u32::try_from(covered.len()).unwrap_or(0);
    let (from, to) = (packet.source.0, packet.destination.0);
    let pseudo = pseudo_header(packet.is_v4(), from, to, packet.protocol, length);
    if field != pseudo.fold() || field == 0 {
        return false;
    }
    pseudo.bytes(covered).fold() != 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet_path::forward::nat;
    use crate::table::PortId;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    struct Shape {
        v6: bool,
        protocol: u8,
        tagged: bool,
    }

    fn shape() -> impl Strategy<Value = Shape> {
        let protocol = prop::sample::select(vec![ip::TCP, ip::UDP, ip::SCTP]);
        (any::<bool>(), protocol, any::<bool>()).prop_map(|(v6, protocol, tagged)| Shape {
            v6,
            protocol,
            tagged,
        })
    }

    /// A frame with a right checksum, made by other code.
    fn built(shape: Shape, payload: &[u8]) -> Vec<u8> {
        let builder = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6]);
        let vlan = etherparse::VlanId::try_from(7).unwrap();
        let mut bytes = Vec::new();
        macro_rules! build {
            ($builder:expr) => {{
                let builder = $builder;
                let builder = if shape.v6 {
                    builder.ipv6([0x20; 16], [0x30; 16], 64)
                } else {
                    builder.ipv4([10, 1, 2, 3], [192, 0, 2, 10], 64)
                };
                if shape.protocol == ip::TCP {
                    builder.tcp(4242, 80, 1000, 512).ack(1).write(&mut bytes, payload).unwrap();
                } else if shape.protocol == ip::UDP {
                    builder.udp(4242, 80).write(&mut bytes, payload).unwrap();
                } else {
                    let header = [0x10, 0x92, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0];
                    let whole = [&header, payload].concat();
                    let next = etherparse::IpNumber(shape.protocol);
                    builder.write(&mut bytes, next, &whole).unwrap();
                }
            }};
        }
        if shape.tagged {
            build!(builder.single_vlan(vlan))
        } else {
            build!(builder)
        }
        if shape.protocol == ip::SCTP {
            let Ok(Parsed::Ip(packet)) = parse::frame(&bytes) else { panic!() };
            nat::sctp_checksum(&mut bytes, packet.l4, packet.end);
        }
        bytes
    }

    /// What a sender with checksum offload makes of it.
    fn unfinished(bytes: &[u8]) -> (Vec<u8>, Offload) {
        let mut bytes = bytes.to_vec();
        let Ok(Parsed::Ip(packet)) = parse::frame(&bytes) else { panic!() };
        let (offset, width) = match packet.protocol {
            ip::TCP => (16, 2),
            ip::UDP => (6, 2),
            _ => (8, 4),
        };
        let length = (packet.end - packet.l4) as u32;
        let (from, to) = (packet.source.0, packet.destination.0);
        let sum = pseudo_header(packet.is_v4(), from, to, packet.protocol, length).fold();
        let field = &mut bytes[packet.l4 + offset..][..width];
        if width == 2 {
            field.copy_from_slice(&sum.to_be_bytes())
        } else {
            field.fill(0)
        }
        let offload = Offload {
            partial_checksum: true,
            checksum_start: packet.l4 as u16,
            checksum_offset: offset as u16,
            ..Offload::default()
        };
        (bytes, offload)
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..200)
    }

    proptest! {
        #[test]
        fn what_was_left_undone_is_recognised_and_finished(shape in shape(), payload in payload()) {
            let whole = built(shape, &payload);
            let (mut bytes, offload) = unfinished(&whole);
            let end = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, end, PortId(0));
            recognise(&mut frame, 1500);
            prop_assert_eq!(frame.offload, offload);
            let mut seen = Vec::new();
            prop_assert!(Workshop::default().finished(&mut frame, |b| seen.push(b.to_vec())));
            prop_assert_eq!(seen, [whole]);
        }

        #[test]
        fn a_finished_frame_stays_as_it_is(shape in shape(), payload in payload()) {
            let mut bytes = built(shape, &payload);
            let copy = bytes.clone();
            let end = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, end, PortId(0));
            recognise(&mut frame, 1500);
            prop_assert_eq!(frame.offload, Offload::default());
            finish_checksum(&mut frame);
            prop_assert_eq!(frame.bytes(), copy);
        }

        #[test]
        fn no_frame_and_no_offload_make_it_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
            kind in prop::sample::select(vec![[8, 0], [0x86, 0xdd], [0x81, 0]]),
            fields: [u16; 4], tcp: bool,
        ) {
            if bytes.len() > 24 {
                bytes[12..14].copy_from_slice(&kind);
                bytes[14] = if kind == [8, 0] { 0x45 } else { 0x60 };
                bytes[23] = if tcp { 6 } else { 17 };
            }
            let end = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, end, PortId(0));
            recognise(&mut frame, 20);
            let [checksum_start, checksum_offset, segment_size, header_length] = fields;
            frame.offload = Offload {
                partial_checksum: true,
                checksum_start: checksum_start % 150,
                checksum_offset: checksum_offset % 20,
                segmentation:
                    if tcp { Segmentation::Tcp4 { ecn: true } } else { Segmentation::None },
                segment_size,
                header_length,
            };
            Workshop::default().finished(&mut frame, |_| ());
        }
    }

    #[test]
    fn a_super_frame_is_recognised_by_its_length_and_cut_to_the_mtu() {
        for v6 in [false, true] {
            let shape = Shape { v6, protocol: ip::TCP, tagged: true };
            let payload: Vec<u8> = (0..30_000u32).map(|i| (i / 3) as u8).collect();
            let (mut bytes, _) = unfinished(&built(shape, &payload));
            let end = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, end, PortId(0));
            recognise(&mut frame, 1500);
            let mut seen = Vec::new();
            let finished = Workshop::default().finished(&mut frame, |bytes| {
                let Ok(Parsed::Ip(packet)) = parse::frame(bytes) else { panic!() };
                assert!(packet.ip_length() <= 1500 && packet.vlan.is_some());
                let mut copy = bytes.to_vec();
                let end = copy.len();
                let mut again = Frame::new(&mut copy, 0, end, PortId(0));
                recognise(&mut again, 1500);
                assert_eq!(again.offload, Offload::default(), "checksums are finished");
                seen.extend_from_slice(&bytes[packet.l4 + 20..]);
            });
            assert!(finished);
            assert_eq!(seen, payload);
        }
    }
}
