//! What runs on the director.

use super::Way;
use super::wires::{Wires, run};
use crate::{BINARY, bare};
use anyhow::{Context, Result, anyhow, ensure};
use dataplane::frame::Frame;
use dataplane::io::steer::{Endpoint, Ports, SteeringRules};
use dataplane::io::{Backend, Port};
use dataplane::table::Protocol;
use harness::Director;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
const SINK: [u8; 6] = [2, 0, 0, 0, 2, 1];
const OWN: [u8; 6] = [2, 0, 0, 0, 2, 2];

/// A running forwarder.
pub struct Forwarder {
    /// Threads that move packets.
    pub working: Vec<i32>,
    running: Running,
}

enum Running {
    Kernel,
    Bare { stop: Arc<AtomicBool>, thread: JoinHandle<Result<()>>, _held: Box<bare::Held> },
    Viaduct(Box<Director>),
}

impl Forwarder {
    pub fn start(way: Way, wires: &Wires) -> Result<Self> {
        match way {
            Way::KernelRoute | Way::KernelDnat => {
                Ok(Self { working: Vec::new(), running: Running::Kernel })
            }
            Way::Bare(backend) => bare(backend, wires),
            Way::Viaduct(backend) => viaduct(backend, wires),
        }
    }

    /// All threads whose time counts.
    pub fn threads(&self) -> Vec<i32> {
        match &self.running {
            Running::Kernel | Running::Bare { .. } => self.working.clone(),
            Running::Viaduct(director) => tasks(director.daemon().id(), ""),
        }
    }

    /// The director, where it is Viaduct.
    pub fn director(&self) -> Option<&Director> {
        match &self.running {
            Running::Viaduct(director) => Some(director),
            Running::Kernel | Running::Bare { .. } => None,
        }
    }

    pub fn stop(self) -> Result<()> {
        match self.running {
            Running::Kernel => Ok(()),
            Running::Bare { stop, thread, .. } => {
                stop.store(true, Ordering::Relaxed);
                thread.join().map_err(|_| anyhow!("the forwarder panicked"))?
            }
            Running::Viaduct(mut director) => director.shut_down(),
        }
    }
}

fn viaduct(backend: &str, wires: &Wires) -> Result<Forwarder> {
    viaduct_with(backend, wires, "")
}

/// `viaduct run` with one service for the generator's traffic, and more configuration after it.
pub fn viaduct_with(backend: &str, wires: &Wires, more: &str) -> Result<Forwarder> {
    let config = config(backend) + more;
    let director = Director::start(&wires.director, Path::new(BINARY), Some(&config))?;
    let shown = director.viaduct(&["show", "interfaces"])?;
    let word = match backend {
        "xdp" => "XDP",
        other => other,
    };
    ensure!(shown.matches(word).count() >= 2, "not attached by {backend}:\n{shown}");
    let working = tasks(director.daemon().id(), "packets-");
    ensure!(!working.is_empty(), "no packet threads");
    Ok(Forwarder { working, running: Running::Viaduct(Box::new(director)) })
}

/// Both interfaces by this backend, and one service.
pub fn config(backend: &str) -> String {
    format!(
        "[[interface]]\nname = \"d0\"\nbackend = \"{backend}\"\n\
         [[interface]]\nname = \"d1\"\nbackend = \"{backend}\"\n\
         [[service]]\nname = \"dns\"\naddress = \"192.0.2.10:53\"\nprotocol = \"udp\"\n\
         scheduler = \"rr\"\nmethod = \"nat\"\n\
         [[service.real]]\naddress = \"10.2.0.1:53\"\nweight = 1\n"
    )
}

/// Threads of a process whose name starts so.
pub fn tasks(process: u32, start: &str) -> Vec<i32> {
    let folder = format!("/proc/{process}/task");
    let tasks = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = tasks.filter(|task| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.starts_with(start)
    });
    named.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

fn bare(backend: Backend, wires: &Wires) -> Result<Forwarder> {
    let bare::Opened { held, outside, inside } = wires.director.enter(|| open(backend))??;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, (tell, told)) = (Arc::clone(&stop), mpsc::channel());
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid().as_raw())?;
        swap_addresses(outside, inside, &stopped)
    });
    let working = told.recv()?;
    run(&["chrt", "-f", "-p", "10", &working.to_string()]);
    let running = Running::Bare { stop, thread, _held: Box::new(held) };
    Ok(Forwarder { working: vec![working], running })
}

fn open(backend: Backend) -> Result<bare::Opened> {
    let service = Endpoint { protocol: Protocol::Udp, address: VIP, ports: Ports::One(53) };
    let rules = SteeringRules {
        owned: [VIP].into(),
        services: [service].into(),
        ..SteeringRules::default()
    };
    bare::open(&rules, ["d0", "d1"], backend)
}

/// What any forwarder has to do at least.
fn swap_addresses(mut outside: Port, mut inside: Port, stopped: &AtomicBool) -> Result<()> {
    while !stopped.load(Ordering::Relaxed) {
        if bare::pass(&mut outside, &mut inside, readdress)? == 0 {
            let descriptor = outside.receive.descriptor().context("a descriptor")?;
            let timeout = PollTimeout::from(20u16);
            let _ = poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout);
        }
    }
    Ok(())
}

fn readdress(frame: &mut Frame<'_>) {
    let bytes = frame.bytes_mut();
    bytes[..6].copy_from_slice(&SINK);
    bytes[6..12].copy_from_slice(&OWN);
    bytes[30..34].copy_from_slice(&[10, 2, 0, 1]);
}
