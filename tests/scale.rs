//! A large document: a thousand services with twenty real servers each are applied for little CPU,
//! and a change of one server costs next to nothing.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Director, Site};

const BINARY: &str = env!("CARGO_BIN_EXE_viaduct");
const SERVICES: usize = 1000;
const REALS: usize = 20;

/// What the daemon may spend on the whole document.
const APPLY: Duration = Duration::from_secs(2);

fn document() -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let (high, low) = (service / 250, service % 250 + 1);
        let _ = write!(
            text,
            "[[service]]\nname = \"service-{service}\"\naddress = \"203.0.{high}.{low}:80\"\n\
             scheduler = \"wlc\"\npersistence = {{ timeout = \"300s\" }}\n"
        );
        for real in 1..=REALS {
            let _ = write!(
                text,
                "[[service.real]]\naddress = \"10.{}.{low}.{real}:80\"\nweight = {real}\n",
                high + 1
            );
        }
    }
    text
}

/// CPU time that the daemon has used, all threads together.
fn cpu(director: &Director) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", director.daemon().id()))?;
    // The program's name, in parentheses, may hold blanks; user and system time are the 12th and
    // 13th field after it, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let hundredths = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(hundredths * 10))
}

fn spent(director: &Director, arguments: &[&str]) -> Result<Duration> {
    let before = cpu(director)?;
    director.viaduct(arguments)?;
    Ok(cpu(director)?.saturating_sub(before))
}

#[test]
fn a_thousand_services_with_twenty_real_servers_each_are_applied_for_two_seconds_of_cpu()
-> Result<()> {
    let _alone = harness::alone()?;
    let site = Site::new("scale", 0, 0)?;
    let director = Director::start(&site.director, Path::new(BINARY), None)?;
    let file = director.host().directory().join("large.toml");
    fs::write(&file, document())?;
    let file = file.to_string_lossy().into_owned();
    let all = spent(&director, &["apply", &file])?;
    let status = director.viaduct(&["show", "status"])?;
    ensure!(status.contains("1000") && status.contains("20000"), "{status}");
    let same = spent(&director, &["apply", &file])?;
    let one = ["ipvsadm", "-e", "-t", "203.0.1.7:80", "-r", "10.2.7.9:80", "-m", "-w", "77"];
    let mut changes = Duration::ZERO;
    for _ in 0..5 {
        changes += spent(&director, &one)?;
    }
    println!(
        "CPU of the daemon: {:.2} s for {SERVICES} services x {REALS} real servers, {:.2} s to find \
         that nothing differs, {:.3} s for one server",
        all.as_secs_f64(),
        same.as_secs_f64(),
        changes.as_secs_f64() / 5.0
    );
    // Without optimisation nothing is promised.
    ensure!(cfg!(debug_assertions) || all < APPLY, "{all:?} is more than {APPLY:?}");
    Ok(())
}
