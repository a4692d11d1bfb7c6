use super::*;
use clap::CommandFactory;

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

#[test]
fn the_grammar_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn ipvsadm_is_told_apart_by_name() {
    let applet = ipvsadm(&words("/sbin/ipvsadm -L -n")).expect("is one");
    assert_eq!((applet.program.as_str(), applet.arguments), ("/sbin/ipvsadm", words("-L -n")));
    assert_eq!(ipvsadm(&words("ipvsadm-save")).map(|applet| applet.arguments), Some(vec![]));
    let applet = ipvsadm(&words("viaduct ipvsadm --help")).expect("is one");
    assert_eq!((applet.program.as_str(), applet.arguments), ("ipvsadm", words("--help")));
    assert_eq!(ipvsadm(&words("viaduct run")), None);
    assert_eq!(ipvsadm(&[]), None);
}

#[test]
fn the_contract_s_command_lines_are_understood() {
    for line in [
        "viaduct run --config a.toml --state /s --socket /x --console off",
        "viaduct run --console 127.0.0.1:8443",
        "viaduct check a.toml",
        "viaduct apply a.toml --confirm-within 60s",
        "viaduct confirm",
        "viaduct diff a.toml",
        "viaduct rollback",
        "viaduct rollback 3",
        "viaduct history",
        "viaduct sync keep mine",
        "viaduct sync keep theirs",
        "viaduct export",
        "viaduct show services --json",
        "viaduct show connections",
        "viaduct show time",
        "viaduct show drops",
        "viaduct show vrrp --json",
        "viaduct failover",
        "viaduct pair",
        "viaduct join abcd-efgh",
        "viaduct show sync --json",
        "viaduct failover outside",
        "viaduct drain web 10.0.0.1:80 --within 10m",
        "viaduct undrain web 10.0.0.1",
        "viaduct kill-connections --real 10.0.0.1",
        "viaduct explain --from 1.2.3.4:5 --to 192.0.2.1:80 --protocol udp",
        "viaduct replay in.pcap --config a.toml --out out.pcap",
        "viaduct doctor",
        "viaduct real-server up --vip 192.0.2.10 --method dr",
        "viaduct real-server check --vip 192.0.2.10 --vip 2001:db8::10 --method tun",
        "viaduct real-server up --vip 192.0.2.10 --method dr --print-shell",
        "viaduct backup f",
        "viaduct restore f",
        #[cfg(feature = "demo")]
        "viaduct demo",
    ] {
        assert!(Arguments::try_parse_from(words(line)).is_ok(), "{line}");
    }
    for line in ["viaduct", "viaduct kill-connections", "viaduct apply a --confirm-within 60"] {
        let error = Arguments::try_parse_from(words(line)).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
