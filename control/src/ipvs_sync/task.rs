//! The sockets of the sync daemons: a master that multicasts records, a backup that receives them.

use super::Record;
use super::codec::{Version, decode};
use super::packer::{DEFAULT_LENGTH_V4, DEFAULT_LENGTH_V6, Packer};
use nix::ifaddrs::getifaddrs;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The group of the kernel's daemons.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 81);
/// Their port, and the first of several.
pub const PORT: u16 = 8848;

/// Records that wait to be packed. When it is full, new records are dropped and counted, as the kernel
/// drops them at `sync_qlen_max`; the connection's next record makes up for it.
const QUEUE: usize = 16 * 1024;
/// Messages that wait for whoever adopts connections. When it is full the socket is not read, and the
/// kernel drops what its buffer cannot hold.
const RECEIVED: usize = 1024;
/// A message that is not full leaves after this; the kernel waits up to 2 s.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
const RECEIVE_BUFFER: usize = 4 << 20;

/// Where and how a daemon speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `--mcast-interface`.
    pub interface: String,
    /// `--syncid`, 0 to 255; a backup with 0 hears everybody.
    pub sync_id: u8,
    /// `--mcast-group`.
    pub group: IpAddr,
    /// `--mcast-port`.
    pub port: u16,
    /// `--mcast-ttl`.
    pub ttl: u8,
    /// `--sync-maxlen`: most bytes of a message; `None` for the kernel's default.
    pub longest: Option<u16>,
    /// Version to send.
    pub version: Version,
    /// `sync_ports`: as many ports from `port` on.
    pub ports: u8,
}

impl Settings {
    /// The kernel's defaults.
    pub fn new(interface: &str, sync_id: u8) -> Self {
        Self {
            interface: interface.to_owned(),
            sync_id,
            group: GROUP.into(),
            port: PORT,
            ttl: 1,
            longest: None,
            version: Version::V1,
            ports: 1,
        }
    }

    fn port(&self, index: u8) -> u16 {
        self.port.wrapping_add(index.into())
    }

    fn longest(&self) -> usize {
        self.longest.map_or(
            match self.group {
                IpAddr::V4(_) => DEFAULT_LENGTH_V4,
                IpAddr::V6(_) => DEFAULT_LENGTH_V6,
            },
            usize::from,
        )
    }
}

/// What a daemon has done so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages sent or received.
    pub messages: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Bytes of them.
    pub bytes: AtomicU64,
    /// Master: records dropped because the queue was full. Backup: records that the codec refused.
    pub refused: AtomicU64,
    /// Master: messages that the kernel did not take. Backup: messages that could not be read to the end.
    pub errors: AtomicU64,
}

impl Counters {
    fn message(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A running master daemon. Dropping it sends what waits and ends it.
#[derive(Debug)]
pub struct Master {
    records: Sender<Record>,
    /// What it has done.
    pub counters: Arc<Counters>,
}

impl Master {
    /// Offers a record; never waits.
    pub fn send(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Starts a master daemon on the current tokio runtime.
///
/// # Errors
/// When the interface does not exist or has no address of the group's family.
pub fn start_master(settings: &Settings) -> io::Result<Master> {
    let mut ports = Vec::new();
    for index in 0..settings.ports.max(1) {
        let packer = Packer::new(settings.version, settings.sync_id, settings.longest());
        ports.push((sending_socket(settings, settings.port(index))?, packer));
    }
    let (records, received) = channel(QUEUE);
    let counters = Arc::new(Counters::default());
    tokio::spawn(run_master(ports, received, Arc::clone(&counters)));
    Ok(Master { records, counters })
}

async fn run_master(
    mut ports: Vec<(UdpSocket, Packer)>,
    mut records: Receiver<Record>,
    counters: Arc<Counters>,
) {
    let mut flush_at: Option<Instant> = None;
    loop {
        let far = Instant::now() + Duration::from_secs(3600);
        tokio::select! {
            record = records.recv() => {
                let Some(record) = record else { break };
                // A connection keeps its port, so its records stay in order.
                let at = port_of(&record, ports.len());
                let Some((socket, packer)) = ports.get_mut(at) else { continue };
                if let Some(message) = packer.push(&record) {
                    transmit(socket, &message, &counters).await;
                }
                counters.records.fetch_add(1, Ordering::Relaxed);
                flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
            }
            () = sleep_until(flush_at.unwrap_or(far)), if flush_at.is_some() => {
                flush_at = None;
                flush(&mut ports, &counters).await;
            }
        }
    }
    flush(&mut ports, &counters).await;
}

async fn flush(ports: &mut [(UdpSocket, Packer)], counters: &Counters) {
    for (socket, packer) in ports {
        if let Some(message) = packer.finish() {
            transmit(socket, &message, counters).await;
        }
    }
}

async fn transmit(socket: &UdpSocket, message: &[u8], counters: &Counters) {
    match socket.send(message).await {
        Ok(_) => counters.message(message.len()),
        Err(error) => {
            counters.errors.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, "sync message not sent");
        }
    }
}

fn port_of(record: &Record, ports: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    (record.client, record.client_port, record.vip, record.virtual_port).hash(&mut hasher);
    usize::try_from(hasher.finish() % ports.max(1) as u64).unwrap_or_default()
}

/// A running backup daemon. Dropping it ends it.
#[derive(Debug)]
pub struct Backup {
    /// What it has done.
    pub counters: Arc<Counters>,
    stop: CancellationToken,
}

impl Drop for Backup {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts a backup daemon on the current tokio runtime. What it receives comes out of the second half, one
/// message's records at a time.
///
/// # Errors
/// When the interface does not exist or a port is taken.
pub fn start_backup(settings: &Settings) -> io::Result<(Backup, Receiver<Vec<Record>>)> {
    let (sender, receiver) = channel(RECEIVED);
    let counters = Arc::new(Counters::default());
    let stop = CancellationToken::new();
    let mut sockets = Vec::new();
    for index in 0..settings.ports.max(1) {
        sockets.push(receiving_socket(settings, settings.port(index))?);
    }
    let mut tasks = JoinSet::new();
    for socket in sockets {
        let (sender, counters) = (sender.clone(), Arc::clone(&counters));
        let sync_id = settings.sync_id;
        tasks.spawn(async move { run_backup(&socket, sync_id, &sender, &counters).await });
    }
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = async { while tasks.join_next().await.is_some() {} } => {}
        }
    });
    Ok((Backup { counters, stop }, receiver))
}

async fn run_backup(
    socket: &UdpSocket,
    sync_id: u8,
    sender: &Sender<Vec<Record>>,
    counters: &Counters,
) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let len = match socket.recv(&mut buffer).await {
            Ok(len) => len,
            Err(error) => {
                counters.errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "sync backup ends");
                return;
            }
        };
        let Ok(message) = decode(buffer.get(..len).unwrap_or_default(), sync_id) else {
            counters.errors.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        counters.message(len);
        counters.records.fetch_add(message.records.len() as u64, Ordering::Relaxed);
        counters.refused.fetch_add(message.refused.len() as u64, Ordering::Relaxed);
        counters.errors.fetch_add(message.broken.is_some().into(), Ordering::Relaxed);
        if !message.records.is_empty() && sender.send(message.records).await.is_err() {
            return;
        }
    }
}

fn socket(settings: &Settings) -> io::Result<(Socket, u32)> {
    let index = nix::net::if_::if_nametoindex(settings.interface.as_str())?;
    let domain = match settings.group {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(settings.interface.as_bytes()))?;
    Ok((socket, index))
}

fn sending_socket(settings: &Settings, port: u16) -> io::Result<UdpSocket> {
    let (socket, index) = socket(settings)?;
    let own = own_address(settings)?;
    let destination = match (own, settings.group) {
        (IpAddr::V4(own), IpAddr::V4(group)) => {
            socket.set_multicast_if_v4(&own)?;
            socket.set_multicast_ttl_v4(settings.ttl.into())?;
            socket.set_multicast_loop_v4(false)?;
            socket.bind(&SockAddr::from(SocketAddr::from((own, 0))))?;
            SocketAddr::from((group, port))
        }
        (IpAddr::V6(own), IpAddr::V6(group)) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_hops_v6(settings.ttl.into())?;
            socket.set_multicast_loop_v6(false)?;
            socket.bind(&SockAddr::from(SocketAddr::from(SocketAddrV6::new(own, 0, 0, index))))?;
            SocketAddrV6::new(group, port, 0, index).into()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
    };
    socket.connect(&SockAddr::from(destination))?;
    UdpSocket::from_std(socket.into())
}

/// The interface's first address of the group's family.
fn own_address(settings: &Settings) -> io::Result<IpAddr> {
    let addresses = getifaddrs()?.filter(|entry| entry.interface_name == settings.interface);
    let mut own = addresses.filter_map(|entry| {
        let address = entry.address?;
        match settings.group {
            IpAddr::V4(_) => address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip())),
            IpAddr::V6(_) => address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())),
        }
    });
    own.next().ok_or_else(|| {
        let text =
            format!("interface {} has no address for {}", settings.interface, settings.group);
        io::Error::new(io::ErrorKind::AddrNotAvailable, text)
    })
}

fn receiving_socket(settings: &Settings, port: u16) -> io::Result<UdpSocket> {
    let (socket, index) = socket(settings)?;
    socket.set_reuse_address(true)?;
    // A larger buffer is a wish: the kernel cuts it to its limit.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    match settings.group {
        IpAddr::V4(group) => {
            socket.bind(&SockAddr::from(SocketAddr::from((group, port))))?;
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
        }
        IpAddr::V6(group) => {
            socket.set_only_v6(true)?;
            let at = SocketAddrV6::new(group, port, 0, index);
            socket.bind(&SockAddr::from(SocketAddr::from(at)))?;
            socket.join_multicast_v6(&group, index)?;
        }
    }
    UdpSocket::from_std(socket.into())
}
