//! Whoever sends rubbish to the sockets of VRRP, of the peer link and of the kernel's sync changes
//! nothing: the master stays, the peers stay connected, nothing is taken in, nobody dies.
//!
//! `VIADUCT_HOSTILE` says how many packets of each kind; 2,000 by default.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::session_sync::load::{Load, Scene, all, shown};
use anyhow::{Context, Result, ensure};
use control::vrrp::packet::{Authentication, Checksum, Format, Path};
use control::vrrp::{Version, Vrid};
use harness::wait;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// xorshift64: the same rubbish every time.
struct Rubbish(u64);

impl Rubbish {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.next() % most;
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A few bytes changed, cut, or lengthened.
    fn mutated(&mut self, sound: &[u8]) -> Vec<u8> {
        let mut bytes = sound.to_vec();
        for _ in 0..=self.next() % 3 {
            let at = self.next() as usize % bytes.len();
            bytes[at] ^= (self.next() as u8).max(1);
        }
        match self.next() % 4 {
            0 => bytes.truncate(self.next() as usize % sound.len()),
            1 => bytes.extend(self.bytes(40)),
            _ => {}
        }
        bytes
    }
}

/// An advert that would win, but for the signature that it lacks.
fn advert() -> Result<Vec<u8>> {
    let vip = load_vip()?;
    let (interval, id) = (Duration::from_millis(100), Vrid::new(51).context("id")?);
    let none = Authentication::None;
    let format = Format::new(Version::V3, id, interval, vec![vip], Checksum::PseudoHeader, none)?;
    let mut message = format.message(254);
    let path = Path {
        source: Ipv4Addr::new(192, 0, 2, 66).into(),
        destination: Ipv4Addr::new(224, 0, 0, 18).into(),
    };
    format.seal(&mut message, &path);
    Ok(message)
}

fn load_vip() -> Result<std::net::IpAddr> {
    Ok(harness::pair::VIP.parse()?)
}

fn group(last: u8, port: u16) -> SockAddr {
    SocketAddr::from((Ipv4Addr::new(224, 0, 0, last), port)).into()
}

#[test]
fn rubbish_at_every_socket_changes_nothing() -> Result<()> {
    let count: u64 = std::env::var("VIADUCT_HOSTILE").map_or(Ok(2000), |count| count.parse())?;
    let key = "hmac_key = \"0123456789abcdef0123456789abcdef\"\n";
    let interval = "advert_interval = \"100ms\"\n";
    let signed = |config: String| config.replace(interval, &format!("{interval}{key}"));
    let scene = Scene::with("hostile", |_| String::new(), signed)?;
    let attacker = scene.pair.lab().host("attacker")?;
    attacker.attach(&scene.pair.networks[0], &["192.0.2.66/24"])?;
    attacker.attach(&scene.pair.networks[2], &["10.8.0.66/24"])?;
    let daemon = ["--start-daemon", "backup", "--mcast-interface", "eth2", "--syncid", "0"];
    scene.second.ipvsadm(&daemon)?;
    let became = |value: &serde_json::Value| value[1]["became_master"].clone();
    let before = became(&shown(&scene.first, "vrrp")?);
    let load = Load::start(&scene.pair.client)?;
    let advert = advert()?;
    attacker.enter(|| -> Result<()> {
        let mut rubbish = Rubbish(0x9e37_79b9_7f4a_7c15);
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112)))?;
        raw.set_multicast_if_v4(&Ipv4Addr::new(192, 0, 2, 66))?;
        raw.set_multicast_ttl_v4(255)?;
        let udp = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        udp.set_multicast_if_v4(&Ipv4Addr::new(10, 8, 0, 66))?;
        for number in 0..count {
            raw.send_to(&rubbish.mutated(&advert), &group(18, 0))?;
            raw.send_to(&rubbish.bytes(60), &group(18, 0))?;
            raw.send_to(&advert, &group(18, 0))?;
            let mut message = rubbish.bytes(200);
            if message.len() > 8 && number % 2 == 0 {
                // A sound header, so that records are reached.
                let length = u16::try_from(message.len())?.to_be_bytes();
                message[..8].copy_from_slice(&[0, 0, length[0], length[1], 3, 1, 0, 0]);
            }
            udp.send_to(&message, &group(81, 8848))?;
        }
        let door: SocketAddr = "10.8.0.251:9850".parse()?;
        for number in 0..count / 20 {
            let mut stream = TcpStream::connect_timeout(&door, Duration::from_secs(10))?;
            let mut hello = rubbish.bytes(300);
            if let Some(first) = hello.first_mut() {
                // TLS, a pairing, or neither.
                *first = [0x16, b'V', *first][usize::try_from(number % 3)?];
            }
            // The door may shut in the middle.
            let _ = stream.write_all(&hello);
        }
        Ok(())
    })??;
    wait::pause(Duration::from_millis(500));
    load.all_alive()?;
    let gap = load.gap();
    let (streams, lost) = load.finish();
    ensure!(lost.is_empty(), "of {streams} lost {lost:?}");
    let vrrp = shown(&scene.first, "vrrp")?;
    ensure!(all(&vrrp, "master") && became(&vrrp) == before, "{vrrp:#}");
    let rejected = vrrp[1]["rejected"].as_object().context("counters")?;
    let rejected: u64 = rejected.values().filter_map(serde_json::Value::as_u64).sum();
    ensure!(rejected >= count, "{vrrp:#}");
    ensure!(all(&shown(&scene.second, "vrrp")?, "backup"));
    for director in [&scene.first, &scene.second] {
        let sync = shown(director, "sync")?;
        ensure!(sync["state"] == "up" && sync["links"] == 1, "{sync:#}");
    }
    println!(
        "{count} packets of each kind: {rejected} adverts rejected, nothing changed; \
         a stream waited {gap} ms at most"
    );
    Ok(())
}
