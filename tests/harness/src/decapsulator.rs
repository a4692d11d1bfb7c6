//! A real server's end of a tunnel, for kernels without tunnel devices: takes IPIP, GRE and GUE,
//! over IPv4 and IPv6, out of raw sockets and hands the inner packet to the host's own stack.
//!
//! The inner packet is sent, header included, to an address of the host itself, so it comes in by
//! loopback exactly as it was: source, TTL and checksums are the sender's.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::Domain;

use crate::craft::{self, RawReceiver, RawSender, protocol};
use crate::host::Host;

/// How a real server's packets are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encapsulation {
    /// IPv4 (RFC 2003) or IPv6 (RFC 4213, RFC 2473) directly in IP.
    Ipip,
    /// Generic routing encapsulation (RFC 2784, RFC 2890).
    Gre,
    /// Generic UDP encapsulation on this port (draft-ietf-intarea-gue).
    Gue(u16),
}

/// How often a waiting receiver looks whether it shall end.
const POLL: Duration = Duration::from_millis(100);

/// Receivers of one host; they end on drop.
#[derive(Debug)]
pub struct Decapsulator {
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    receivers: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Counters {
    delivered: AtomicU64,
    refused: AtomicU64,
}

impl Decapsulator {
    /// Starts to decapsulate on `host`, whatever the outer family. Only inner packets for one of
    /// `vips` are accepted.
    ///
    /// # Errors
    /// When an address is malformed or the sockets cannot be opened.
    pub fn start(host: &Host, encapsulation: Encapsulation, vips: &[&str]) -> Result<Self> {
        let vips = vips
            .iter()
            .map(|vip| vip.parse().with_context(|| format!("VIP {vip:?}")))
            .collect::<Result<Vec<IpAddr>>>()?;
        let mut decapsulator =
            Self { stop: Arc::default(), counters: Arc::default(), receivers: Vec::new() };
        for outer in host.enter(|| open(encapsulation))?? {
            let injector = host.enter(|| Injector::new(vips.clone()))??;
            let (stop, counters) =
                (Arc::clone(&decapsulator.stop), Arc::clone(&decapsulator.counters));
            let work = move || receive(&outer, &injector, &stop, &counters);
            decapsulator.receivers.push(host.thread("decapsulator", work)?);
        }
        Ok(decapsulator)
    }

    /// Inner packets handed to the host.
    pub fn delivered(&self) -> u64 {
        self.counters.delivered.load(Ordering::Relaxed)
    }

    /// Packets that were not a tunnel's, or not for one of the VIPs.
    pub fn refused(&self) -> u64 {
        self.counters.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for receiver in self.receivers.drain(..) {
            if let Ok(Err(error)) = receiver.join() {
                eprintln!("decapsulator: {error:#}");
            }
        }
    }
}

/// Where wrapped packets come in.
enum Outer {
    Raw(RawReceiver, Encapsulation),
    Datagrams(UdpSocket),
    /// Datagrams for this port over IPv6 without a checksum, which tunnels may leave out (RFC 6935)
    /// and which the system's UDP drops.
    Unsummed(RawReceiver, u16),
}

fn open(encapsulation: Encapsulation) -> Result<Vec<Outer>> {
    let raw = |domain, number| -> Result<Outer> {
        Ok(Outer::Raw(RawReceiver::new(domain, number, POLL)?, encapsulation))
    };
    let numbers: &[u8] = match encapsulation {
        Encapsulation::Ipip => &[protocol::IPIP, protocol::IPV6],
        Encapsulation::Gre => &[protocol::GRE],
        Encapsulation::Gue(port) => {
            // A dual-stack socket takes both families.
            let socket =
                UdpSocket::bind(("::", port)).with_context(|| format!("UDP port {port}"))?;
            socket.set_read_timeout(Some(POLL))?;
            let unsummed = RawReceiver::new(Domain::IPV6, protocol::UDP, POLL)?;
            return Ok(vec![Outer::Datagrams(socket), Outer::Unsummed(unsummed, port)]);
        }
    };
    let families = [Domain::IPV4, Domain::IPV6];
    families.iter().flat_map(|domain| numbers.iter().map(|number| raw(*domain, *number))).collect()
}

fn receive(
    outer: &Outer,
    injector: &Injector,
    stop: &AtomicBool,
    counters: &Counters,
) -> Result<()> {
    let mut buffer = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let inner = match outer {
            Outer::Raw(receiver, encapsulation) => {
                if !receiver.payload(&mut buffer)? {
                    continue;
                }
                match encapsulation {
                    Encapsulation::Gre => unwrap_gre(&buffer),
                    Encapsulation::Ipip | Encapsulation::Gue(_) => Some(buffer.as_slice()),
                }
            }
            Outer::Unsummed(receiver, port) => {
                let came = receiver.payload(&mut buffer)?;
                // Everything else of UDP is not for this receiver.
                if !came || u16_at(&buffer, 2) != Some(*port) || u16_at(&buffer, 6) != Some(0) {
                    continue;
                }
                buffer.get(8..).and_then(unwrap_gue)
            }
            Outer::Datagrams(socket) => {
                buffer.resize(65_536, 0);
                match socket.recv(&mut buffer) {
                    Ok(length) => unwrap_gue(&buffer[..length]),
                    Err(error) if craft::is_timeout(&error) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let delivered = inner.is_some_and(|packet| injector.deliver(packet));
        let counter = if delivered { &counters.delivered } else { &counters.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The packet behind a GRE header of version 0 that carries IP, its checksum verified if present.
fn unwrap_gre(bytes: &[u8]) -> Option<&[u8]> {
    let (flags, kind) = (u16_at(bytes, 0)?, u16_at(bytes, 2)?);
    if flags & 0x0007 != 0 || !matches!(kind, 0x0800 | 0x86dd) {
        return None;
    }
    let (has_checksum, has_key, has_sequence) =
        (flags & 0x8000 != 0, flags & 0x2000 != 0, flags & 0x1000 != 0);
    if has_checksum && craft::checksum(&[bytes]) != 0 {
        return None;
    }
    let words = 1 + usize::from(has_checksum) + usize::from(has_key) + usize::from(has_sequence);
    bytes.get(words * 4..)
}

/// The packet behind a GUE header: variant 0 data messages, or variant 1 with no header at all.
fn unwrap_gue(bytes: &[u8]) -> Option<&[u8]> {
    let first = *bytes.first()?;
    match first >> 6 {
        0 => {
            let (control, words) = (first & 0x20 != 0, usize::from(first & 0x1f));
            let inner = matches!(*bytes.get(1)?, protocol::IPIP | protocol::IPV6);
            if control || !inner { None } else { bytes.get(4 + words * 4..) }
        }
        // Variant 1 is recognised by the inner header's version, 4 or 6.
        1 => Some(bytes),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Gives inner packets to the host's own stack.
struct Injector {
    vips: Vec<IpAddr>,
    ipv4: RawSender,
    ipv6: RawSender,
}

impl Injector {
    fn new(vips: Vec<IpAddr>) -> Result<Self> {
        Ok(Self { vips, ipv4: RawSender::ipv4()?, ipv6: RawSender::ipv6()? })
    }

    fn deliver(&self, packet: &[u8]) -> bool {
        let Some((_, to)) = craft::addresses(packet) else { return false };
        let sender = if to.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
        self.vips.contains(&to) && sender.send(packet).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gre_options_are_skipped_and_a_wrong_checksum_is_refused() {
        assert_eq!(unwrap_gre(&[0, 0, 8, 0, 0x45]), Some(&[0x45][..]));
        assert_eq!(unwrap_gre(&[0x20, 0, 0x86, 0xdd, 1, 2, 3, 4, 0x60]), Some(&[0x60][..]));
        let mut summed = [0x80, 0, 8, 0, 0, 0, 0, 0, 0x45, 0x01];
        assert_eq!(unwrap_gre(&summed), None);
        let sum = craft::checksum(&[&summed]).to_be_bytes();
        summed[4..6].copy_from_slice(&sum);
        assert_eq!(unwrap_gre(&summed), Some(&[0x45, 0x01][..]));
        assert_eq!(unwrap_gre(&[0, 1, 8, 0, 0x45]), None);
    }

    #[test]
    fn gue_headers_of_any_length_are_skipped_and_control_messages_refused() {
        assert_eq!(unwrap_gue(&[0, 4, 0, 0, 0x45]), Some(&[0x45][..]));
        assert_eq!(unwrap_gue(&[1, 41, 0, 0, 9, 9, 9, 9, 0x60]), Some(&[0x60][..]));
        assert_eq!(unwrap_gue(&[0x45, 0]), Some(&[0x45, 0][..]));
        assert_eq!(unwrap_gue(&[0x20, 4, 0, 0, 0x45]), None);
        assert_eq!(unwrap_gue(&[0, 17, 0, 0, 0x45]), None);
        assert_eq!(unwrap_gue(&[]), None);
    }
}
