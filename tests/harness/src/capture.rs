//! Captures by tcpdump, counted packet by packet.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::craft;
use crate::host::{Host, command};
use crate::process::Process;
use crate::wait;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

/// One captured IP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// Length by the IP header, in bytes: what IPVS counts.
    pub bytes: u64,
    /// The packet from its IP header on, at most as much as was captured.
    pub data: Vec<u8>,
}

impl Capture {
    /// Starts to capture IP packets that match `filter` on an interface of `host`.
    ///
    /// # Errors
    /// When tcpdump is not installed or refuses the filter.
    pub fn start(host: &Host, interface: &str, filter: &str) -> Result<Self> {
        let file = host.directory().join(format!("capture-{interface}-{}.pcap", unique(filter)));
        let path = file.to_string_lossy();
        let arguments = [
            "tcpdump",
            "-n",
            "-U",
            "--immediate-mode",
            "-s",
            "200",
            "-B",
            "65536",
            "-Z",
            "root",
            "-i",
            interface,
            "-w",
            &path,
            filter,
        ];
        let mut tcpdump = host.spawn(command(&arguments)?)?;
        tcpdump.wait_for_output("listening on", Duration::from_secs(10))?;
        Ok(Self { tcpdump, file })
    }

    /// Ends the capture and reads it, after the traffic of interest has stopped.
    ///
    /// # Errors
    /// When the kernel dropped packets, so that counts would be wrong, or the file is damaged.
    pub fn finish(self) -> Result<Vec<Packet>> {
        self.settle()?;
        self.tcpdump.signal(Signal::SIGINT)?;
        let ended = self.tcpdump.finish(Duration::from_secs(10))?;
        if !ended.stderr.contains("\n0 packets dropped by kernel") {
            bail!("the capture lost packets: {}", ended.stderr);
        }
        read(&std::fs::read(&self.file)?)
    }

    /// Waits until the file has stopped growing for a while.
    fn settle(&self) -> Result<()> {
        const QUIET_LOOKS: u32 = 10;
        let (mut last, mut quiet) = (0, 0);
        wait::until("the capture to settle", Duration::from_secs(20), || {
            let length = std::fs::metadata(&self.file).map_or(0, |metadata| metadata.len());
            quiet = if length == last { quiet + 1 } else { 0 };
            last = length;
            (quiet > QUIET_LOOKS).then_some(())
        })
    }
}

/// A file name part that differs between captures of one interface.
fn unique(filter: &str) -> String {
    filter
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .take(80)
        .collect()
}

/// Reads a pcap file of Ethernet frames in this machine's byte order (pcap-savefile(5)).
fn read(file: &[u8]) -> Result<Vec<Packet>> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(file.get(at..at + 4)?.try_into().ok()?))
    };
    if word(0) != Some(MAGIC) || word(20) != Some(1) {
        bail!("not a pcap file of Ethernet frames");
    }
    let mut packets = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let length = word(at + 8).context("a cut record header")? as usize;
        let frame = file.get(at + 16..at + 16 + length).context("a cut record")?;
        packets.extend(packet(frame));
        at += 16 + length;
    }
    Ok(packets)
}

/// The IP packet in a frame, if it is one.
fn packet(frame: &[u8]) -> Option<Packet> {
    let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let data = frame.get(14..)?;
    let bytes = match kind {
        0x0800 => u64::from(u16::from_be_bytes([*data.get(2)?, *data.get(3)?])),
        0x86dd => 40 + u64::from(u16::from_be_bytes([*data.get(4)?, *data.get(5)?])),
        _ => return None,
    };
    let (from, to) = craft::addresses(data)?;
    Some(Packet { from, to, bytes, data: data.to_vec() })
}
