//! The BPF programs of `tests/bench/bpf/traffic.c`.

use crate::packets::generator::{frame, header_checksum};
use anyhow::{Context, Result};
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, TestRun, TestRunAttrs, TestRunOptions, include_bytes_aligned};

/// All programs, and their maps.
pub struct Programs(pub Ebpf);

/// A program on an interface. Dropping it takes it off.
pub struct Attached {
    _link: XdpLink,
}

impl Programs {
    pub fn load() -> Result<Self> {
        let frame = frame();
        let headers: Vec<u32> =
            frame[..40].as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word)).collect();
        let object = EbpfLoader::new()
            .override_global("headers", &headers[..], true)
            .override_global("network_checksum", &network_checksum(&frame), true)
            .load(include_bytes_aligned!("bpf/traffic.o"))?;
        Ok(Self(object))
    }

    /// A program, which the kernel has from now on.
    pub fn get(&mut self, name: &str) -> Result<&mut Xdp> {
        let program: &mut Xdp = self.0.program_mut(name).context("no such program")?.try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }

    /// Puts a program on an interface of the calling thread's network namespace.
    pub fn attach(&mut self, name: &str, interface: &str) -> Result<Attached> {
        let program = self.get(name)?;
        let link = program.attach(interface, XdpMode::Driver)?;
        Ok(Attached { _link: program.take_link(link)? })
    }
}

/// Lets a program make `count` frames out of [`frame`] and do with them as it says, as if they had come
/// in on `interface`. So many frames as `batch` says are made before those that go out leave; 0 is the
/// kernel's own number.
pub fn send_frames(program: &Xdp, interface: u32, count: u32, batch: u32) -> Result<()> {
    let frame = frame();
    // struct xdp_md
    let context = [0, frame.len() as u32, 0, interface, 0, 0];
    let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
    program.test_run(TestRunOptions {
        data_in: Some(&frame),
        ctx_in: Some(&context),
        repeat: count,
        attrs: TestRunAttrs::new().xdp_live_frames(batch),
        ..TestRunOptions::new()
    })?;
    Ok(())
}

/// The header's checksum, as the machine stores it, for source 10.1.0.0.
fn network_checksum(frame: &[u8]) -> u16 {
    let mut header = frame[14..34].to_vec();
    header[10..12].fill(0);
    header[14..16].fill(0);
    u16::from_ne_bytes(header_checksum(&header))
}
