//! `ipvsadm` against Viaduct is `ipvsadm` against the kernel: the same commands, the same standard
//! output, standard error and exit code.
//!
//! The reference is Debian's `ipvsadm` in front of the real IPVS inside a guest that runs Debian's
//! kernel. Sequences of commands are drawn at random from small pools, so that they meet what is
//! there already, what is gone, and what is impossible.
//!
//! What is known to differ and left out: the kernel takes virtual addresses that no director could
//! answer for (0.0.0.0, multicast), Viaduct refuses them; Debian builds its kernel without the
//! scheduler `twos`. The kernel mixes a random number into the order of `--nosort`; it is found out
//! and undone.

mod bucket;
mod commands;
mod directors;

use anyhow::{Result, ensure};
use bucket::Secret;
use commands::{Command, Generator};
use directors::{Daemon, InProcess, Kernel, Outcome, Viaduct};
use harness::Lab;
use std::path::Path;

/// Commands after which everything is cleared and a new sequence begins.
const SEQUENCE: usize = 60;

/// Runs the same commands on both sides and compares all that they print.
fn compare(viaduct: &mut dyn Viaduct, seed: u64, sequences: usize) -> Result<()> {
    let mut generator = Generator::new(seed);
    let commands: Vec<Command> = (0..sequences)
        .flat_map(|_| {
            let random: Vec<_> = (0..SEQUENCE).map(|_| generator.command()).collect();
            [random, commands::everything(), commands::clear()].concat()
        })
        .collect();
    let kernel = Kernel::boot()?.run(&commands)?;
    let mut secret = Secret::default();
    let mut last_clear = 0;
    for (at, (command, theirs)) in commands.iter().zip(&kernel).enumerate() {
        let ours = viaduct.run(command)?;
        let unsorted = command.words.iter().any(|word| word == "--nosort");
        let ours = if unsorted {
            Outcome { stdout: secret.reorder(&ours.stdout, &theirs.stdout)?, ..ours }
        } else {
            ours
        };
        let history = || {
            let lines = commands[last_clear..=at].iter().map(Command::line);
            lines.collect::<Vec<_>>().join("\n")
        };
        ensure!(ours == *theirs, "after\n{}\n--- kernel\n{theirs}\n--- Viaduct\n{ours}", history());
        if command.words == ["-C"] {
            last_clear = at;
        }
    }
    let refused = kernel.iter().filter(|outcome| outcome.code != 0).count();
    let enough = refused * 10 > kernel.len() && refused * 10 < kernel.len() * 9;
    ensure!(enough, "{refused} of {} commands failed: that proves little", kernel.len());
    ensure!(secret.is_known(), "no list was long enough to tell the kernel's random number");
    Ok(())
}

/// The whole of `ipvsadm` and the kernel's rules on a document, without a daemon between them.
#[test]
fn every_answer_is_the_kernels() -> Result<()> {
    compare(&mut InProcess::new(), 1, 30)
}

/// The program itself, through its socket to a daemon that commits every change.
#[test]
fn the_daemon_answers_as_the_kernel_does() -> Result<()> {
    let lab = Lab::new("ipvsdiff")?;
    let host = lab.host("director")?;
    let interface = host.attach(&lab.network("sync")?, &[directors::ADDRESS])?;
    ensure!(interface.name == directors::INTERFACE, "the lab named it {}", interface.name);
    let director = harness::Director::start(&host, Path::new(env!("CARGO_BIN_EXE_viaduct")), None)?;
    compare(&mut Daemon::new(&director), 2, 8)
}
