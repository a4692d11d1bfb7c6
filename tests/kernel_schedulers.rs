//! Our schedulers choose what the kernel's IPVS chooses, server for server.
//!
//! The same services, changes and connections are given to IPVS inside a guest that runs Debian's
//! kernel and to `dataplane::packet_path::schedule`; the two lists of chosen servers must be equal.
//! The kernel's choice is read off the frames that it forwards (direct routing: the Ethernet
//! destination names the server), so real servers are not needed. Connections become active with
//! SYN and ACK, inactive with FIN, and end by a timeout that is waited for.
//!
//! Facts about Debian 12's kernel (6.1.192) that these tests settled, where kernels differ: lc, wlc,
//! lblc and lblcr count `active * 257 + inactive`; changed thresholds take effect at once, not with
//! the next connection.
//!
//! Two differences are left alone. The kernel's lblc and lblcr remember the destinations of a
//! removed server in case it comes back. And an edit that changes nothing makes its wrr start over.
//!
//! Debian builds its kernel without `twos`, which draws random numbers anyway; it is compared with
//! its definition instead.

mod book;
mod frames;
mod kernel;
mod ours;
mod random;
mod scenario;
mod situations;
mod twos;

use anyhow::{Result, ensure};
use dataplane::table::{Scheduler, SchedulerFlags};
use harness::guest::{Guest, Options};
use kernel::Kernel;
use ours::Ours;
use scenario::Scenario;

/// Scenarios of random changes and connections for each scheduler.
const RANDOM_SCENARIOS: u64 = 4;

/// Every scheduler that Debian's kernel has, with each combination of the flags that it heeds.
fn schedulers() -> Vec<(Scheduler, SchedulerFlags)> {
    let none = SchedulerFlags::default();
    let fallback = SchedulerFlags { flag_1: true, ..none };
    let port = SchedulerFlags { flag_2: true, ..none };
    let both = SchedulerFlags { flag_1: true, flag_2: true, ..none };
    let mut all = Vec::new();
    for scheduler in [Scheduler::Sh, Scheduler::Mh] {
        all.extend([none, fallback, port, both].map(|flags| (scheduler, flags)));
    }
    all.extend(
        [
            Scheduler::Rr,
            Scheduler::Wrr,
            Scheduler::Lc,
            Scheduler::Wlc,
            Scheduler::Lblc,
            Scheduler::Lblcr,
            Scheduler::Dh,
            Scheduler::Sed,
            Scheduler::Nq,
            Scheduler::Fo,
            Scheduler::Ovf,
        ]
        .map(|scheduler| (scheduler, none)),
    );
    all
}

/// Runs all scenarios in both worlds, phase by phase, and compares.
fn compare(scenarios: Vec<Scenario>) -> Result<()> {
    let expected = Kernel::start(&scenarios)?.run(&scenarios)?;
    let mut differences = String::new();
    for (scenario, expected) in scenarios.iter().zip(expected) {
        let chosen = Ours::new(scenario).run(scenario);
        if chosen != expected {
            differences += &scenario.describe_difference(&expected, &chosen);
        }
    }
    ensure!(differences.is_empty(), "kernel and dataplane differ\n{differences}");
    Ok(())
}

#[test]
fn random_changes_and_connections_lead_to_the_kernels_choices() -> Result<()> {
    let mut scenarios = Vec::new();
    for (scheduler, flags) in schedulers() {
        for seed in 0..RANDOM_SCENARIOS {
            let number = u8::try_from(scenarios.len())?;
            scenarios.push(random::scenario(number, seed, scheduler, flags));
        }
    }
    compare(scenarios)
}

#[test]
fn known_corner_cases_lead_to_the_kernels_choices() -> Result<()> {
    compare(situations::all()?)
}

#[test]
fn debians_kernel_has_no_twos() -> Result<()> {
    let mut guest = Guest::boot(&Options::default())?;
    let output = guest.run("ipvsadm -A -t 192.0.2.1:80 -s twos")?;
    ensure!(output.code != 0, "this kernel has twos: compare its distribution with ours");
    Ok(())
}
