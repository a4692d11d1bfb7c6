//! Who carries out commands: the kernel, Viaduct's own code, Viaduct's daemon.

use super::commands::Command;
use anyhow::{Context, Result};
use console::cli::ipvsadm::{Director, Session, SystemNames, Unreachable};
use control::ipvs::{
    ConnectionPage, Counters, Host, KernelState, Reply, Request, Running, RunningReal, execute,
};
use control::model::{Document, Service, VirtualAddress};
use harness::guest::{Guest, IPVS, Options, VIRTUAL_LINKS};
use std::fmt;
use std::net::SocketAddr;

/// An interface that both sides have, for sync daemons; its network has a broadcast address.
pub const INTERFACE: &str = "eth0";
pub const ADDRESS: &str = "10.77.0.1/24";

/// All that a command shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}(exit code {})", self.stdout, self.stderr, self.code)
    }
}

/// Debian's program on Debian's kernel.
pub struct Kernel {
    guest: Guest,
}

impl Kernel {
    pub fn boot() -> Result<Self> {
        let modules = [IPVS, VIRTUAL_LINKS].concat();
        let mut guest = Guest::boot(&Options { modules, ..Options::default() })?;
        guest.sh(&format!("ip link add {INTERFACE} type dummy"))?;
        guest.sh(&format!("ip address add {ADDRESS} dev {INTERFACE}"))?;
        guest.sh(&format!("ip link set {INTERFACE} up"))?;
        guest.sh("ip link set lo up")?;
        Ok(Self { guest })
    }

    pub fn run(&mut self, commands: &[Command]) -> Result<Vec<Outcome>> {
        let lines: Vec<String> = commands.iter().map(Command::line).collect();
        let outputs = self.guest.run_all(&lines)?;
        let outcome = |output: harness::guest::Output| Outcome {
            stdout: output.stdout,
            stderr: output.stderr,
            code: output.code,
        };
        Ok(outputs.into_iter().map(outcome).collect())
    }
}

/// One of the two forms of Viaduct.
pub trait Viaduct {
    fn run(&mut self, command: &Command) -> Result<Outcome>;
}

/// The program's code on a document of its own.
pub struct InProcess {
    paper: Paper,
    names: SystemNames,
}

struct Paper {
    document: Document,
    state: KernelState,
    host: Host,
}

impl InProcess {
    pub fn new() -> Self {
        let links = [(INTERFACE.to_owned(), 1500), ("lo".to_owned(), 65_536)];
        let addresses = [("10.77.0.1", 24), ("127.0.0.1", 8), ("::1", 128)];
        let addresses =
            addresses.into_iter().filter_map(|(ip, length)| Some((ip.parse().ok()?, length)));
        let host = Host::new(links, addresses);
        let paper = Paper { document: Document::default(), state: KernelState::default(), host };
        Self { paper, names: SystemNames::default() }
    }
}

impl Viaduct for InProcess {
    fn run(&mut self, command: &Command) -> Result<Outcome> {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let code = Session {
            program: "ipvsadm",
            director: &mut self.paper,
            names: &self.names,
            input: &mut command.input.as_bytes(),
            output: &mut output,
            errors: &mut errors,
        }
        .ipvsadm(&command.words);
        let (stdout, stderr) = (String::from_utf8(output)?, String::from_utf8(errors)?);
        Ok(Outcome { stdout, stderr, code: i32::from(code) })
    }
}

impl Director for Paper {
    fn request(&mut self, request: &Request) -> Result<Reply, Unreachable> {
        Ok(execute(request, &mut self.document, &mut self.state, &Still, &self.host).reply)
    }
}

/// A director that no packet has reached.
struct Still;

impl Running for Still {
    fn service(&self, _: &VirtualAddress) -> Counters {
        Counters::default()
    }

    fn reals(&self, service: &Service) -> Vec<RunningReal> {
        let running = |real: &control::model::Real| RunningReal {
            address: real.address,
            method: service.method_of(real),
            weight: real.weight,
            upper: real.upper,
            lower: real.lower,
            active: 0,
            inactive: 0,
            persistent: 0,
            counters: Counters::default(),
        };
        service.reals.iter().rev().map(running).collect()
    }

    fn removed(&self, _: &VirtualAddress, _: &SocketAddr) -> Option<Counters> {
        None
    }

    fn connections(&self, _: u64, _: u32) -> ConnectionPage {
        ConnectionPage::default()
    }

    fn table_size(&self) -> u32 {
        4096
    }
}

/// The program, talking to the daemon.
pub struct Daemon<'a> {
    director: &'a harness::Director,
}

impl<'a> Daemon<'a> {
    pub const fn new(director: &'a harness::Director) -> Self {
        Self { director }
    }
}

impl Viaduct for Daemon<'_> {
    fn run(&mut self, command: &Command) -> Result<Outcome> {
        let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
        let program = self.director.command(&[&["ipvsadm"], words.as_slice()].concat())?;
        let finished = self.director.host().run_with_input(program, &command.input)?;
        let code = finished.status.code().context("ipvsadm was killed")?;
        Ok(Outcome { stdout: finished.stdout, stderr: finished.stderr, code })
    }
}
