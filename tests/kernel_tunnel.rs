//! The kernel's own tunnel devices take out what the packet path puts into tunnels.
//!
//! A guest with Debian's kernel is the real server, with `ipip`, `sit`, `ip6tnl`, `gre`, `ip6gre` and
//! `fou` devices as an operator sets them up. The packet path runs in the test and hands its frames
//! to the guest; the test is also the client, and fetches a page through each kind of tunnel, for
//! IPv4 and IPv6 inside and outside. The guest checks every checksum in software.

mod client;
mod director;

use anyhow::{Context, Result, ensure};
use client::Client;
use control::real_server::{Form, Header, Method, Setup};
use dataplane::table::{Family, GueChecksum, Tunnel};
use director::{Director, real, vip};
use harness::guest::{Guest, Options, TUNNELS, Wire};
use harness::host::written_mac;

const PORT: u16 = 6080;
const KINDS: [Tunnel; 6] = [
    Tunnel::Ipip,
    Tunnel::Gre { checksum: false },
    Tunnel::Gre { checksum: true },
    Tunnel::Gue { port: PORT, checksum: GueChecksum::None },
    Tunnel::Gue { port: PORT, checksum: GueChecksum::Full },
    Tunnel::Gue { port: PORT, checksum: GueChecksum::Remote },
];
const PAGE: &str = "unwrapped by the kernel\n";

/// A real server with the VIPs on loopback and a web server, still without tunnels.
fn real_server(wire: &Wire) -> Result<Guest> {
    let options = Options {
        name: "real server".into(),
        nics: vec![wire.nic()],
        modules: TUNNELS.to_vec(),
        ..Options::default()
    };
    let mut guest = Guest::boot(&options)?;
    let router = written_mac(director::ROUTER_MAC);
    let mut commands = vec![
        "sysctl -w net.ipv6.conf.eth0.accept_dad=0".to_owned(),
        "ip link set eth0 up".into(),
        format!("ip addr add {}/24 dev eth0", real(Family::V4)),
        format!("ip -6 addr add {}/64 dev eth0", real(Family::V6)),
        format!("ip addr add {}/32 dev lo", vip(Family::V4)),
        format!("ip -6 addr add {}/128 dev lo", vip(Family::V6)),
    ];
    for gateway in ["10.0.0.254", "2001:db8:2::fe"] {
        commands.push(format!("ip neigh add {gateway} lladdr {router} dev eth0 nud permanent"));
        let family = if gateway.contains(':') { "-6" } else { "-4" };
        commands.push(format!("ip {family} route add default via {gateway}"));
    }
    commands.push(format!("mkdir /www && printf '{PAGE}' >/www/index.html"));
    commands.push("busybox httpd -p 80 -h /www".into());
    for (command, output) in commands.iter().zip(guest.run_all(&commands)?) {
        ensure!(output.code == 0, "`{command}`: {output:?}");
    }
    Ok(guest)
}

/// The commands that make device `unwrap` take this tunnel's packets, and those that undo it.
fn device(tunnel: Tunnel, inner: Family, outer: Family) -> (Vec<String>, Vec<String>) {
    let local = real(outer);
    let plain = match (outer, inner) {
        (Family::V4, Family::V4) => "ipip",
        (Family::V4, Family::V6) => "sit",
        (Family::V6, _) => "ip6tnl mode any",
    };
    let gre = if outer == Family::V4 { "gre" } else { "ip6gre" };
    let of = if outer == Family::V4 { "-4" } else { "-6" };
    let (kind, fou) = match tunnel {
        Tunnel::Ipip => (plain.to_owned(), None),
        Tunnel::Gre { checksum: false } => (gre.to_owned(), None),
        Tunnel::Gre { checksum: true } => (format!("{gre} icsum"), None),
        Tunnel::Gue { port, .. } => (plain.to_owned(), Some(format!("port {port}"))),
    };
    let (kind, options) = kind.split_once(' ').unwrap_or((&kind, ""));
    let mut up = vec![
        format!("ip link add name unwrap type {kind} local {local} {options}"),
        "ip link set unwrap up".into(),
        "for all in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$all; done".into(),
    ];
    let mut down = vec!["ip link del unwrap".to_owned()];
    if let Some(port) = fou {
        up.push(format!("ip {of} fou add {port} gue"));
        down.push(format!("ip {of} fou del {port}"));
    }
    (up, down)
}

fn run(guest: &mut Guest, commands: &[String]) -> Result<()> {
    for (command, output) in commands.iter().zip(guest.run_all(commands)?) {
        ensure!(output.code == 0, "`{command}`: {output:?}");
    }
    Ok(())
}

/// What the guest knows when a page did not come.
fn describe(guest: &mut Guest) -> String {
    let state = guest.sh("ip -s -d addr; ip -4 fou show; ip -6 fou show; cat /proc/net/snmp");
    format!("{}\n{}", state.unwrap_or_default(), guest.console_tail())
}

#[test]
fn the_kernel_unwraps_every_tunnel_in_every_family() -> Result<()> {
    let mut wire = Wire::new()?;
    let mut guest = real_server(&wire)?;
    let mut port = 40_000;
    for tunnel in KINDS {
        for (inner, outer) in [Family::V4, Family::V6]
            .into_iter()
            .flat_map(|inner| [(inner, Family::V4), (inner, Family::V6)])
        {
            let what = format!("{tunnel:?}, {inner:?} in {outer:?}");
            let (up, down) = device(tunnel, inner, outer);
            run(&mut guest, &up).with_context(|| what.clone())?;
            let mut director = Director::new(guest.mac(0), tunnel, inner, outer)?;
            port += 1;
            let fetched = Client::new(inner, port).fetch(&mut director, &mut wire);
            let page = match fetched {
                Ok(page) => page,
                Err(error) => {
                    return Err(error.context(format!("{what}\n{}", describe(&mut guest))));
                }
            };
            ensure!(page.ends_with(PAGE), "{what}: {page:?}");
            let received = guest.sh("cat /sys/class/net/unwrap/statistics/rx_packets")?;
            ensure!(
                received.trim().parse::<u32>()? >= 3,
                "{what}: {received} packets by the tunnel"
            );
            run(&mut guest, &down).with_context(|| what)?;
        }
    }
    Ok(())
}

#[test]
fn what_real_server_prints_makes_the_kernel_unwrap() -> Result<()> {
    let mut wire = Wire::new()?;
    let mut guest = real_server(&wire)?;
    let (v4, v6, gre) = (Family::V4, Family::V6, Tunnel::Gre { checksum: false });
    let cases = [
        (Tunnel::Ipip, v4, v4),
        (Tunnel::Ipip, v6, v4),
        (Tunnel::Ipip, v6, v6),
        (gre, v4, v4),
        (gre, v6, v4),
        (gre, v4, v6),
    ];
    for (port, (tunnel, inner, outer)) in (45_000..).zip(cases) {
        let what = format!("{tunnel:?}, {inner:?} in {outer:?}");
        let header = if tunnel == Tunnel::Ipip { Header::Ipip } else { Header::Gre };
        let method = Method::Tunnel { header, over_v6: outer == v6 };
        let setup = Setup { vips: vec![vip(inner)], method };
        let script = setup.written(Form::Iproute2).map_err(anyhow::Error::msg)?;
        let commands: Vec<String> = script.lines().map(str::to_owned).collect();
        run(&mut guest, &commands).with_context(|| what.clone())?;
        let mut director = Director::new(guest.mac(0), tunnel, inner, outer)?;
        let page = Client::new(inner, port).fetch(&mut director, &mut wire);
        let page = page.with_context(|| format!("{what}\n{}", describe(&mut guest)))?;
        ensure!(page.ends_with(PAGE), "{what}: {page:?}");
    }
    Ok(())
}
