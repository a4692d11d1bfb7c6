use super::*;

/// One boot for all claims about the guest, because a boot costs seconds.
#[test]
fn a_guest_runs_commands_with_the_kernels_ipvs() {
    let mut wire = Wire::new().unwrap();
    let options = Options { nics: vec![wire.nic()], ..Options::default() };
    let mut guest = Guest::boot(&options).unwrap();

    let output = guest.run("echo out; echo err >&2; exit 3").unwrap();
    assert_eq!(output, Output { stdout: "out\n".into(), stderr: "err\n".into(), code: 3 });
    assert_eq!(guest.run("printf 'no newline'").unwrap().stdout, "no newline");

    batches_keep_outputs_apart(&mut guest);
    files_go_in_and_out(&mut guest);
    kernel_ipvs_takes_services(&mut guest);
    frames_cross_the_wire(&mut guest, &mut wire);

    let broken = guest.run_all(&["true", "if", "true"]).unwrap_err();
    assert!(format!("{broken:#}").contains("the shell gave up at"), "{broken:#}");
    assert_eq!(
        guest.sh("echo alive").unwrap(),
        "alive\n",
        "a broken batch leaves the guest usable"
    );
}

fn batches_keep_outputs_apart(guest: &mut Guest) {
    let commands: Vec<_> = (0..2000).map(|i| format!("echo {i}; (exit {})", i % 7)).collect();
    let outputs = guest.run_all(&commands).unwrap();
    for (i, output) in outputs.iter().enumerate() {
        assert_eq!((output.stdout.trim(), output.code as usize), (i.to_string().as_str(), i % 7));
    }
}

fn files_go_in_and_out(guest: &mut Guest) {
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    guest.put_file("/tmp/file", &content).unwrap();
    assert_eq!(guest.get_file("/tmp/file").unwrap(), content);
    guest.put_file("/tmp/empty", &[]).unwrap();
    assert!(guest.get_file("/tmp/empty").unwrap().is_empty());
    let missing = guest.get_file("/tmp/missing").unwrap_err();
    assert!(format!("{missing:#}").contains("No such file"), "{missing:#}");
}

fn kernel_ipvs_takes_services(guest: &mut Guest) {
    guest
        .sh("ipvsadm -A -t 192.0.2.1:80 -s mh && ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1 -m")
        .unwrap();
    let listed = guest.sh("ipvsadm -Ln").unwrap();
    assert!(listed.contains("TCP  192.0.2.1:80 mh"), "{listed}");
    guest.sh("ipvsadm -C").unwrap();
    let refused = guest.run("ipvsadm -D -t 192.0.2.1:80").unwrap();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("No such service"), "{refused:?}");
}

fn frames_cross_the_wire(guest: &mut Guest, wire: &mut Wire) {
    guest.sh("ip addr add 10.9.0.1/24 dev eth0 && ip link set eth0 up").unwrap();
    let mac = guest.mac(0);
    let mut request = vec![0xff; 6];
    request.extend([2, 0, 0, 0, 0, 2, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend([2, 0, 0, 0, 0, 2, 10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
    wire.send(&request).unwrap();
    let answer = loop {
        let frame = wire.receive(Duration::from_secs(60)).unwrap().expect("no ARP answer");
        if frame[12..14] == [0x08, 0x06] && frame[21] == 2 {
            break frame.to_vec();
        }
    };
    assert_eq!(answer[..12], [&[2, 0, 0, 0, 0, 2][..], &mac[..]].concat());
}

#[test]
fn a_guest_that_cannot_start_says_why() {
    let options = Options { memory: u32::MAX, ..Options::default() };
    let message = format!("{:#}", Guest::boot(&options).unwrap_err());
    assert!(message.contains("did not boot") && message.contains("memory"), "{message}");

    let missing = Some("/run/netns/no-such-namespace".into());
    let options = Options { namespace: missing, ..Options::default() };
    let message = format!("{:#}", Guest::boot(&options).unwrap_err());
    assert!(message.contains("no-such-namespace"), "{message}");

    let options = Options { nics: vec![Nic::Tap("x".repeat(16))], ..Options::default() };
    let message = format!("{:#}", Guest::boot(&options).unwrap_err());
    assert!(message.contains("15 bytes"), "{message}");
}

#[test]
fn a_guest_whose_kernel_dies_shows_its_last_words() {
    let mut guest = Guest::boot(&Options { modules: Vec::new(), ..Options::default() }).unwrap();
    let message = format!("{:#}", guest.run("echo c >/proc/sysrq-trigger").unwrap_err());
    assert!(message.contains("sysrq triggered crash"), "{message}");
}
