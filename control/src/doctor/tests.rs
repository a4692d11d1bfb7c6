use super::*;

fn fit() -> Facts {
    let eth0 = Interface {
        name: "eth0".into(),
        driver: Some("ixgbe".into()),
        queues: 8,
        mtu: 1500,
        up: true,
        carrier: true,
        speed: Some(10_000),
        rp_filter: 0,
    };
    Facts {
        kernel: "6.12.1".into(),
        capabilities: u64::MAX,
        steering_refused: None,
        tun: true,
        processors: 8,
        files: 65_536,
        memory_free: 8 << 30,
        huge_pages: "madvise".into(),
        state: "/var/lib/viaduct".into(),
        state_free: Some(10 << 30),
        synchronised: Some(true),
        ip_forward: true,
        send_redirects: false,
        programs: vec!["systemd".into()],
        kernel_services: None,
        shared_ports: 0,
        interfaces: vec![eth0],
    }
}

/// The subjects that are not good.
fn faults(change: impl FnOnce(&mut Facts)) -> Vec<(String, Grade)> {
    let mut facts = fit();
    change(&mut facts);
    let found = findings(&facts).into_iter().filter(|finding| finding.grade > Grade::Good);
    found
        .inspect(|finding| assert!(!finding.advice.is_empty(), "{finding:?}"))
        .map(|finding| (finding.subject, finding.grade))
        .collect()
}

#[test]
fn a_fit_host_has_nothing_to_be_done() {
    assert_eq!(faults(|_| {}), []);
}

#[test]
fn each_fault_is_found_alone_and_comes_with_advice() {
    type Change = fn(&mut Facts);
    let cases: [(&str, Grade, Change); 17] = [
        ("kernel", Grade::Advice, |f| f.kernel = "6.1.0".into()),
        ("kernel", Grade::Warning, |f| f.kernel = "4.19.0".into()),
        ("capabilities", Grade::Error, |f| f.capabilities = 1 << 12),
        ("steering", Grade::Warning, |f| f.steering_refused = Some("not permitted".into())),
        ("host link", Grade::Warning, |f| f.tun = false),
        ("processors", Grade::Advice, |f| f.processors = 1),
        ("limits", Grade::Advice, |f| f.files = 1024),
        ("memory", Grade::Warning, |f| f.memory_free = 1 << 20),
        ("memory", Grade::Advice, |f| f.huge_pages = "never".into()),
        ("state directory", Grade::Warning, |f| f.state_free = Some(1 << 20)),
        ("clock", Grade::Advice, |f| f.synchronised = Some(false)),
        ("ip_forward", Grade::Advice, |f| f.ip_forward = false),
        ("send_redirects", Grade::Advice, |f| f.send_redirects = true),
        ("other directors", Grade::Warning, |f| f.programs.push("keepalived".into())),
        ("kernel IPVS", Grade::Warning, |f| f.kernel_services = Some(3)),
        ("source ports", Grade::Warning, |f| f.shared_ports = 4_536),
        ("interface eth0", Grade::Warning, |f| f.interfaces[0].carrier = false),
    ];
    for (subject, grade, change) in cases {
        assert_eq!(faults(change), [(subject.to_owned(), grade)]);
    }
    let queues = |f: &mut Facts| f.interfaces[0].queues = 1;
    assert_eq!(faults(queues), [("interface eth0".to_owned(), Grade::Advice)]);
    let strict = |f: &mut Facts| f.interfaces[0].rp_filter = 1;
    assert_eq!(faults(strict), [("rp_filter".to_owned(), Grade::Advice)]);
}
