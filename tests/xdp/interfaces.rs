//! Interfaces that change while they carry traffic: another name, another MTU, another number of
//! queues, gone and made anew. The service works afterwards each time, by XDP sockets and by the
//! packet ring, and no frame buffer is lost on the way.

use super::*;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

const URL: &str = "http://198.51.100.10/bytes/100000";

/// Counts what the host sees of the datagrams for the VIP.
const SEEN: &str = "table ip seen { chain pre { type filter hook prerouting priority -300; \
                    ip daddr 198.51.100.10 udp dport 7 counter; }; }";

/// A site with one more interface outside, `many`, which has four queues; `far` is the client's end.
struct Scene {
    site: Site,
    _servers: Vec<Backend>,
    director: Director,
    backend: &'static str,
}

/// Makes the pair of interfaces, each using one queue: a driver takes an XDP program when the other
/// end sends by no more queues than it receives by.
fn cable(site: &Site) -> Result<()> {
    let (near, far) = (&site.director, &site.client);
    let queues = "numtxqueues 4 numrxqueues 4";
    let peer = far.namespace();
    // With a name that is nobody's at first, or the director would be quicker.
    run(near, &format!("ip link add new {queues} type veth peer name far {queues} netns {peer}"))?;
    run(far, "ethtool -L far rx 1 tx 1")?;
    run(near, "ethtool -L new rx 1 tx 1")?;
    run(near, "ip link set dev new name many")?;
    near.add_address("many", "198.51.100.254/24")?;
    far.add_address("far", "198.51.100.1/24")?;
    run(near, "ip link set dev many up")?;
    run(far, "ip link set dev far up")
}

impl Scene {
    fn new(name: &str, backend: &'static str) -> Result<Self> {
        Self::with(name, backend, "")
    }

    /// The same with more in the configuration.
    fn with(name: &str, backend: &'static str, more: &str) -> Result<Self> {
        let site = Site::new(name, 2, 0)?;
        let servers = site.reals.iter().map(|real| Backend::http(real, "[::]:80"));
        let servers = servers.collect::<Result<_>>()?;
        echo_server(&site.reals[0], 7)?;
        cable(&site)?;
        let reals = ["10.0.0.11:80", "10.0.0.12:80"];
        let services = service("web", "198.51.100.10:80", "tcp", "nat", &reals)
            + &service("echo", "198.51.100.10:7", "udp", "nat", &["10.0.0.11:7"]);
        // The third is a name that one of them will have.
        let interfaces = super::interfaces(&["many", "eth1", "outside"]).replace("xdp", backend);
        let config = more.to_owned() + &interfaces + &services;
        let director = Director::start(&site.director, Path::new(BINARY), Some(&config))?;
        let scene = Self { site, _servers: servers, director, backend };
        scene.is_attached("many")?;
        scene.is_attached("eth1")?;
        scene.works("the start")?;
        Ok(scene)
    }

    fn is_attached(&self, name: &str) -> Result<()> {
        let words = if self.backend == "xdp" { "XDP sockets" } else { "packet ring" };
        shown(&self.director, name, &[words]).map(drop)
    }

    /// The service answers, soon.
    fn works(&self, after: &str) -> Result<()> {
        wait::until_ok("the service to answer", LIMIT, || {
            // Many connections, so that every queue has some.
            for _ in 0..8 {
                let curl = ["curl", "-sS", "--max-time", "2", URL];
                let body = self.site.client.run_ok(&curl)?;
                ensure!(body.len() == 100_000, "{} bytes", body.len());
            }
            Ok(())
        })
        .with_context(|| {
            let said = ["interfaces", "drops"].map(|what| self.director.viaduct(&["show", what]));
            format!("after {after}; {said:?}")
        })
    }

    fn load(&self, duration: &str) -> Result<Process> {
        let wrk = ["wrk", "-t1", "-c10", duration, "--timeout", "10s", URL];
        self.site.client.spawn(harness::host::command(&wrk)?)
    }

    fn interfaces(&self) -> Result<Vec<Value>> {
        let json = self.director.viaduct(&["show", "interfaces", "--json"])?;
        serde_json::from_str::<Value>(&json)?.as_array().cloned().context("a list")
    }

    /// All buffers are accounted for: each queue has its 2,048, the rest is free.
    fn no_buffer_is_lost(&self, queues: u64) -> Result<()> {
        if self.backend != "xdp" {
            let any = self.interfaces()?.iter().any(|interface| !interface["buffers"].is_null());
            ensure!(!any, "a packet ring has no such buffers");
            return Ok(());
        }
        wait::until_ok("all buffers to be accounted for", LIMIT, || {
            let interfaces = self.interfaces()?;
            let counts: Vec<_> =
                interfaces.iter().map(|i| &i["buffers"]).filter(|b| b.is_object()).collect();
            let number = |of: &Value, name: &str| of[name].as_u64().context("a number");
            let mut held = 0;
            for count in &counts {
                held += number(count, "held")?;
            }
            let last = counts.last().context("buffers of an interface")?;
            let (free, all) = (number(last, "free")?, number(last, "all")?);
            ensure!(number(last, "resting")? == 0, "{counts:?}");
            // What one interface receives another one sends without a copy only while all share one.
            ensure!(all == 16_384, "{counts:?}");
            ensure!(held == queues * 2048 && free + held == all, "{queues} queues: {counts:?}");
            Ok(())
        })
    }
}

fn are_followed(name: &str, backend: &'static str) -> Result<()> {
    let scene = Scene::new(name, backend)?;
    let (near, far) = (&scene.site.director, &scene.site.client);
    scene.no_buffer_is_lost(2)?;

    // Under load, by kept connections, none of which may break: the host, which holds the VIP and
    // routes, must not see a packet of theirs while the interface is opened again.
    near.add_address("many", "198.51.100.10")?;
    near.forward()?;
    scene.is_attached("many")?;
    near.run_ok(&["nft", SEEN])?;
    let load = scene.load("-d5s")?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| datagrams_until(far, &stop));
        let changed = other_sizes(&scene, load);
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        ensure!(sent > 1000, "{sent} datagrams");
        changed
    })?;
    let seen = near.run_ok(&["nft", "list", "table", "ip", "seen"])?;
    ensure!(seen.contains("counter packets 0 bytes 0"), "the host has seen {seen}");
    near.run_ok(&["nft", "delete", "table", "ip", "seen"])?;
    other_names(&scene)
}

/// Sends datagrams to the VIP one after the other, whatever becomes of them.
fn datagrams_until(far: &Host, stop: &AtomicBool) -> Result<u64> {
    far.enter(|| {
        let socket = UdpSocket::bind("198.51.100.1:0")?;
        socket.connect("198.51.100.10:7")?;
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            // What the host refuses is said here, and counted there.
            let _ = socket.send(b"whose is this?");
            sent += 1;
        }
        Ok(sent)
    })?
}

fn other_sizes(scene: &Scene, load: Process) -> Result<()> {
    let Scene { site, director, backend, .. } = scene;
    let (near, far, backend) = (&site.director, &site.client, *backend);
    for mtu in [3000, 1500] {
        near.set_mtu("many", mtu)?;
        if mtu == 1500 || backend == "ring" {
            scene.is_attached("many")?;
        } else {
            shown(director, "many", &["packet ring", "MTU 3000 is more than the 1774"])?;
        }
        scene.works(&format!("an MTU of {mtu}"))?;
    }
    run(near, "ethtool -L many rx 4 tx 4")?;
    run(far, "ethtool -L far rx 4 tx 4")?;
    if backend == "xdp" {
        shown(director, "many", &["XDP sockets", "4 queues"])?;
    }
    scene.works("more queues")?;
    let report = load.finish(Duration::from_secs(30))?.ok()?;
    ensure!(!report.contains("Socket errors"), "{report}");
    scene.no_buffer_is_lost(5)
}

fn other_names(scene: &Scene) -> Result<()> {
    let Scene { site, director, .. } = scene;
    let near = &site.director;
    // Another name, which is configured, and back, several times at once.
    for (from, to) in [("many", "outside"), ("outside", "many")].repeat(2) {
        run(near, &format!("ip link set dev {from} name {to}"))?;
        scene.is_attached(to)?;
        shown(director, from, &["missing"])?;
    }
    scene.works("other names")?;
    // A name that is not: it is nobody's interface then.
    run(near, "ip link set dev many name stranger")?;
    shown(director, "many", &["missing"])?;
    run(near, "ip link set dev stranger name many")?;
    scene.is_attached("many")?;
    scene.works("the old name again")?;
    scene.no_buffer_is_lost(5)
}

fn may_be_made_anew(name: &str, backend: &'static str) -> Result<()> {
    let scene = Scene::new(name, backend)?;
    let (near, far) = (&scene.site.director, &scene.site.client);
    let load = scene.load("-d2s")?;
    for _ in 0..2 {
        run(near, "ip link del dev many")?;
        cable(&scene.site)?;
        scene.is_attached("many")?;
        scene.works("it was made anew")?;
    }
    // Away and back, with the same name, index and everything.
    let elsewhere = scene.site.router.namespace();
    let index = near.run_ok(&["cat", "/sys/class/net/many/ifindex"])?;
    run(near, &format!("ip link set dev many netns {elsewhere}"))?;
    run(&scene.site.router, &format!("ip link set dev many netns {}", near.namespace()))?;
    assert_eq!(near.run_ok(&["cat", "/sys/class/net/many/ifindex"])?, index);
    near.add_address("many", "198.51.100.254/24")?;
    run(near, "ip link set dev many up")?;
    scene.works("its journey")?;
    scene.is_attached("many")?;
    // What wrk says about connections whose packets were lost for a while is not of interest.
    load.finish(Duration::from_secs(30))?;
    run(far, "ip link del dev far")?;
    shown(&scene.director, "many", &["missing"])?;
    scene.no_buffer_is_lost(1)
}

#[test]
fn several_workers_share_the_queues() -> Result<()> {
    let scene = Scene::with("xdpworkers", "xdp", "[node]\nworkers = 2\n")?;
    let (near, far) = (&scene.site.director, &scene.site.client);
    run(near, "ethtool -L many rx 4 tx 4")?;
    run(far, "ethtool -L far rx 4 tx 4")?;
    shown(&scene.director, "many", &["XDP sockets", "4 queues"])?;
    // A worker has no socket on the interface with one queue, and sends there all the same.
    let load = scene.load("-d2s")?;
    for _ in 0..50 {
        echo(far, "198.51.100.10:7", b"from whichever queue")?;
    }
    let report = load.finish(Duration::from_secs(30))?.ok()?;
    ensure!(!report.contains("Socket errors"), "{report}");
    // Each worker has a memory of its own.
    wait::until_ok("all buffers to be accounted for", LIMIT, || {
        let interfaces = scene.interfaces()?;
        let many = interfaces.iter().find(|interface| interface["name"] == "many");
        let buffers = &many.context("many is there")?["buffers"];
        ensure!(buffers["held"] == 4 * 2048 && buffers["all"] == 2 * 16_384, "{buffers}");
        ensure!(buffers["free"] == 2 * 16_384 - 5 * 2048, "{buffers}");
        Ok(())
    })
}

#[test]
fn changed_interfaces_are_followed() -> Result<()> {
    are_followed("xdpchanges", "xdp")
}

#[test]
fn changed_interfaces_are_followed_by_the_packet_ring() -> Result<()> {
    are_followed("ringchanges", "ring")
}

#[test]
fn interfaces_may_be_made_anew() -> Result<()> {
    may_be_made_anew("xdpanew", "xdp")
}

#[test]
fn interfaces_may_be_made_anew_under_the_packet_ring() -> Result<()> {
    may_be_made_anew("ringanew", "ring")
}

#[test]
fn all_workers_send_by_a_channel_that_one_of_them_receives_from() -> Result<()> {
    let site = Site::new("channel", 1, 0)?;
    let _server = peers::nginx(&site.reals[0], "80")?;
    let config = "[node]\nworkers = 2\n".to_owned()
        + &super::interfaces(&["eth0"]).replace("xdp", "ring")
        + &super::interfaces(&["eth1"]).replace("xdp", "pnet")
        + &service("web", "192.0.2.10:80", "tcp", "nat", &["10.0.0.11:80"]);
    let director = Director::start(&site.director, Path::new(BINARY), Some(&config))?;
    shown(&director, "eth0", &["packet ring"])?;
    shown(&director, "eth1", &["pnet channel"])?;
    // Enough connections that both workers get some from the outside.
    let result = peers::ab(&site.client, "http://192.0.2.10/", 200, 5, Duration::from_secs(60))?;
    assert_eq!((result.complete, result.failed), (200, 0));
    let drops = director.viaduct(&["show", "drops"])?;
    ensure!(!drops.contains("transmit_error"), "{drops}");
    Ok(())
}
