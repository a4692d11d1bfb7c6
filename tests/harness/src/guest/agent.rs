//! Talks to the shell inside the guest: one request at a time, every part prefixed by its length.

use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What a command printed and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code; 128 and more for signals, as a shell reports them.
    pub code: i32,
}

/// The host's end of the guest's virtio port.
#[derive(Debug)]
pub struct Agent {
    stream: BufReader<UnixStream>,
    batches: u64,
}

struct Answer {
    code: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Agent {
    /// Waits until the guest says that it is ready.
    pub fn greet(stream: UnixStream, boot: Duration, deadline: Duration) -> Result<Self> {
        stream.set_read_timeout(Some(boot))?;
        let mut agent = Self { stream: BufReader::new(stream), batches: 0 };
        let greeting = agent.line()?;
        if greeting != "ready" {
            bail!("the guest greets with {greeting:?}");
        }
        agent.stream.get_ref().set_read_timeout(Some(deadline))?;
        agent.stream.get_ref().set_write_timeout(Some(deadline))?;
        Ok(agent)
    }

    /// Runs every command in a subshell of one script. Between commands the script prints a mark
    /// that no command prints, on both outputs, with the exit code on the first.
    pub fn run_all<S: AsRef<str>>(&mut self, commands: &[S]) -> Result<Vec<Output>> {
        self.batches += 1;
        let mark = format!("--{:x}-{:x}-end-of-command--", std::process::id(), self.batches);
        let mut script = String::new();
        for command in commands {
            let command = command.as_ref();
            let _ = write!(script, "(\n{command}\n)\necho \"{mark} $?\"\necho '{mark}' >&2\n");
        }
        script.push_str("exit 0\n");
        let answer = self.ask(&format!("run {}", script.len()), script.as_bytes())?;
        let outputs = split(&answer, &mark);
        if answer.code != 0 || outputs.len() != commands.len() {
            let stopped = commands.get(outputs.len()).map_or("", AsRef::as_ref);
            let messages = String::from_utf8_lossy(&answer.stderr);
            bail!("the shell gave up at `{stopped}` with {}: {messages}", answer.code);
        }
        Ok(outputs)
    }

    /// Writes a file inside the guest.
    pub fn put_file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        if content.is_empty() {
            // The guest's dd knows no block of zero bytes.
            let output = self.run_all(&[format!(": >'{path}'")])?;
            return match output.first() {
                Some(output) if output.code == 0 => Ok(()),
                _ => bail!("{output:?}"),
            };
        }
        let answer = self.ask(&format!("put {} {path}", content.len()), content)?;
        if answer.code != 0 {
            bail!("{}", String::from_utf8_lossy(&answer.stderr));
        }
        Ok(())
    }

    /// Reads a file inside the guest.
    pub fn get_file(&mut self, path: &str) -> Result<Vec<u8>> {
        let answer = self.ask(&format!("get 0 {path}"), &[])?;
        if answer.code != 0 {
            bail!("{}", String::from_utf8_lossy(&answer.stderr));
        }
        Ok(answer.stdout)
    }

    fn ask(&mut self, request: &str, body: &[u8]) -> Result<Answer> {
        let mut port = self.stream.get_ref();
        port.write_all(format!("{request}\n").as_bytes()).context("writing to the guest")?;
        port.write_all(body).context("writing to the guest")?;
        let line = self.line()?;
        let fields: Vec<_> = line.split(' ').collect();
        let &["done", code, stdout, stderr] = fields.as_slice() else {
            bail!("the guest answers {line:?}");
        };
        let (code, stdout, stderr) = (code.parse()?, stdout.parse()?, stderr.parse()?);
        Ok(Answer { code, stdout: self.bytes(stdout)?, stderr: self.bytes(stderr)? })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("waiting for the guest's answer")?;
        if line.pop() != Some('\n') {
            bail!("the guest closed its port");
        }
        Ok(line)
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).context("reading from the guest")?;
        Ok(bytes)
    }
}

fn split(answer: &Answer, mark: &str) -> Vec<Output> {
    let stdout = String::from_utf8_lossy(&answer.stdout);
    let stderr = String::from_utf8_lossy(&answer.stderr);
    let line = format!("{mark}\n");
    let mut messages = stderr.split(&line).map(str::to_owned);
    let mut outputs = Vec::new();
    let mut rest: &str = &stdout;
    while let Some((printed, after)) = rest.split_once(mark) {
        let (code, after) = after.split_once('\n').unwrap_or((after, ""));
        outputs.push(Output {
            stdout: printed.to_owned(),
            stderr: messages.next().unwrap_or_default(),
            code: code.trim().parse().unwrap_or(-1),
        });
        rest = after;
    }
    outputs
}
