//! qemu's own socket for questions about the machine (docs/interop/qmp-spec.txt).

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// qemu answers between two portions of the guest's work.
const PATIENCE: Duration = Duration::from_secs(60);

/// A conversation with qemu.
#[derive(Debug)]
pub struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Begins one.
    ///
    /// # Errors
    /// qemu is gone, or greets in another way.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).context("connecting to qemu's monitor")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self(BufReader::new(stream));
        let greeting = monitor.line()?;
        ensure!(greeting.get("QMP").is_some(), "qemu greets with {greeting}");
        monitor.ask("qmp_capabilities")?;
        Ok(monitor)
    }

    /// How many instructions the guest has executed; none while it is idle.
    ///
    /// # Errors
    /// qemu is gone or does not count them.
    pub fn instructions(&mut self) -> Result<u64> {
        let answer = self.ask("query-replay")?;
        answer["icount"].as_u64().with_context(|| format!("no count of instructions in {answer}"))
    }

    fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.0.get_mut(), "{{\"execute\": \"{command}\"}}")?;
        loop {
            let mut answer = self.line()?;
            if answer.get("event").is_some() {
                continue;
            }
            let value = answer.get_mut("return").map(Value::take);
            return value.with_context(|| format!("qemu answers {command} with {answer}"));
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("waiting for qemu's answer")?;
        serde_json::from_str(&line).with_context(|| format!("qemu says {line:?}"))
    }
}
