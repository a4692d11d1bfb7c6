//! XDP sockets: services work through them with everybody's offloads as they are, the rest of the
//! host's traffic does not notice, and nothing of them stays behind.

mod commits;
mod interfaces;
mod services;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::{Director, Host, Process, Site, peers, site, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_viaduct");
const LIMIT: Duration = Duration::from_secs(10);

fn interfaces(names: &[&str]) -> String {
    let table = |name: &&str| format!("[[interface]]\nname = \"{name}\"\nbackend = \"xdp\"\n");
    names.iter().map(table).collect()
}

fn service(name: &str, address: &str, protocol: &str, method: &str, reals: &[&str]) -> String {
    let mut text = format!(
        "[[service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n\
         scheduler = \"rr\"\nmethod = \"{method}\"\n"
    );
    for real in reals {
        text += &format!("[[service.real]]\naddress = \"{real}\"\n");
    }
    text
}

fn web() -> String {
    service("web", "192.0.2.10:80", "tcp", "nat", &["10.0.0.11:80", "10.0.0.12:80"])
}

/// Starts the director and makes sure that these interfaces have XDP sockets.
fn start(site: &Site, names: &[&str], services: &str) -> Result<Director> {
    let config = interfaces(names) + services;
    let director = Director::start(&site.director, Path::new(BINARY), Some(&config))?;
    for name in names {
        has_xdp(&director, name)?;
    }
    Ok(director)
}

/// What `show interfaces` says about one, when the sentence is as wanted.
fn shown(director: &Director, name: &str, wanted: &[&str]) -> Result<String> {
    wait::until_ok("the interface's state", LIMIT, || {
        let all = director.viaduct(&["show", "interfaces"])?;
        let line = all.lines().find(|line| line.split_whitespace().next() == Some(name));
        let line = line.with_context(|| format!("{name} is not in\n{all}"))?;
        ensure!(wanted.iter().all(|words| line.contains(words)), "{line}");
        Ok(line.to_owned())
    })
}

fn has_xdp(director: &Director, name: &str) -> Result<()> {
    shown(director, name, &["XDP sockets", "copied by the kernel"]).map(drop)
}

fn fetch(client: &Host, url: &str) -> Result<String> {
    client.run_ok(&["curl", "-sS", "--max-time", "20", url])
}

/// One line there and back on a new connection.
fn login(client: &Host, server: &str) -> Result<()> {
    let server: SocketAddr = server.parse()?;
    client.enter(|| {
        let stream = TcpStream::connect_timeout(&server, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        (&stream).write_all(b"still there?\n")?;
        line.clear();
        reader.read_line(&mut line)?;
        ensure!(line == "still there?\n", "{line:?}");
        Ok(())
    })?
}

/// A datagram through the VIP and its answer, tried again as datagrams are.
fn echo(client: &Host, server: &str, data: &[u8]) -> Result<()> {
    client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.connect(server)?;
        let mut buffer = vec![0; 2000];
        for _ in 0..10 {
            socket.send(data)?;
            if let Ok(count) = socket.recv(&mut buffer) {
                ensure!(buffer[..count] == *data, "another answer of {count} bytes");
                return Ok(());
            }
        }
        anyhow::bail!("no answer to {} bytes", data.len())
    })?
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

#[test]
fn tcp_and_udp_pass_nat_while_logins_and_probes_do_not_notice() -> Result<()> {
    let site = Site::new("xdpnat", 2, 0)?;
    let _servers: Vec<_> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    echo_server(&site.reals[0], 7)?;
    let _shell = Backend::lines(&site.director, "[::]:22")?;
    let udp = service("echo", "192.0.2.10:7", "udp", "nat", &["10.0.0.11:7"]);
    let six = service("six", "[2001:db8::10]:80", "tcp", "nat", &["[2001:db8:a::12]:80"]);
    let director = start(&site, &["eth0", "eth1"], &(web() + &udp + &six))?;
    // Both directions at full size, checksums unfinished as a veth leaves them.
    for address in ["192.0.2.10", "[2001:db8::10]"] {
        for _ in 0..4 {
            let body = fetch(&site.client, &format!("http://{address}/bytes/3000000"))?;
            assert_eq!(body.len(), 3_000_000);
        }
    }
    for size in [0, 1, 2, 500, 1471, 1472] {
        echo(&site.client, "192.0.2.10:7", &vec![7; size])?;
    }
    let load = site.client.spawn(harness::host::command(&[
        "wrk",
        "-t1",
        "-c20",
        "-d4s",
        "http://192.0.2.10/",
    ])?)?;
    for _ in 0..20 {
        login(&site.client, "192.0.2.254:22")?;
        login(&site.client, "[2001:db8::254]:22")?;
        // The balanced port of a balanced server, asked by the host itself.
        let name = fetch(&site.director, "http://10.0.0.11/")?;
        assert_eq!(name, "real1\n");
    }
    site.client.run_ok(&["ping", "-c2", "-i0.2", "-W5", site::DIRECTOR])?;
    let report = load.finish(Duration::from_secs(30))?.ok()?;
    ensure!(!report.contains("Socket errors"), "{report}");
    for name in ["eth0", "eth1"] {
        has_xdp(&director, name)?;
    }
    Ok(())
}

#[test]
fn uploads_of_senders_with_segmentation_offload_arrive_whole() -> Result<()> {
    let site = Site::new("xdpbulk", 1, 0)?;
    let _server = peers::iperf3_server(&site.reals[0], 5201)?;
    let bulk = service("bulk", "192.0.2.10:5201", "tcp", "nat", &["10.0.0.11:5201"]);
    let _director = start(&site, &["eth0", "eth1"], &bulk)?;
    let report = peers::iperf3(&site.client, site::VIP, 5201, 4, 5)?;
    ensure!(report.each_second.iter().all(|bytes| *bytes > 0.0), "{report:?}");
    // Far less than any machine does, and far more than a path on which only retransmits get through.
    ensure!(report.bits_per_second > 50e6, "{report:?}");
    Ok(())
}

#[test]
fn direct_routing_works_on_one_interface() -> Result<()> {
    let site = Site::new("xdpdr", 2, 0)?;
    let mut servers = Vec::new();
    for real in &site.reals {
        site.answer_directly(real, site::VIP)?;
        servers.push(Backend::http(real, "[::]:80")?);
    }
    let direct = service("web", "192.0.2.10:80", "tcp", "dr", &["10.0.0.11:80", "10.0.0.12:80"]);
    let _director = start(&site, &["eth0", "eth1"], &direct)?;
    for _ in 0..4 {
        let body = fetch(&site.client, "http://192.0.2.10/bytes/1000000")?;
        assert_eq!(body.len(), 1_000_000);
    }
    assert_eq!(servers.iter().map(Backend::served).collect::<Vec<_>>(), [2, 2]);
    Ok(())
}

/// Everything of the interface that somebody else might trip over.
fn traces(host: &Host, name: &str) -> Result<String> {
    let link = host.run_ok(&["ip", "-d", "link", "show", "dev", name])?;
    let filters = host.run_ok(&["tc", "filter", "show", "dev", name, "ingress"])?;
    let queues = host.run_ok(&["tc", "qdisc", "show", "dev", name])?;
    let offloads = host.run_ok(&["ethtool", "-k", name])?;
    Ok([link, filters, queues, offloads].concat())
}

#[test]
fn after_an_exit_or_a_kill_the_hosts_networking_is_as_before() -> Result<()> {
    let site = Site::new("xdpgone", 2, 0)?;
    let _servers: Vec<_> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let _shell = Backend::lines(&site.director, "[::]:22")?;
    // A port that is claimed while the director runs, and the host's own before and after.
    site.director.add_address("eth0", site::VIP)?;
    let _own = Backend::http(&site.director, "192.0.2.10:80")?;
    let before = ["eth0", "eth1"].map(|name| traces(&site.director, name));
    let before = before.into_iter().collect::<Result<Vec<_>>>()?;
    assert_eq!(fetch(&site.client, "http://192.0.2.10/")?, "director\n");
    for kill in [false, true] {
        let mut director = start(&site, &["eth0", "eth1"], &web())?;
        let during = traces(&site.director, "eth0")?;
        ensure!(during.contains("xdp"), "no program on the interface:\n{during}");
        assert!(fetch(&site.client, "http://192.0.2.10/")?.starts_with("real"));
        if kill {
            director.kill();
        } else {
            director.shut_down()?;
        }
        wait::until_ok("the host's networking to be as before", LIMIT, || {
            for (name, before) in ["eth0", "eth1"].iter().zip(&before) {
                let after = traces(&site.director, name)?;
                ensure!(after == *before, "{before}\nbecame\n{after}");
            }
            Ok(())
        })?;
        assert_eq!(fetch(&site.client, "http://192.0.2.10/")?, "director\n", "kill: {kill}");
        login(&site.client, "192.0.2.254:22")?;
    }
    Ok(())
}

#[test]
fn another_mtu_and_an_interface_that_comes_back_are_followed() -> Result<()> {
    let site = Site::new("xdpmtu", 2, 0)?;
    let _servers: Vec<_> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let director = start(&site, &["eth0", "eth1"], &web())?;
    let works = || -> Result<()> {
        wait::until_ok("the service to answer", Duration::from_secs(30), || {
            let url = "http://192.0.2.10/bytes/300000";
            let body = site.client.run_ok(&["curl", "-sS", "--max-time", "3", url])?;
            ensure!(body.len() == 300_000, "{} bytes", body.len());
            Ok(())
        })
    };
    works()?;
    for mtu in [1400, 1500] {
        for host in [&site.client, &site.director] {
            host.set_mtu("eth0", mtu)?;
        }
        works()?;
        has_xdp(&director, "eth0")?;
    }
    let [outside, _] = &site.director_interfaces;
    site.director.unplug(outside)?;
    site.director.plug(outside)?;
    works()?;
    site.director.run_ok(&["ip", "link", "set", "dev", "eth0", "down"])?;
    site.director.run_ok(&["ip", "link", "set", "dev", "eth0", "up"])?;
    works()?;
    has_xdp(&director, "eth0")
}

#[test]
fn an_interface_without_support_is_served_by_the_packet_ring_and_it_is_said_why() -> Result<()> {
    let site = Site::new("xdpless", 2, 0)?;
    let _servers: Vec<_> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    // The way in leads over a bridge, which no XDP program can be put on; inside is a plain one.
    let host = &site.director;
    let ip = |words: &str| -> Result<()> {
        let words: Vec<&str> = ["ip"].into_iter().chain(words.split(' ')).collect();
        host.run_ok(&words).map(drop)
    };
    ip("link add br0 type bridge")?;
    ip("addr del 192.0.2.254/24 dev eth0")?;
    ip("link set eth0 master br0")?;
    ip("addr add 192.0.2.254/24 dev br0")?;
    ip("link set br0 up")?;
    let config = interfaces(&["br0", "eth1"]) + &web();
    let director = Director::start(host, Path::new(BINARY), Some(&config))?;
    shown(&director, "br0", &["packet ring", "not XDP sockets as configured"])?;
    has_xdp(&director, "eth1")?;
    for _ in 0..4 {
        let body = fetch(&site.client, "http://192.0.2.10/bytes/1000000")?;
        assert_eq!(body.len(), 1_000_000);
    }
    Ok(())
}

/// Words as a command on a host.
fn run(host: &Host, words: &str) -> Result<()> {
    host.run_ok(&words.split_whitespace().collect::<Vec<_>>()).map(drop)
}

#[test]
fn another_number_of_queues_is_followed() -> Result<()> {
    let site = Site::new("xdpqueues", 2, 0)?;
    let _servers: Vec<_> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let (near, far) = (&site.director, &site.client);
    let peer = far.namespace();
    let queues = "numtxqueues 4 numrxqueues 4";
    run(near, &format!("ip link add many {queues} type veth peer name far {queues} netns {peer}"))?;
    // A driver takes an XDP program when the other end sends by no more queues than it receives by.
    run(far, "ethtool -L far rx 1 tx 1")?;
    run(near, "ethtool -L many rx 1 tx 1")?;
    for (host, name, address) in
        [(near, "many", "198.51.100.254/24"), (far, "far", "198.51.100.1/24")]
    {
        host.add_address(name, address)?;
        run(host, &format!("ip link set dev {name} up"))?;
    }
    let reals = ["10.0.0.11:80", "10.0.0.12:80"];
    let services = service("web", "198.51.100.10:80", "tcp", "nat", &reals);
    let director = start(&site, &["many", "eth1"], &services)?;
    let works = || -> Result<()> {
        // Many connections, so that every queue has some.
        for _ in 0..16 {
            let body = fetch(far, "http://198.51.100.10/bytes/100000")?;
            ensure!(body.len() == 100_000, "{} bytes", body.len());
        }
        Ok(())
    };
    shown(&director, "many", &["XDP sockets", "1 queue "])?;
    works()?;
    run(near, "ethtool -L many rx 4 tx 4")?;
    run(far, "ethtool -L far rx 4 tx 4")?;
    // At once, by whatever way, and then by a socket on each queue.
    works()?;
    shown(&director, "many", &["XDP sockets", "4 queues"])?;
    works()?;
    // The kernel takes no queue away that has a socket.
    run(far, "ethtool -L far rx 1 tx 1")?;
    ensure!(run(near, "ethtool -L many rx 2 tx 2").is_err(), "queues with sockets were taken away");
    works()
}

/// What a new connection to an address meets: the name of who answers, or the words of the failure.
fn asked(client: &Host, url: &str) -> Result<String> {
    let output = client.run(&["curl", "-sS", "--max-time", "3", url])?;
    Ok(output.stdout.trim().to_owned() + output.stderr.trim())
}

/// Waits until a new connection meets this.
fn meets(client: &Host, url: &str, wanted: &str) -> Result<()> {
    wait::until_ok("the answer", LIMIT, || {
        let answer = asked(client, url)?;
        ensure!(answer.contains(wanted), "{url}: {answer}");
        Ok(())
    })
}

/// Ten connections with requests for so long, as wrk's option says it; none may fail.
fn requests(client: &Host, duration: &str) -> Result<Process> {
    let wrk = ["wrk", "-t1", "-c10", duration, "--timeout", "10s", "http://192.0.2.10/"];
    client.spawn(harness::host::command(&wrk)?)
}

#[test]
fn services_come_and_go_while_traffic_goes_on() -> Result<()> {
    let site = Site::new("xdpmaps", 2, 0)?;
    let ports = ["80", "8080", "8081"].map(|port| format!("[::]:{port}"));
    let mut servers = Vec::new();
    for port in &ports {
        servers.push(Backend::http(&site.reals[0], port)?);
    }
    // The host's own, at the same address as the VIP: what is no service's is its.
    site.director.add_address("eth0", site::VIP)?;
    site.director.add_address("eth0", "2001:db8::10")?;
    let _own = Backend::http(&site.director, "[::]:8081")?;
    let one = service("web", "192.0.2.10:80", "tcp", "nat", &["10.0.0.11:80"]);
    let director = start(&site, &["eth0", "eth1"], &one)?;
    let load = requests(&site.client, "-d20s")?;
    let change = |commands: &str| director.ipvsadm_script(commands);
    let (four, six) = ("http://192.0.2.10", "http://[2001:db8::10]");
    for round in 0..2 {
        meets(&site.client, &format!("{four}:8081/"), "director")?;
        meets(&site.client, &format!("{six}:8081/"), "director")?;
        meets(&site.client, &format!("{four}:8080/"), "Failed to connect")?;
        // One more port, the same in IPv6, and a service of every port.
        change("-A -t 192.0.2.10:8081 -s rr\n-a -t 192.0.2.10:8081 -r 10.0.0.11:8081 -m")?;
        meets(&site.client, &format!("{four}:8081/"), "real1")?;
        meets(&site.client, &format!("{six}:8081/"), "director")?;
        change(
            "-A -t [2001:db8::10]:8081 -s rr\n-a -t [2001:db8::10]:8081 -r [2001:db8:a::11]:8081 -m",
        )?;
        meets(&site.client, &format!("{six}:8081/"), "real1")?;
        change("-A -t 192.0.2.10:0 -s rr -p 5\n-a -t 192.0.2.10:0 -r 10.0.0.11:0 -m")?;
        meets(&site.client, &format!("{four}:8080/"), "real1")?;
        change("-D -t 192.0.2.10:0\n-D -t 192.0.2.10:8081\n-D -t [2001:db8::10]:8081")?;
        meets(&site.client, &format!("{four}:8081/"), "director")?;
        meets(&site.client, &format!("{six}:8081/"), "director")?;
        eprintln!("round {round} done");
    }
    let report = load.finish(Duration::from_secs(60))?.ok()?;
    ensure!(!report.contains("Socket errors"), "{report}");
    for name in ["eth0", "eth1"] {
        has_xdp(&director, name)?;
    }
    // Without its last service the whole address is the host's.
    change("-C")?;
    meets(&site.client, &format!("{four}/"), "Failed to connect")?;
    meets(&site.client, &format!("{four}:8081/"), "director")
}

#[test]
fn an_mtu_beyond_the_limit_is_served_by_the_packet_ring_until_it_is_gone() -> Result<()> {
    let site = Site::new("xdpjumbo", 2, 0)?;
    let _servers: Vec<_> =
        site.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect::<Result<_>>()?;
    let director = start(&site, &["eth0", "eth1"], &web())?;
    let load = requests(&site.client, "-d12s")?;
    for _ in 0..2 {
        site.director.set_mtu("eth0", 3000)?;
        shown(&director, "eth0", &["packet ring", "MTU 3000 is more than the 1774"])?;
        assert_eq!(fetch(&site.client, "http://192.0.2.10/bytes/300000")?.len(), 300_000);
        site.director.set_mtu("eth0", 1500)?;
        has_xdp(&director, "eth0")?;
        assert_eq!(fetch(&site.client, "http://192.0.2.10/bytes/300000")?.len(), 300_000);
    }
    let report = load.finish(Duration::from_secs(60))?.ok()?;
    ensure!(!report.contains("Socket errors"), "{report}");
    // What was lost meanwhile has a name.
    let drops = director.viaduct(&["show", "drops", "--json"])?;
    ensure!(drops.contains("receive_queue_full"), "{drops}");
    Ok(())
}
