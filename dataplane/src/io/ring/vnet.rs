//! The virtio-net header that the kernel puts before each frame of a packet socket with
//! `PACKET_VNET_HDR`. Fields are in the host's byte order (legacy virtio; VIRTIO 1.2, 5.1.6).

use crate::frame::{Offload, Segmentation};
/// Length of the header in bytes.
pub const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What a header says. `None` for a kind of super-frame that cannot be described to the packet path
/// (UDP fragmentation offload, which kernels stopped making in 4.14).
pub fn decode(header: &[u8; LENGTH]) -> Option<Offload> {
    let field = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let ecn = header[1] & GSO_ECN != 0;
    let segmentation = match header[1] & !GSO_ECN {
        GSO_NONE => Segmentation::None,
        GSO_TCP4 => Segmentation::Tcp4 { ecn },
        GSO_TCP6 => Segmentation::Tcp6 { ecn },
        GSO_UDP => Segmentation::Udp,
        _ => return None,
    };
    let partial_checksum = header[0] & NEEDS_CHECKSUM != 0;
    let mut offload = Offload { partial_checksum, segmentation, ..Offload::default() };
    if segmentation != Segmentation::None {
        offload.header_length = field(2);
        offload.segment_size = field(4);
    }
    if partial_checksum {
        offload.checksum_start = field(6);
        offload.checksum_offset = field(8);
    }
    Some(offload)
}

/// The header for a frame. "Checksum is valid" is never claimed: the receiver verifies what is
/// complete.
pub fn encode(offload: &Offload) -> [u8; LENGTH] {
    let mut header = [0; LENGTH];
    let mut put = |at: usize, value: u16| {
        header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    };
    if offload.partial_checksum {
        put(6, offload.checksum_start);
        put(8, offload.checksum_offset);
    }
    if offload.segmentation != Segmentation::None {
        put(2, offload.header_length);
        put(4, offload.segment_size);
    }
    header[0] = if offload.partial_checksum { NEEDS_CHECKSUM } else { 0 };
    let with = |kind: u8, ecn: bool| if ecn { kind | GSO_ECN } else { kind };
    header[1] = match offload.segmentation {
        Segmentation::None => GSO_NONE,
        Segmentation::Tcp4 { ecn } => with(GSO_TCP4, ecn),
        Segmentation::Tcp6 { ecn } => with(GSO_TCP6, ecn),
        Segmentation::Udp => GSO_UDP,
    };
    header
}

/// `offload` after `count` bytes were put in before the checksummed part.
pub const fn shifted(mut offload: Offload, count: u16) -> Offload {
    if offload.partial_checksum {
        offload.checksum_start = offload.checksum_start.saturating_add(count);
    }
    if !matches!(offload.segmentation, Segmentation::None) {
        offload.header_length = offload.header_length.saturating_add(count);
    }
    offload
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segmentation() -> impl Strategy<Value = Segmentation> {
        prop_oneof![
            Just(Segmentation::None),
            any::<bool>().prop_map(|ecn| Segmentation::Tcp4 { ecn }),
            any::<bool>().prop_map(|ecn| Segmentation::Tcp6 { ecn }),
            Just(Segmentation::Udp),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            partial_checksum: bool, segmentation in segmentation(), fields: [u16; 4],
        ) {
            let [a, b, c, d] = fields;
            let mut offload = Offload { partial_checksum, segmentation, ..Offload::default() };
            if partial_checksum {
                (offload.checksum_start, offload.checksum_offset) = (a, b);
            }
            if segmentation != Segmentation::None {
                (offload.segment_size, offload.header_length) = (c, d);
            }
            prop_assert_eq!(decode(&encode(&offload)), Some(offload));
        }

        #[test]
        fn every_header_decodes_or_is_refused(header: [u8; LENGTH]) {
            if let Some(offload) = decode(&header) {
                prop_assert_eq!(decode(&encode(&offload)), Some(offload));
            }
        }
    }

    #[test]
    fn udp_fragmentation_offload_is_refused() {
        assert_eq!(decode(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
