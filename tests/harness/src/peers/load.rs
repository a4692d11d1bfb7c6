//! Load generators and the numbers in what they print.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host::{Host, command};
use crate::process::{Finished, Process};

/// What ApacheBench reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ab {
    /// Requests that were answered.
    pub complete: u64,
    /// Requests that failed, for any reason.
    pub failed: u64,
    /// Requests per second.
    pub rate: f64,
}

/// Requests `url` over a new connection each time.
///
/// # Errors
/// When ab ends badly or takes longer than `limit`.
pub fn ab(host: &Host, url: &str, requests: u32, concurrency: u32, limit: Duration) -> Result<Ab> {
    let (requests, concurrency) = (requests.to_string(), concurrency.to_string());
    // -l: answers differ in length, because the servers' names do.
    let arguments = ["ab", "-q", "-l", "-r", "-s", "30", "-n", &requests, "-c", &concurrency, url];
    ab_report(&host.run_for(&arguments, limit)?)
}

/// Starts to request `url` over a new connection each time, for `seconds`; a request that takes
/// longer than `patience` seconds ends the run with an error. [`ab_report`] reads what came of it.
///
/// # Errors
/// When ab cannot be started.
pub fn ab_running(
    host: &Host,
    url: &str,
    concurrency: u32,
    (seconds, patience): (u32, u32),
) -> Result<Process> {
    let (seconds, patience) = (seconds.to_string(), patience.to_string());
    let concurrency = concurrency.to_string();
    // -n after -t: otherwise the run ends after 50,000 requests.
    let endless = ["-t", &seconds, "-n", "100000000"];
    let arguments = [&["ab", "-q", "-l", "-r", "-s", &patience, "-c", &concurrency], &endless[..]];
    host.spawn(command(&[&arguments.concat()[..], &[url]].concat())?)
}

/// Reads what ab printed.
///
/// # Errors
/// When it ended badly.
pub fn ab_report(ended: &Finished) -> Result<Ab> {
    let text = ended.clone().ok()?;
    let field = |name: &str| number_after(&text, name).with_context(|| format!("{name} in {text}"));
    // "(Connect: 0, Receive: 3, Length: 0, Exceptions: 3)" stands there only when one failed. A
    // connection that was reset counts as both of Receive and Exceptions.
    let part = |name: &str| number_after(&text, name).unwrap_or(0.0);
    let broken = part("Receive:").max(part("Exceptions:"));
    let failed = part("(Connect:") + broken + part("Length:") + part("Non-2xx responses:");
    field("Failed requests:")?;
    Ok(Ab {
        complete: field("Complete requests:")? as u64,
        failed: failed as u64,
        rate: field("Requests per second:")?,
    })
}

/// What wrk reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wrk {
    /// Requests per second.
    pub rate: f64,
    /// Socket errors of all kinds and bad status codes.
    pub errors: u64,
}

/// Requests `url` over kept connections for `seconds`.
///
/// # Errors
/// When wrk ends badly.
pub fn wrk(host: &Host, url: &str, connections: u32, seconds: u32) -> Result<Wrk> {
    wrk_asking(host, &[url], connections, seconds)
}

/// The same with a new connection for each request.
///
/// # Errors
/// When wrk ends badly.
pub fn wrk_closing(host: &Host, url: &str, connections: u32, seconds: u32) -> Result<Wrk> {
    wrk_asking(host, &["-H", "Connection: close", url], connections, seconds)
}

fn wrk_asking(host: &Host, request: &[&str], connections: u32, seconds: u32) -> Result<Wrk> {
    let (connections, duration) = (connections.to_string(), format!("{seconds}s"));
    let arguments = ["wrk", "-t2", "-c", &connections, "-d", &duration, "--timeout", "10s"];
    let arguments = [&arguments, request].concat();
    let limit = Duration::from_secs(u64::from(seconds) + 60);
    let text = host.run_for(&arguments, limit)?.ok()?;
    let rate = number_after(&text, "Requests/sec:").with_context(|| text.clone())?;
    // "Socket errors: connect 0, read 0, write 0, timeout 0" stands there only when one is not 0.
    let sockets: u64 = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Socket errors:"))
        .map(|line| {
            line.split(',')
                .filter_map(|part| part.split_whitespace().last()?.parse::<u64>().ok())
                .sum()
        })
        .unwrap_or(0);
    let statuses = number_after(&text, "Non-2xx or 3xx responses:").unwrap_or(0.0) as u64;
    Ok(Wrk { rate, errors: sockets + statuses })
}

/// What an iperf3 client reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Iperf3 {
    /// Received, in bits per second over the whole run.
    pub bits_per_second: f64,
    /// Segments that the sender sent again.
    pub retransmits: u64,
    /// Bytes of all streams together in each second.
    pub each_second: Vec<f64>,
    /// Bytes sent in the whole run.
    pub bytes: f64,
}

/// Sends over `streams` TCP connections for `seconds`.
///
/// # Errors
/// When iperf3 ends badly or its report lacks something.
pub fn iperf3(host: &Host, server: &str, port: u16, streams: u32, seconds: u32) -> Result<Iperf3> {
    let (port, streams, time) = (port.to_string(), streams.to_string(), seconds.to_string());
    let arguments = [
        "iperf3",
        "--client",
        server,
        "--port",
        &port,
        "--parallel",
        &streams,
        "--time",
        &time,
        "--json",
    ];
    let limit = Duration::from_secs(u64::from(seconds) + 60);
    iperf3_report(&host.run_for(&arguments, limit)?)
}

/// Reads what an iperf3 client with `--json` printed.
///
/// # Errors
/// When its report lacks something, as it does after a failure.
pub fn iperf3_report(ended: &Finished) -> Result<Iperf3> {
    let report: Value = serde_json::from_str(&ended.stdout).with_context(|| ended.to_string())?;
    let number = |path: &str| {
        report.pointer(path).and_then(Value::as_f64).with_context(|| format!("{path}: {ended}"))
    };
    let intervals = report["intervals"].as_array().context("no intervals")?;
    Ok(Iperf3 {
        bits_per_second: number("/end/sum_received/bits_per_second")?,
        retransmits: number("/end/sum_sent/retransmits")? as u64,
        each_second: intervals.iter().filter_map(|i| i["sum"]["bytes"].as_f64()).collect(),
        bytes: number("/end/sum_sent/bytes")?,
    })
}

/// The first number after `label` in a program's report.
fn number_after(text: &str, label: &str) -> Option<f64> {
    let (_, rest) = text.split_once(label)?;
    rest.split_whitespace().next()?.trim_end_matches([',', ')']).parse().ok()
}
