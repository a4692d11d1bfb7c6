//! XDP sockets without copies: the network cards of an emulated machine with Debian's newest kernel
//! read and write the packet memory themselves.
//!
//! The machine is the director of a lab. Its cards are taps on the lab's bridges, so frames come in
//! with checksums unfinished, as other virtual machines send them, and what leaves is checked by the
//! receiving kernels.

use crate::prelude::BINARY;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::decapsulator::{Decapsulator, Encapsulation};
use harness::guest::{Guest, Line, Options, VIADUCT};
use harness::host::command;
use harness::{Host, Process, Site, peers, real_server, wait};

/// Far more than anything here takes; reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// More than the chunks of the packet memory, several times: if some were lost, none were left.
const FLOOD: usize = 100_000;

const INTERFACES: [&str; 2] = ["eth0", "eth1"];

/// The guest's own addresses.
const SETUP: &str = "set -e
for name in eth0 eth1; do
    echo 0 >/proc/sys/net/ipv6/conf/$name/accept_dad
    echo 1 >/proc/sys/net/ipv6/conf/$name/keep_addr_on_down
done
ip addr add 192.0.2.253/24 dev eth0
ip addr add 2001:db8::253/64 dev eth0
ip addr add 10.0.0.253/24 dev eth1
ip addr add 2001:db8:a::253/64 dev eth1
ip link set eth0 up
ip link set eth1 up
ip route add 10.9.0.0/24 via 10.0.0.1
mkdir -p /www
echo guest >/www/index.html
busybox httpd -p 80 -h /www";

const SERVICES: [(&str, &str, &str, &str, &str); 5] = [
    ("web", "192.0.2.20:80", "tcp", "nat", "10.0.0.11:80"),
    ("six", "[2001:db8::20]:80", "tcp", "nat", "[2001:db8:a::11]:80"),
    ("bulk", "192.0.2.20:5201", "tcp", "nat", "10.0.0.11:5201"),
    ("echo", "192.0.2.20:7", "udp", "nat", "10.0.0.11:7"),
    ("tunnel", "192.0.2.21:80", "tcp", "tun", "10.9.0.11:80"),
];

fn config(backend: &str, workers: u32) -> String {
    let mut text = format!("[node]\nname = \"director\"\nworkers = {workers}\n");
    for name in INTERFACES {
        text += &format!("[[interface]]\nname = \"{name}\"\nbackend = \"{backend}\"\n");
    }
    for (name, vip, protocol, method, real) in SERVICES {
        text += &format!(
            "[[service]]\nname = \"{name}\"\naddress = \"{vip}\"\nprotocol = \"{protocol}\"\n\
             method = \"{method}\"\n[[service.real]]\naddress = \"{real}\"\n"
        );
    }
    text
}

struct Scene {
    site: Site,
    guest: Guest,
    _webs: [Backend; 2],
    _decapsulator: Decapsulator,
    _bulk: Process,
}

impl Scene {
    fn new() -> Result<Self> {
        let site = Site::new("zerocopy", 1, 1)?;
        let (real, remote) = (&site.reals[0], &site.remotes[0]);
        let webs = [Backend::http(real, "[::]:80")?, Backend::http(remote, "[::]:80")?];
        real_server::accept_vip(remote, "192.0.2.21")?;
        let decapsulator = Decapsulator::start(remote, Encapsulation::Ipip, &["192.0.2.21"])?;
        let bulk = peers::iperf3_server(real, 5201)?;
        echo_server(real, 7)?;
        let options = Options {
            name: "director".into(),
            kernel: Line::Backports,
            dma: true,
            memory: 512,
            processors: 2,
            modules: VIADUCT.to_vec(),
            ..Options::default()
        };
        let mut guest = Guest::boot_in(site.lab(), &[site.outside(), site.inside()], options)?;
        guest.sh(SETUP)?;
        real.run_ok(&["ip", "route", "replace", "default", "via", "10.0.0.253"])?;
        real.run_ok(&["ip", "-6", "route", "replace", "default", "via", "2001:db8:a::253"])?;
        guest.install_viaduct(Path::new(BINARY))?;
        Ok(Self { site, guest, _webs: webs, _decapsulator: decapsulator, _bulk: bulk })
    }

    fn start(&mut self, backend: &str, workers: u32, shown: &str) -> Result<()> {
        let wanted = [shown, "2 queues", "without copying"];
        self.guest.start_viaduct(&config(backend, workers), &INTERFACES, &wanted)
    }

    fn client(&self) -> &Host {
        &self.site.client
    }

    /// What the guest's own web server, and its stack, answer.
    fn host_answers(&self) -> Result<()> {
        ensure!(fetch(self.client(), "http://192.0.2.253/")? == "guest\n");
        ensure!(fetch(self.client(), "http://[2001:db8::253]/")? == "guest\n");
        self.client().run_ok(&["ping", "-c2", "-i0.2", "-W5", "192.0.2.253"])?;
        Ok(())
    }

    fn services_answer(&self) -> Result<()> {
        for address in ["192.0.2.20", "[2001:db8::20]", "192.0.2.21"] {
            let body = fetch(self.client(), &format!("http://{address}/bytes/2000000"))?;
            ensure!(body.len() == 2_000_000, "{address}: {} bytes", body.len());
        }
        Ok(())
    }

    /// Ends the daemon: no program and no tap of it is left, and the cards work as before.
    fn end(&mut self, signal: &str) -> Result<()> {
        self.guest.end_viaduct(signal)?;
        let links = self.guest.sh("ip link")?;
        ensure!(!links.contains("xdp") && !links.contains("viaduct"), "left behind:\n{links}");
        self.host_answers().with_context(|| format!("after SIG{signal}"))
    }

    fn describe(&mut self) -> String {
        let state = "viaduct show interfaces; viaduct show drops; ip -s link; dmesg | tail -20";
        let state = self.guest.run(state).map(|output| output.stdout + &output.stderr);
        format!("{}\n{}", state.unwrap_or_default(), self.guest.viaduct_log().unwrap_or_default())
    }
}

fn fetch(client: &Host, url: &str) -> Result<String> {
    client.run_ok(&["curl", "-sS", "--max-time", "60", url])
}

/// Answers every datagram at this port with itself.
fn echo_server(host: &Host, port: u16) -> Result<()> {
    let socket = host.enter(|| UdpSocket::bind(("0.0.0.0", port)))??;
    std::thread::Builder::new().name("echo".into()).spawn(move || {
        let mut buffer = vec![0; 2000];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], from);
        }
    })?;
    Ok(())
}

/// A datagram and its answer, tried again as datagrams are.
fn echo(socket: &UdpSocket, data: &[u8]) -> Result<()> {
    let mut buffer = vec![0; 2000];
    wait::until_ok("an echo", LIMIT, || {
        socket.send(data)?;
        loop {
            let count = socket.recv(&mut buffer)?;
            if buffer[..count] == *data {
                return Ok(());
            }
        }
    })
}

/// A socket of the client's, connected to the service.
fn echo_client(client: &Host) -> Result<UdpSocket> {
    client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.connect("192.0.2.20:7")?;
        anyhow::Ok(socket)
    })?
}

fn traffic_passes(scene: &mut Scene) -> Result<()> {
    scene.services_answer()?;
    let socket = echo_client(scene.client())?;
    for size in [0, 1, 2, 500, 1471, 1472] {
        echo(&socket, &vec![size as u8; size]).with_context(|| format!("{size} bytes"))?;
    }
    // Full segments from the client, and acknowledgements back.
    let report = peers::iperf3(scene.client(), "192.0.2.20", 5201, 2, 1)?;
    ensure!(report.bits_per_second > 1e6, "{report:?}");
    let wrk = ["wrk", "-t1", "-c20", "-d2s", "--timeout", "30s", "http://192.0.2.20/"];
    let load = scene.client().spawn(command(&wrk)?)?;
    scene.host_answers().context("beside a load")?;
    let report = load.finish(LIMIT)?.ok()?;
    ensure!(!report.contains("Socket errors"), "{report}");
    Ok(())
}

/// Another MTU, and an interface that goes down and comes back.
fn changes_are_followed(scene: &mut Scene) -> Result<()> {
    for change in ["mtu 1400", "mtu 1500", "down", "up"] {
        scene.guest.sh(&format!("ip link set eth1 {change}"))?;
    }
    // The kernel forgets routes by an interface that goes down.
    scene.guest.sh("ip route replace 10.9.0.0/24 via 10.0.0.1")?;
    wait::until_ok("the services", LIMIT, || {
        scene.client().run_ok(&["curl", "-sS", "--max-time", "5", "http://192.0.2.20/"])?;
        let shown = scene.guest.sh("viaduct show interfaces")?;
        let queues = shown.matches("2 queues with the driver's support, without copying");
        ensure!(queues.count() == 2, "{shown}");
        Ok(())
    })?;
    scene.services_answer()
}

fn a_flood_takes_no_memory_away(scene: &mut Scene) -> Result<()> {
    let socket = echo_client(scene.client())?;
    for _ in 0..FLOOD {
        // What finds no room in the lab's queues is lost there.
        let _ = socket.send(&[0; 18]);
    }
    echo(&socket, b"after the flood")?;
    scene.services_answer()
}

#[test]
fn services_work_without_copies_and_leaves_the_cards_to_the_host() -> Result<()> {
    let mut scene = Scene::new()?;
    let result = story(&mut scene);
    result.with_context(|| scene.describe())
}

fn story(scene: &mut Scene) -> Result<()> {
    scene.host_answers()?;
    let (plain, busy) = ("XDP sockets", "busy-polled XDP sockets");
    scene.start("xdp", 1, plain)?;
    traffic_passes(scene)?;
    a_flood_takes_no_memory_away(scene).context("a flood")?;
    changes_are_followed(scene).context("changes")?;
    scene.end("TERM")?;
    scene.start("xdp-busy-poll", 1, busy)?;
    traffic_passes(scene).context(busy)?;
    a_flood_takes_no_memory_away(scene).context("a flood, polled busily")?;
    scene.end("KILL")?;
    scene.start("xdp", 2, plain)?;
    traffic_passes(scene).context("two workers")?;
    scene.end("KILL")
}
