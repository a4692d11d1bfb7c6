//! Two paired directors with servers behind them, and streams through every forwarding method.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::backend::Backend;
use harness::decapsulator::{Decapsulator, Encapsulation};
use harness::pair::VIP;
use harness::{Director, Host, Pair, wait};
use serde_json::Value;

pub const BINARY: &str = env!("CARGO_BIN_EXE_viaduct");

/// Far more than anything here takes; reached only when something is broken.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Between two lines of one stream.
pub const BEAT: Duration = Duration::from_millis(10);

/// Streams through each forwarding method.
pub const STREAMS: usize = 8;

pub const SERVICES: &str = r#"
[[service]]
name = "nat"
address = "192.0.2.10:7001"
  [[service.real]]
  address = "10.0.0.11:7001"
  [[service.real]]
  address = "10.0.0.12:7001"
[[service]]
name = "dr"
address = "192.0.2.10:7002"
method = "dr"
  [[service.real]]
  address = "10.0.0.13:7002"
[[service]]
name = "tun"
address = "192.0.2.10:7003"
method = "tun"
  [[service.real]]
  address = "10.0.0.14:7003"
[[service]]
name = "sticky"
address = "192.0.2.10:7004"
persistence = { timeout = "300s" }
  [[service.real]]
  address = "10.0.0.11:7004"
  [[service.real]]
  address = "10.0.0.12:7004"
[[service]]
name = "datagrams"
address = "192.0.2.10:7005"
protocol = "udp"
  [[service.real]]
  address = "10.0.0.11:7005"
  [[service.real]]
  address = "10.0.0.12:7005"
"#;

/// Two paired directors with servers behind them.
pub struct Scene {
    pub first: Director,
    pub second: Director,
    _servers: Vec<Backend>,
    _decapsulator: Decapsulator,
    _datagrams: Vec<JoinHandle<Result<()>>>,
    pub pair: Pair,
}

impl Scene {
    /// Builds the scene; `more` goes into each director's `[peer]`, `edit` sees the whole document.
    pub fn with(
        name: &str,
        more: impl Fn(usize) -> String,
        edit: impl Fn(String) -> String,
    ) -> Result<Self> {
        let pair = Pair::new(name, 4)?;
        let serve =
            |real: usize, port: u16| Backend::lines(&pair.reals[real], &format!("[::]:{port}"));
        let servers = vec![
            serve(0, 7001)?,
            serve(1, 7001)?,
            serve(2, 7002)?,
            serve(3, 7003)?,
            serve(0, 7004)?,
            serve(1, 7004)?,
        ];
        for real in &pair.reals[2..] {
            pair.answer_directly(real, VIP)?;
        }
        let decapsulator = Decapsulator::start(&pair.reals[3], Encapsulation::Ipip, &[VIP])?;
        let datagrams = vec![answer_datagrams(&pair.reals[0])?, answer_datagrams(&pair.reals[1])?];
        let start = |number: usize| {
            let config =
                pair.config(number, &format!("{}{}{SERVICES}", Pair::peer(number), more(number)));
            Director::start(&pair.directors[number], Path::new(BINARY), Some(&edit(config)))
        };
        let (first, second) = (start(0)?, start(1)?);
        let code = first.viaduct(&["pair"])?;
        let paired = second.viaduct(&["join", code.trim()])?;
        ensure!(paired.starts_with("paired with "), "{paired}");
        let scene = Self {
            first,
            second,
            _servers: servers,
            _decapsulator: decapsulator,
            _datagrams: datagrams,
            pair,
        };
        scene.settled()?;
        Ok(scene)
    }

    /// The first director is master, and both know everything.
    pub fn settled(&self) -> Result<()> {
        until(&self.first, "vrrp", |vrrp| all(vrrp, "master"))?;
        until(&self.second, "vrrp", |vrrp| all(vrrp, "backup"))?;
        for director in [&self.first, &self.second] {
            until(director, "sync", |sync| sync["caught_up"] == true && sync["snapshot"] == false)?;
        }
        Ok(())
    }
}

pub fn shown(director: &Director, what: &str) -> Result<Value> {
    Ok(serde_json::from_str(&director.viaduct(&["show", what, "--json"])?)?)
}

pub fn all(vrrp: &Value, state: &str) -> bool {
    vrrp.as_array().is_some_and(|all| all.iter().all(|instance| instance["state"] == state))
}

pub fn until(director: &Director, what: &str, fits: impl Fn(&Value) -> bool) -> Result<()> {
    let name = director.host().name().to_owned();
    wait::until(&format!("{what} of {name}"), LIMIT, || {
        shown(director, what).is_ok_and(|value| fits(&value)).then_some(())
    })
    .with_context(|| director.viaduct(&["show", what]).unwrap_or_default())
}

/// Answers each datagram with the host's name.
pub fn answer_datagrams(host: &Host) -> Result<JoinHandle<Result<()>>> {
    let name = host.name().to_owned();
    host.thread("datagrams", move || {
        let socket = UdpSocket::bind("[::]:7005")?;
        let mut buffer = [0; 64];
        loop {
            let (_, from) = socket.recv_from(&mut buffer)?;
            // The client may be gone.
            let _ = socket.send_to(name.as_bytes(), from);
        }
    })
}

/// One long-lived connection that sends a line every beat and wants it back.
pub struct Stream {
    pub thread: JoinHandle<Result<()>>,
    /// The longest wait for an answer since it was last asked for, in milliseconds.
    pub gap: Arc<AtomicU64>,
    pub echoes: Arc<AtomicU64>,
}

impl Stream {
    pub fn open(client: &Host, port: u16, stop: &Arc<AtomicBool>) -> Result<Self> {
        let address: SocketAddr = format!("{VIP}:{port}").parse()?;
        let (gap, echoes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (noted, counted, stop) = (Arc::clone(&gap), Arc::clone(&echoes), Arc::clone(stop));
        let thread = client.thread("stream", move || {
            let socket = TcpStream::connect_timeout(&address, LIMIT)?;
            socket.set_read_timeout(Some(LIMIT))?;
            socket.set_nodelay(true)?;
            let mut writer = socket.try_clone()?;
            let mut reader = BufReader::new(socket);
            let mut line = String::new();
            reader.read_line(&mut line)?;
            for number in 0u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let sent = wait::clock();
                writeln!(writer, "{number}")?;
                line.clear();
                reader.read_line(&mut line)?;
                if line.trim() != number.to_string() {
                    bail!("line {number} came back as {line:?}");
                }
                let waited = u64::try_from(sent.elapsed().as_millis())?;
                noted.fetch_max(waited, Ordering::Relaxed);
                counted.fetch_add(1, Ordering::Relaxed);
                wait::pause(BEAT);
            }
            Ok(())
        })?;
        Ok(Self { thread, gap, echoes })
    }
}

/// Streams through all methods.
pub struct Load {
    pub streams: Vec<Stream>,
    pub stop: Arc<AtomicBool>,
}

impl Load {
    pub fn start(client: &Host) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ports = [7001, 7002, 7003].into_iter().flat_map(|port| [port; STREAMS]);
        let streams: Result<Vec<Stream>> =
            ports.map(|port| Stream::open(client, port, &stop)).collect();
        let load = Self { streams: streams?, stop };
        load.all_alive()?;
        Ok(load)
    }

    /// Every stream gets an answer to something sent from now on.
    pub fn all_alive(&self) -> Result<()> {
        let before: Vec<u64> =
            self.streams.iter().map(|s| s.echoes.load(Ordering::Relaxed)).collect();
        wait::until("every stream to go on", LIMIT, || {
            let mut pairs = self.streams.iter().zip(&before);
            let on = |(stream, before): (&Stream, &u64)| {
                stream.echoes.load(Ordering::Relaxed) >= before + 2 || stream.thread.is_finished()
            };
            pairs.all(on).then_some(())
        })
    }

    /// The longest wait of any stream since the last call, in milliseconds.
    pub fn gap(&self) -> u64 {
        self.gaps().into_iter().max().unwrap_or(0)
    }

    /// The longest wait of each stream, those through NAT first, then DR, then the tunnel.
    pub fn gaps(&self) -> Vec<u64> {
        self.streams.iter().map(|stream| stream.gap.swap(0, Ordering::Relaxed)).collect()
    }

    /// How many streams were opened, and why some were lost.
    pub fn finish(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let opened = self.streams.len();
        let ended = self.streams.into_iter().map(|stream| stream.thread.join());
        let lost = ended.filter_map(|ended| match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some("panicked".to_owned()),
        });
        (opened, lost.collect())
    }
}
