//! What services of many ports take, and what they leave: all ports of an address, a range of ports
//! by a mark, and the way back from their real servers, in both families, by TCP, UDP and SCTP.

use super::*;
use harness::craft::{self, RawReceiver, RawSender, protocol, sctp};

/// An address per family, as a URL has it.
type Pair = [&'static str; 2];

/// Every port belongs to a service.
const WIDE: Pair = ["192.0.2.10", "[2001:db8::10]"];
/// A range of ports does; the host holds the address, too.
const RANGE: Pair = ["192.0.2.20", "[2001:db8::20]"];
/// No service is there.
const OWN: Pair = ["192.0.2.254", "[2001:db8::254]"];
const REAL: Pair = ["10.0.0.11", "[2001:db8:a::11]"];
const CLIENT: Pair = ["192.0.2.100", "[2001:db8::100]"];

fn ipless(address: &str) -> &str {
    address.trim_matches(['[', ']'])
}

/// Every port at one pair of addresses, the ports from 8000 to 8010 at the other.
fn wide_services() -> String {
    let mut text = String::new();
    for (family, real) in REAL.into_iter().enumerate() {
        for protocol in ["tcp", "udp", "sctp"] {
            let name = format!("all-{protocol}-{family}");
            let vip = format!("{}:0", WIDE[family]);
            let all = service(&name, &vip, protocol, "nat", &[]);
            text += &all;
            text += "persistence = { timeout = \"60s\" }\n";
            text += &format!("[[service.real]]\naddress = \"{real}:0\"\n");
        }
        text += &format!(
            "[[service]]\nname = \"range-{family}\"\nmark = {}\nscheduler = \"rr\"\n\
             method = \"nat\"\n",
            family + 1
        );
        if family == 1 {
            text += "family = \"ipv6\"\n";
        }
        for protocol in ["tcp", "udp"] {
            text += &format!(
                "[[service.match]]\ndestination = \"{}\"\nprotocol = \"{protocol}\"\n\
                 ports = \"8000-8010\"\n",
                ipless(RANGE[family])
            );
        }
        text += &format!("[[service.real]]\naddress = \"{}\"\n", ipless(real));
    }
    text
}

/// A real server and the host listen at the same ports; who answers tells whose a packet was.
struct Scene {
    site: Site,
    _servers: Vec<Backend>,
    director: Director,
}

fn scene(name: &str, backend: &str) -> Result<Scene> {
    let site = Site::new(name, 1, 0)?;
    for address in RANGE {
        site.director.add_address("eth0", ipless(address))?;
    }
    let mut servers = Vec::new();
    for host in [&site.reals[0], &site.director] {
        for port in [22, 8000, 8010, 8011] {
            servers.push(Backend::http(host, &format!("[::]:{port}"))?);
        }
    }
    servers.push(Backend::http(&site.client, "[::]:80")?);
    for port in [22, 8000, 8010, 8011] {
        for address in REAL {
            datagrams(&site.reals[0], &format!("{address}:{port}"))?;
        }
        for address in RANGE.into_iter().chain(OWN) {
            datagrams(&site.director, &format!("{address}:{port}"))?;
        }
    }
    // What a real server sends on its own account is for the host to route.
    site.director.forward()?;
    site.client.route("10.0.0.0/24", ipless(OWN[0]))?;
    site.client.route("2001:db8:a::/64", ipless(OWN[1]))?;
    let config = interfaces(&["eth0", "eth1"]).replace("xdp", backend) + &wide_services();
    let director = Director::start(&site.director, Path::new(BINARY), Some(&config))?;
    let words = if backend == "xdp" { "XDP sockets" } else { "packet ring" };
    for name in ["eth0", "eth1"] {
        shown(&director, name, &[words])?;
    }
    Ok(Scene { site, _servers: servers, director })
}

/// Answers datagrams at one address with the host's name and what came.
fn datagrams(host: &Host, address: &str) -> Result<()> {
    let address: SocketAddr = address.parse()?;
    let socket = host.enter(|| UdpSocket::bind(address))??;
    let name = host.name().to_owned();
    std::thread::Builder::new().name("datagrams".into()).spawn(move || {
        let mut buffer = vec![0; 20_000];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&[name.as_bytes(), &buffer[..count]].concat(), from);
        }
    })?;
    Ok(())
}

/// Who answers a datagram of so many bytes; sent again as datagrams are.
fn answers(client: &Host, server: &str, size: usize) -> Result<String> {
    let server: SocketAddr = server.parse()?;
    client.enter(|| {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.connect(server)?;
        let mut buffer = vec![0; 20_000];
        for _ in 0..5 {
            socket.send(&vec![b'.'; size])?;
            let Ok(count) = socket.recv(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..count]);
            let name = text.trim_end_matches('.');
            ensure!(count == name.len() + size, "{count} bytes came back of {size}");
            return Ok(name.to_owned());
        }
        anyhow::bail!("{server}: no answer to {size} bytes")
    })?
}

/// TCP, small datagrams and fragmented ones at a port are answered by this host.
fn is_answered_by(client: &Host, address: &str, port: u16, who: &str) -> Result<()> {
    let at = format!("{address}:{port}");
    let body = fetch(client, &format!("http://{at}/"))?;
    ensure!(body.trim() == who, "TCP at {at} was answered by {body}");
    for size in [10, 4000] {
        let name = answers(client, &at, size)?;
        ensure!(name == who, "{size} bytes at {at} were answered by {name}");
    }
    Ok(())
}

fn take_just_their_packets(name: &str, backend: &str) -> Result<()> {
    let Scene { site, _servers, director } = scene(name, backend)?;
    let client = &site.client;
    for family in 0..2 {
        for port in [22, 8000, 8011] {
            is_answered_by(client, WIDE[family], port, "real1")?;
            is_answered_by(client, OWN[family], port, "director")?;
        }
        for (port, who) in [(22, "director"), (8000, "real1"), (8010, "real1"), (8011, "director")]
        {
            is_answered_by(client, RANGE[family], port, who)?;
        }
        let large = fetch(client, &format!("http://{}:8000/bytes/1000000", RANGE[family]))?;
        assert_eq!(large.len(), 1_000_000);
        // All that the real server sends is taken, as any of it may be a reply. The rest of it is
        // given back: what it asks the host, what the host asks it, and what the host routes.
        is_answered_by(&site.director, REAL[family], 8000, "real1")?;
        let inside = ["10.0.0.254", "[2001:db8:a::254]"][family];
        let body = fetch(&site.reals[0], &format!("http://{inside}:22/"))?;
        assert_eq!(body, "director\n");
        let body = fetch(&site.reals[0], &format!("http://{}/bytes/300000", CLIENT[family]))?;
        assert_eq!(body.len(), 300_000);
        for address in [WIDE, RANGE, OWN].map(|pair| ipless(pair[family])) {
            client.run_ok(&["ping", "-c1", "-W5", address])?;
        }
        // A closed port is refused by whose it is, at once.
        for address in [WIDE, RANGE, OWN].map(|pair| pair[family]) {
            let refused = client.run(&["curl", "-sS", "-m5", &format!("http://{address}:9/")])?;
            ensure!(refused.status.code() == Some(7), "{address}: {refused}");
        }
    }
    for (vip, real) in WIDE.into_iter().zip(REAL) {
        sctp_handshake(&site, ipless(vip).parse()?, ipless(real).parse()?)?;
    }
    let taken = director.ipvsadm(&["-L", "-n", "-c"])?;
    ensure!(!taken.contains("192.0.2.254"), "{taken}");
    Ok(())
}

/// The first step of an association each way, by crafted packets: this kernel may not speak SCTP.
fn sctp_handshake(site: &Site, vip: std::net::IpAddr, real: std::net::IpAddr) -> Result<()> {
    let four = vip.is_ipv4();
    let client = ipless(CLIENT[usize::from(!four)]).parse()?;
    let domain = if four { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let sender = || if four { RawSender::ipv4() } else { RawSender::ipv6() };
    let receiver = || RawReceiver::new(domain, protocol::SCTP, LIMIT);
    let (at_real, at_client) = (site.reals[0].enter(receiver)??, site.client.enter(receiver)??);
    let value = [&[0, 0, 0, 77][..], &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9]].concat();
    let init = sctp::Packet { from: 4000, to: 3868, tag: 0, kind: sctp::INIT, value };
    let mut buffer = Vec::new();
    let packet = craft::ip(client, vip, protocol::SCTP, &init.encode())?;
    site.client.enter(|| sender()?.send(&packet))??;
    ensure!(at_real.payload(&mut buffer)?, "{vip}: no INIT reached the real server");
    let arrived = sctp::Packet::decode(&buffer)?;
    assert_eq!(arrived, init);
    let answer = sctp::Packet { from: 3868, to: 4000, tag: 77, kind: sctp::INIT_ACK, ..arrived };
    let packet = craft::ip(real, client, protocol::SCTP, &answer.encode())?;
    site.reals[0].enter(|| sender()?.send(&packet))??;
    ensure!(at_client.payload(&mut buffer)?, "{vip}: no INIT ACK reached the client");
    assert_eq!(sctp::Packet::decode(&buffer)?, answer);
    Ok(())
}

#[test]
fn services_of_many_ports_take_just_their_packets() -> Result<()> {
    take_just_their_packets("xdpwide", "xdp")
}

#[test]
fn services_of_many_ports_take_just_their_packets_from_the_packet_ring() -> Result<()> {
    take_just_their_packets("ringwide", "ring")
}
