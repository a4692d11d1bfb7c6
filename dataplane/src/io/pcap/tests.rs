use super::*;
use proptest::prelude::*;
use std::process::Command;

type Seen = (Duration, u32, Vec<u8>);

fn read_all(file: &[u8]) -> Result<Vec<Seen>, CaptureError> {
    let mut reader = Reader::new(file)?;
    let mut seen = Vec::new();
    while let Some(record) = reader.next_record()? {
        seen.push((record.at, record.interface, record.bytes.to_vec()));
    }
    Ok(seen)
}

fn pcap(frames: &[Seen]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for (at, _, bytes) in frames {
        writer.write(*at, bytes).unwrap();
    }
    writer.finish().unwrap()
}

fn pcapng(frames: &[Seen], comment: &str) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = NgWriter::new(&mut file).unwrap();
    for index in 0..4 {
        assert_eq!(writer.interface(&format!("eth{index}")).unwrap(), index);
    }
    for (at, interface, bytes) in frames {
        writer.write(*interface, *at, bytes, comment).unwrap();
    }
    writer.flush().unwrap();
    drop(writer);
    file
}

fn frames() -> impl Strategy<Value = Vec<Seen>> {
    let at = (0..u64::from(u32::MAX), 0..1_000_000_000u32);
    let at = at.prop_map(|(seconds, nanos)| Duration::new(seconds, nanos));
    let frame = (at, 0..4u32, proptest::collection::vec(any::<u8>(), 0..200));
    proptest::collection::vec(frame, 0..6)
}

/// The same file as a machine of the other byte order writes it: every field of the headers swapped.
fn pcap_swapped(frames: &[Seen]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend_from_slice(&0xa1b2_c3d4u32.to_be_bytes());
    file.extend_from_slice(&[0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1]);
    for (at, _, bytes) in frames {
        let length = bytes.len() as u32;
        for field in [at.as_secs() as u32, at.subsec_micros(), length, length] {
            file.extend_from_slice(&field.to_be_bytes());
        }
        file.extend_from_slice(bytes);
    }
    file
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(frames in frames(), comment in ".{0,40}") {
        let flat: Vec<Seen> = frames.iter().map(|(at, _, b)| (*at, 0, b.clone())).collect();
        prop_assert_eq!(read_all(&pcap(&frames)).unwrap(), flat);
        prop_assert_eq!(read_all(&pcapng(&frames, &comment)).unwrap(), frames);
    }

    #[test]
    fn big_endian_microsecond_files_are_read(frames in frames()) {
        let flat: Vec<Seen> = frames
            .iter()
            .map(|(at, _, b)| {
                (Duration::new(at.as_secs(), at.subsec_micros() * 1000), 0, b.clone())
            })
            .collect();
        prop_assert_eq!(read_all(&pcap_swapped(&frames)).unwrap(), flat);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(mut file in proptest::collection::vec(any::<u8>(), 0..400),
                                      kind in 0..4usize) {
        let start: &[&[u8]] = &[&[], &pcap(&[]), &pcapng(&[], ""), &pcap_swapped(&[])];
        let mut whole = start[kind].to_vec();
        whole.append(&mut file);
        let _ = read_all(&whole);
    }

    #[test]
    fn a_changed_byte_never_panics(frames in frames(), at in any::<prop::sample::Index>(),
                                   value in any::<u8>()) {
        let mut file = pcapng(&frames, "x");
        let at = at.index(file.len());
        file[at] = value;
        let _ = read_all(&file);
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error_or_a_shorter_file() {
    let frames: Vec<Seen> =
        (0..3).map(|n| (Duration::from_secs(n.into()), n, vec![7; 61])).collect();
    for file in [pcap(&frames), pcapng(&frames, "comment")] {
        let whole = read_all(&file).unwrap();
        for length in 0..file.len() {
            if let Ok(seen) = read_all(&file[..length]) {
                assert!(whole.starts_with(&seen) && seen.len() < whole.len(), "cut at {length}");
            }
        }
    }
}

#[test]
fn other_link_types_and_other_files_are_refused() {
    let mut file = pcap(&[]);
    file[20] = 113;
    assert!(matches!(read_all(&file), Err(CaptureError::LinkType(113))));
    assert!(matches!(read_all(b""), Err(CaptureError::NotACapture)));
    assert!(matches!(read_all(b"GIF89a, certainly"), Err(CaptureError::NotACapture)));
}

#[test]
fn tshark_reads_times_names_and_comments() {
    let frame = [[0xff; 12].as_slice(), &[0x88, 0xb5], &[0; 46]].concat();
    let seen = (Duration::new(1_700_000_000, 123_456_789), 2, frame);
    let path = std::env::temp_dir().join(format!("viaduct-pcapng-{}", std::process::id()));
    std::fs::write(&path, pcapng(&[seen], "sent to web1")).unwrap();
    let output = Command::new("tshark")
        .args(["-n", "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.interface_name"])
        .args(["-e", "frame.comment", "-r"])
        .arg(&path)
        .output()
        .expect("tshark is installed");
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim(), "1700000000.123456789\teth2\tsent to web1");
}

#[test]
fn a_capture_goes_through_a_port_with_its_times() {
    let interface = |n: u64| n.min(3) as u32;
    let frames: Vec<Seen> =
        (0..5).map(|n| (Duration::new(n, 5), interface(n), vec![1; 60])).collect();
    let file = pcapng(&frames, "");
    let mut receive = CaptureReceive::new(&file[..], vec![PortId(7), PortId(8)]).unwrap();
    let mut transmit = CaptureTransmit::new(Vec::new(), receive.clock()).unwrap();
    let mut ports = Vec::new();
    loop {
        let mut batch = Batch::new();
        receive.receive(&mut batch).unwrap();
        if batch.is_empty() {
            break;
        }
        ports.extend(batch.iter().map(|frame| frame.ingress.0));
        transmit.send(&mut batch, u64::MAX).unwrap();
    }
    assert!(receive.finished());
    assert_eq!(ports, [7, 8, 8, 8, 8]);
    let copy: Vec<Seen> = frames.into_iter().map(|(at, _, bytes)| (at, 0, bytes)).collect();
    assert_eq!(read_all(&transmit.finish().unwrap()).unwrap(), copy);
}
