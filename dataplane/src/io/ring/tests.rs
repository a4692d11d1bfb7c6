use super::*;
use crate::frame::{BATCH, Batch, Frame, HEADROOM, Offload, Segmentation};
use crate::io::netns::Host;
use crate::io::{Receive, Sent, Transmit};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// An Ethernet frame of an unassigned type, so that no stack answers it.
fn frame_of(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
    bytes[..6].copy_from_slice(&[0xff; 6]);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes
}

fn wait(receive: &dyn Receive, milliseconds: u16) -> bool {
    let descriptor = receive.descriptor().unwrap();
    let timeout = PollTimeout::from(milliseconds);
    poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout).unwrap() > 0
}

/// Receives until `count` frames came or nothing comes any more.
fn collect(receive: &mut dyn Receive, count: usize) -> Vec<(Vec<u8>, Offload)> {
    collect_within(receive, count, 2000)
}

fn collect_within(
    receive: &mut dyn Receive,
    count: usize,
    milliseconds: u16,
) -> Vec<(Vec<u8>, Offload)> {
    let mut got = Vec::new();
    while got.len() < count && wait(receive, milliseconds) {
        let mut batch = Batch::new();
        receive.receive(&mut batch).unwrap();
        for frame in &batch {
            assert!(frame.headroom() >= HEADROOM, "headroom {}", frame.headroom());
            got.push((frame.bytes().to_vec(), frame.offload));
        }
        drop(batch);
        receive.release(0);
    }
    got
}

fn send(transmit: &mut dyn Transmit, frames: &[(Vec<u8>, Offload)]) -> Sent {
    let mut buffers: Vec<Vec<u8>> =
        frames.iter().map(|(bytes, _)| [&[0; HEADROOM], bytes.as_slice()].concat()).collect();
    let mut list: Vec<Frame<'_>> = buffers
        .iter_mut()
        .zip(frames)
        .map(|(buffer, (_, offload))| {
            let end = buffer.len();
            let mut frame = Frame::new(buffer, HEADROOM, end, PortId(0));
            frame.offload = *offload;
            frame
        })
        .collect();
    transmit.send(&mut list, u64::MAX >> (64 - frames.len())).unwrap()
}

/// A host with a veth pair whose ends are opened with the given MTU and workers.
fn pair(mtu: usize, workers: usize) -> (Host, Vec<Port>, RingTransmit) {
    let host = Host::new();
    host.join("a", &host, "b");
    for end in ["a", "b"] {
        host.ip(&format!("link set dev {end} mtu {mtu}"));
    }
    let (a, b) = (host.index("a"), host.index("b"));
    let (ports, far) = host.run(move || {
        (open(a, PortId(5), mtu, workers, None).unwrap(), RingTransmit::open(b).unwrap())
    });
    (host, ports, far)
}

#[test]
fn frames_of_every_length_arrive_unchanged_and_in_order() {
    let (_host, mut ports, mut far) = pair(1500, 1);
    for chunk in (14..=1514).collect::<Vec<usize>>().chunks(BATCH) {
        let frames: Vec<_> =
            chunk.iter().map(|&l| (frame_of(l, l as u8), Offload::default())).collect();
        assert_eq!(send(&mut far, &frames), Sent::default());
        let got = collect(ports[0].receive.as_mut(), frames.len());
        assert_eq!(got, frames);
    }
    assert_eq!(ports[0].receive.missed(), 0);
}

#[test]
fn jumbo_frames_arrive_whether_or_not_they_fit_a_slot() {
    let (host, ports, mut far) = pair(9000, 1);
    let a = host.index("a");
    let small_slots = host.run(move || open(a, PortId(5), 1500, 1, None).unwrap());
    let frames: Vec<_> = [60, 1836, 1837, 1838, 1839, 1840, 2048, 4000, 9014]
        .into_iter()
        .map(|l| (frame_of(l, 9), Offload::default()))
        .collect();
    assert_eq!(send(&mut far, &frames), Sent::default());
    for mut port in ports.into_iter().chain(small_slots) {
        assert_eq!(collect(port.receive.as_mut(), frames.len()), frames);
    }
}

#[test]
fn super_frames_and_partial_checksums_ride_through() {
    let (_host, mut ports, mut far) = pair(1500, 1);
    // IPv4 and TCP headers good enough for the kernel's dissector; the payload is 60,000 bytes.
    let mut bytes = frame_of(14 + 20 + 20 + 60_000, 3);
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14..34].copy_from_slice(&[
        0x45, 0, 0xea, 0x88, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 9, 9, 1, 10, 9, 9, 2,
    ]);
    bytes[46] = 0x50;
    let offload = Offload {
        partial_checksum: true,
        checksum_start: 34,
        checksum_offset: 16,
        segmentation: Segmentation::Tcp4 { ecn: false },
        segment_size: 1448,
        header_length: 54,
    };
    let small = (frame_of(60, 1), Offload::default());
    let frames = [small.clone(), (bytes, offload), small];
    assert_eq!(send(&mut far, &frames), Sent::default());
    let got = collect(ports[0].receive.as_mut(), 3);
    assert_eq!(got.len(), 3);
    for ((bytes, offload), (expected, wanted)) in got.iter().zip(&frames) {
        assert_eq!(bytes, expected);
        // The header length is a hint: the kernel says how much of the frame is linear.
        assert_eq!(Offload { header_length: wanted.header_length, ..*offload }, *wanted);
    }
}

#[test]
fn a_tag_that_the_kernel_took_out_is_put_back() {
    let (_host, mut ports, mut far) = pair(1500, 1);
    let mut tagged = frame_of(100, 8);
    // Priority 5, VLAN 100, IPv4 inside, with a partial checksum behind the tag.
    tagged[12..18].copy_from_slice(&[0x81, 0, 0xa0, 100, 8, 0]);
    tagged[18..38]
        .copy_from_slice(&[0x45, 0, 0, 82, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 9, 9, 1, 10, 9, 9, 2]);
    let offload = Offload {
        partial_checksum: true,
        checksum_start: 38,
        checksum_offset: 6,
        ..Offload::default()
    };
    let frames = [(tagged, offload)];
    assert_eq!(send(&mut far, &frames), Sent::default());
    assert_eq!(collect(ports[0].receive.as_mut(), 1), frames);
}

#[test]
fn a_full_ring_loses_new_frames_and_counts_them() {
    let (_host, mut ports, mut far) = pair(1500, 1);
    let burst: Vec<_> = (0..64).map(|_| (frame_of(60, 0), Offload::default())).collect();
    for _ in 0..80 {
        assert_eq!(send(&mut far, &burst), Sent::default());
    }
    let receive = ports[0].receive.as_mut();
    assert_eq!(drain(receive).len(), 4096);
    // The next frame tells of the loss.
    assert_eq!(send(&mut far, &burst[..1]), Sent::default());
    assert_eq!(drain(receive).len(), 1);
    assert_eq!(receive.missed(), 80 * 64 - 4096);
    assert_eq!(receive.missed(), 0);
}

#[test]
fn frames_that_the_interface_cannot_take_are_refused_and_the_rest_is_sent() {
    let (host, mut ports, mut far) = pair(1500, 1);
    let frame = |length| (frame_of(length, 0), Offload::default());
    let sent = send(&mut far, &[frame(60), frame(1600), frame(61)]);
    assert_eq!(sent, Sent { refused: 0b010, ..Sent::default() });
    let got = collect(ports[0].receive.as_mut(), 2);
    assert_eq!(got.iter().map(|(bytes, _)| bytes.len()).collect::<Vec<_>>(), [60, 61]);
    host.ip("link set dev b down");
    let sent = send(&mut far, &[frame(60), frame(60)]);
    assert_eq!(sent, Sent { refused: 0b11, ..Sent::default() });
}

#[test]
fn an_interface_may_go_down_and_up_again_but_not_away() {
    let (host, mut ports, mut far) = pair(1500, 1);
    let frames = [(frame_of(60, 4), Offload::default())];
    host.ip("link set dev a down");
    for _ in 0..100 {
        let mut batch = Batch::new();
        ports[0].receive.receive(&mut batch).expect("down is not gone");
    }
    host.ip("link set dev a up");
    // The kernel turns the carrier on a little later; frames sent before that are lost.
    let arrived = (0..50).any(|_| {
        assert_eq!(send(&mut far, &frames), Sent::default());
        collect_within(ports[0].receive.as_mut(), 1, 100) == frames
    });
    assert!(arrived);
    host.ip("link del dev a");
    let gone = (0..100).any(|_| ports[0].receive.receive(&mut Batch::new()).is_err());
    assert!(gone, "a removed interface is reported");
    assert!(far.send(&mut [], 0).is_ok());
    let mut bytes = [0; 200];
    let mut frame = [Frame::new(&mut bytes, 100, 160, PortId(0))];
    assert!(far.send(&mut frame, 1).is_err());
}

#[test]
fn workers_share_the_flows_of_an_interface() {
    let (_host, mut ports, mut far) = pair(1500, 3);
    let udp = |flow: u8| {
        let mut bytes = frame_of(60, 0);
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[14..42].copy_from_slice(&[
            0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 9, 9, 1, 10, 9, 9, 2, 10, flow, 0, 53,
            0, 26, 0, 0,
        ]);
        bytes
    };
    let frames: Vec<_> = (0..64).map(|flow| (udp(flow), Offload::default())).collect();
    for _ in 0..4 {
        assert_eq!(send(&mut far, &frames), Sent::default());
    }
    let mut owner = [None; 64];
    let mut total = 0;
    for (worker, port) in ports.iter_mut().enumerate() {
        let got = drain(port.receive.as_mut());
        assert!(!got.is_empty(), "worker {worker} has no flow at all");
        total += got.len();
        for bytes in got {
            let flow = usize::from(bytes[35]);
            assert!(owner[flow].is_none_or(|other| other == worker), "flow {flow} is split");
            owner[flow] = Some(worker);
        }
    }
    assert_eq!(total, 256);
}

/// Receives what is there, without waiting.
fn drain(receive: &mut dyn Receive) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    loop {
        let mut batch = Batch::new();
        receive.receive(&mut batch).unwrap();
        if batch.is_empty() {
            return got;
        }
        got.extend(batch.iter().map(|frame| frame.bytes().to_vec()));
        drop(batch);
        receive.release(0);
    }
}
