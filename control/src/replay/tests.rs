use super::*;
use proptest::prelude::*;

const CONFIG: &str = r#"
[[service]]
address = "192.0.2.10:80"
scheduler = "rr"
  [[service.real]]
  address = "10.0.0.11:8080"
  [[service.real]]
  address = "10.0.0.12:8080"
"#;

const CLIENT: Mac = [0x0a, 1, 1, 1, 1, 1];
const DIRECTOR: Mac = [0x0a, 2, 2, 2, 2, 2];

/// A TCP segment without payload, checksums left zero: they are none of the capture's business here.
fn segment(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&DIRECTOR);
    frame.extend_from_slice(&CLIENT);
    frame.extend_from_slice(&[0x08, 0x00]);
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0];
    ip.extend_from_slice(&from.0);
    ip.extend_from_slice(&to.0);
    let sum = header_checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&from.1.to_be_bytes());
    frame.extend_from_slice(&to.1.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

fn header_checksum(header: &[u8]) -> u16 {
    let sum = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let mut sum: u32 = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("memory");
    for (second, frame) in frames.iter().enumerate() {
        writer.write(Duration::from_secs(1_000_000 + second as u64), frame).expect("memory");
    }
    writer.finish().expect("memory")
}

fn run(frames: &[Vec<u8>]) -> (Replayed, Vec<(Duration, Vec<u8>)>) {
    let document = Document::parse(CONFIG, "t").expect("good");
    let mut out = Vec::new();
    let replayed = replay(&document, &capture(frames), &mut out).expect("replays");
    let mut reader = Reader::new(&out[..]).expect("a capture");
    let mut sent = Vec::new();
    while let Some(record) = reader.next_record().expect("whole") {
        sent.push((record.at, record.bytes.to_vec()));
    }
    (replayed, sent)
}

const VIP: ([u8; 4], u16) = ([192, 0, 2, 10], 80);

#[test]
fn requests_are_balanced_and_replies_come_from_the_vip() {
    let client = ([198, 51, 100, 7], 4000);
    let other = ([198, 51, 100, 7], 4001);
    let real = ([10, 0, 0, 12], 8080);
    let frames = [
        segment(client, VIP, 0x02),
        segment(other, VIP, 0x02),
        segment(real, client, 0x12),
        segment(client, ([192, 0, 2, 99], 80), 0x02),
    ];
    let (replayed, sent) = run(&frames);
    assert_eq!((replayed.frames, replayed.sent, replayed.host), (4, 3, 1), "{replayed:?}");
    assert_eq!(replayed.connections, 2);
    let address =
        |at: usize, from: usize| -> [u8; 4] { sent[at].1[from..from + 4].try_into().unwrap() };
    assert_eq!(address(0, 30), [10, 0, 0, 12], "the newest first");
    assert_eq!(address(1, 30), [10, 0, 0, 11]);
    assert_eq!(sent[1].1[..6], [2, 0, 10, 0, 0, 11], "made up: it never sends");
    assert_eq!(sent[0].1[..6], CLIENT, "learned: it sends from there");
    assert_eq!(address(2, 26), VIP.0, "the reply");
    assert_eq!(sent[2].0, Duration::from_secs(1_000_002), "the capture's time");
}

#[test]
fn packets_that_die_are_counted_by_their_reason() {
    let without = CONFIG.replace("[[service.real]]", "[[service.match]]");
    let empty = without.split("  [[service.match]]").next().expect("the service");
    let document = Document::parse(empty, "t").expect("good");
    let syn = capture(&[segment(([198, 51, 100, 7], 4000), VIP, 0x02)]);
    let replayed = replay(&document, &syn, Vec::new()).expect("replays");
    assert_eq!(replayed.drops.get("no_real_server"), Some(&1), "{replayed:?}");
}

#[test]
fn what_is_no_capture_is_refused() {
    let document = Document::default();
    assert!(matches!(
        replay(&document, b"GET / HTTP/1.0", Vec::new()),
        Err(ReplayError::Capture(CaptureError::NotACapture))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_frame_makes_it_panic(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..8)) {
        let (replayed, _) = run(&frames);
        prop_assert_eq!(replayed.frames, frames.len() as u64);
    }
}
