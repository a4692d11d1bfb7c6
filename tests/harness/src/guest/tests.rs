use super::*;
use crate::backend::Backend;
use crate::decapsulator::{Decapsulator, Encapsulation};
use crate::{Site, real_server};

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

/// The guest as a director with the kernel's own IPVS, in the middle of a lab's site; also shows that
/// the lab's decapsulator takes what the kernel's IPVS sends.
#[test]
fn a_guest_in_a_lab_balances_with_the_kernels_ipvs() {
    let site = Site::new("guestlab", 2, 1).unwrap();
    let options = Options { name: "director".into(), ..Options::default() };
    let mut guest = Guest::boot_in(site.lab(), &[site.outside(), site.inside()], options).unwrap();
    let setup = [
        "sysctl -w net.ipv4.ip_forward=1",
        "ip addr add 192.0.2.253/24 dev eth0",
        "ip addr add 192.0.2.20/32 dev eth0",
        "ip addr add 10.0.0.253/24 dev eth1",
        "ip link set eth0 up",
        "ip link set eth1 up",
        "ip route add 10.9.0.0/24 via 10.0.0.1",
        "ipvsadm -A -t 192.0.2.20:80 -s rr",
        "ipvsadm -a -t 192.0.2.20:80 -r 10.0.0.11 -m",
        "ipvsadm -a -t 192.0.2.20:80 -r 10.0.0.12 -g",
        "ipvsadm -a -t 192.0.2.20:80 -r 10.9.0.11 -i",
    ];
    for output in guest.run_all(&setup).unwrap() {
        assert_eq!(output.code, 0, "{output:?}");
    }
    let [masqueraded, routed, tunnelled] = [&site.reals[0], &site.reals[1], &site.remotes[0]];
    masqueraded.route("192.0.2.100/32", "10.0.0.253").unwrap();
    site.answer_directly(routed, "192.0.2.20").unwrap();
    real_server::accept_vip(tunnelled, "192.0.2.20").unwrap();
    let vips = ["192.0.2.20"];
    let decapsulator = Decapsulator::start(tunnelled, Encapsulation::Ipip, &vips).unwrap();
    let _servers =
        [masqueraded, routed, tunnelled].map(|real| Backend::http(real, "[::]:80").unwrap());

    let fetch = ["curl", "-sS", "--max-time", "60", "http://192.0.2.20/"];
    let mut answers: Vec<_> = (0..6).map(|_| site.client.run_ok(&fetch).unwrap()).collect();
    answers.sort();
    let expected = ["real1\n", "real1\n", "real2\n", "real2\n", "remote1\n", "remote1\n"];
    assert_eq!(answers, expected, "{}", guest.sh("ipvsadm -Ln; ip neigh").unwrap());
    assert!(decapsulator.delivered() > 0);
}
