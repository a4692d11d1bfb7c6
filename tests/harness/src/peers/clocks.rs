//! Time servers: chrony, and a small one whose clock can be set wrong. Neither touches the machine's
//! clock.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tokio::task::AbortHandle;

use crate::host::{Host, command};
use crate::process::Process;

/// Between 1900, where NTP counts from, and 1970, in seconds.
const NTP_EPOCH: u64 = 2_208_988_800;

/// Serves the machine's time by chronyd, as stratum 8, on every address.
///
/// # Errors
/// When chronyd is not installed or does not start in time.
pub fn chronyd(host: &Host) -> Result<Process> {
    let directory = host.directory().join("chrony");
    std::fs::create_dir_all(&directory)?;
    let path = directory.display();
    let config = format!(
        "local stratum 8\nallow all\nport 123\ncmdport 0\nbindcmdaddress /\n\
         pidfile {path}/pid\ndriftfile {path}/drift\nuser root\n"
    );
    let file = directory.join("chrony.conf");
    std::fs::write(&file, config)?;
    // -x: never touches the clock. -d: stays in the foreground and logs to standard error.
    let arguments = ["chronyd", "-x", "-d", "-f", &file.to_string_lossy()];
    let mut server = host.spawn(command(&arguments)?)?;
    server.wait_for_output("starting", Duration::from_secs(20))?;
    Ok(server)
}

/// A time server whose clock can be wrong; stopped on drop.
#[derive(Debug)]
pub struct TimeServer {
    ahead_ms: Arc<AtomicI64>,
    task: AbortHandle,
}

impl TimeServer {
    /// Serves NTP, as stratum 1.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(host: &Host, address: &str) -> Result<Self> {
        let address: SocketAddr = address.parse().with_context(|| address.to_owned())?;
        let socket = host.enter(|| UdpSocket::bind(address))??;
        socket.set_nonblocking(true)?;
        let ahead_ms = Arc::new(AtomicI64::new(0));
        let task = host.runtime().spawn(answer_all(socket, Arc::clone(&ahead_ms)));
        Ok(Self { ahead_ms, task: task.abort_handle() })
    }

    /// Sets its clock so many milliseconds ahead of the machine's.
    pub fn set_clock_ahead(&self, milliseconds: i64) {
        self.ahead_ms.store(milliseconds, Ordering::Relaxed);
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_all(socket: UdpSocket, ahead_ms: Arc<AtomicI64>) -> Result<()> {
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let mut request = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut request).await?;
        if let Some(transmit) = request.get(40..48).filter(|_| length >= 48) {
            let now = timestamp(ahead_ms.load(Ordering::Relaxed));
            socket.send_to(&answer(transmit, now), client).await?;
        }
    }
}

/// A server's packet of RFC 5905 section 7.3, received and sent in the same moment.
fn answer(originate: &[u8], now: [u8; 8]) -> [u8; 48] {
    let mut packet = [0; 48];
    packet[0] = 0x24; // version 4, server
    packet[1] = 1; // stratum
    packet[3] = 0xec; // precision: about a microsecond
    packet[12..16].copy_from_slice(b"LAB\0");
    packet[16..24].copy_from_slice(&now);
    packet[24..32].copy_from_slice(originate);
    packet[32..40].copy_from_slice(&now);
    packet[40..48].copy_from_slice(&now);
    packet
}

/// Seconds since 1900 and their fraction, by a clock that is so far ahead.
#[allow(clippy::disallowed_methods, reason = "a server tells the time")]
fn timestamp(ahead_ms: i64) -> [u8; 8] {
    let shift = Duration::from_millis(ahead_ms.unsigned_abs());
    let now = SystemTime::now();
    let now = if ahead_ms < 0 { now - shift } else { now + shift };
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (((since.as_secs() + NTP_EPOCH) << 32) | fraction).to_be_bytes()
}
