//! Carries out commands: asks the director and writes what `ipvsadm` would write.

use super::command::{Command, Style, View};
use super::connections::Connections;
use super::director::{Director, Unreachable};
use super::message::{Failure, error_text};
use super::names::Names;
use super::table::Table;
use super::{order, parse, restore, save};
use control::ipvs::{Daemon, DaemonRole, Info, MAX_PAGE, Reply, Request, ServiceEntry};
use control::model::VirtualAddress;
use std::io::{self, Write};

/// The most changes in one batch. More lines than this make more than one revision.
const MAX_BATCH: usize = 100_000;

const BANNER: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)";
const USAGE: &str = include_str!("usage.txt");

/// One run of the program, with everything that it touches.
pub struct Session<'a> {
    /// The program's name in messages.
    pub program: &'a str,
    /// The director that carries the commands out.
    pub director: &'a mut dyn Director,
    /// Where names come from.
    pub names: &'a dyn Names,
    /// Standard input.
    pub input: &'a mut dyn io::Read,
    /// Standard output.
    pub output: &'a mut dyn Write,
    /// Standard error.
    pub errors: &'a mut dyn Write,
}

/// Why a command ended early.
#[derive(Debug)]
enum End {
    Failure(Failure),
    /// Nobody reads what is written, or nothing can be read.
    Io(io::Error),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Unreachable> for End {
    fn from(unreachable: Unreachable) -> Self {
        Self::Failure(Failure::unreachable(&unreachable.to_string()))
    }
}

impl Session<'_> {
    /// `ipvsadm WORDS`. Returns the exit code.
    pub fn ipvsadm(&mut self, words: &[String]) -> u8 {
        let result = parse::parse(self.program, words, self.names)
            .map_err(End::Failure)
            .and_then(|command| self.execute(command));
        self.finish(result)
    }

    /// `ipvsadm-save WORDS`. Returns the exit code.
    pub fn save_script(&mut self, words: &[String]) -> u8 {
        if words.iter().any(|word| word.starts_with('-') && word != "-n") {
            let name = self.program.rsplit('/').next().unwrap_or_default();
            let help = format!(
                "{name}: Script to save the IPVS table to stdout.\n   With the -n option, prints \
                 out the table in numeric format."
            );
            return self.finish(Err(Failure::listing(help).into()));
        }
        let result = self.save(words.iter().any(|word| word == "-n"));
        self.finish(result)
    }

    /// `ipvsadm-restore`: clears everything, then restores. Returns the exit code.
    pub fn restore_script(&mut self) -> u8 {
        let mut text = Vec::new();
        let read = self.input.read_to_end(&mut text).map_err(End::Io);
        // The script runs `ipvsadm` by its bare name.
        self.program = "ipvsadm";
        let text = restore::without_comments(&text);
        let result = read.and_then(|_| self.restore(&text, Some(Request::Flush)));
        self.finish(result)
    }

    fn finish(&mut self, result: Result<u8, End>) -> u8 {
        let code = match result {
            Ok(code) => code,
            Err(End::Failure(failure)) => {
                self.say(&failure.message);
                failure.code
            }
            Err(End::Io(error)) => {
                if error.kind() != io::ErrorKind::BrokenPipe {
                    self.say(&error.to_string());
                }
                1
            }
        };
        match self.output.flush() {
            Ok(()) => code,
            Err(_) => code.max(1),
        }
    }

    /// Writes to standard error. There is nowhere to report that this failed.
    fn say(&mut self, message: &str) {
        let _ = writeln!(self.errors, "{message}");
    }

    fn execute(&mut self, command: Command) -> Result<u8, End> {
        match command {
            Command::Help => write!(self.output, "{}", usage(self.program))?,
            Command::Version => writeln!(self.output, "{BANNER}")?,
            Command::Change(request) => {
                let reply = self.director.request(&request)?;
                if let Some(failure) = refusal(&request, &reply) {
                    return Err(failure.into());
                }
            }
            Command::List { service: None, view, style } => self.list_all(view, style)?,
            Command::List { service: Some(service), view, style } => {
                self.list_one(service, view, style)?;
            }
            Command::ListConnections { numeric, engines } => {
                self.list_connections(numeric, engines)?;
            }
            Command::ListTimeouts => self.list_timeouts()?,
            Command::ListDaemons => self.list_daemons()?,
            Command::Save { numeric } => return self.save(numeric),
            Command::Restore => {
                let mut text = Vec::new();
                self.input.read_to_end(&mut text)?;
                return self.restore(&text, None);
            }
        }
        Ok(0)
    }

    fn list_all(&mut self, view: View, style: Style) -> Result<(), End> {
        let (info, mut services) = self.everything()?;
        if style.sorted {
            order::sort(&mut services);
        }
        let (major, minor, patch) = info.version;
        let size = info.table_size;
        writeln!(self.output, "IP Virtual Server version {major}.{minor}.{patch} (size={size})")?;
        self.write_services(&services, view, style)
    }

    fn list_one(&mut self, service: VirtualAddress, view: View, style: Style) -> Result<(), End> {
        let request = Request::Service { service };
        let Reply::Service(entry) = self.ask(&request)? else { return Err(odd()) };
        let mut services = vec![*entry];
        if style.sorted {
            order::sort(&mut services);
        }
        self.write_services(&services, view, style)
    }

    fn write_services(
        &mut self,
        services: &[ServiceEntry],
        view: View,
        style: Style,
    ) -> Result<(), End> {
        let table = Table::new(view, style, self.names);
        write!(self.output, "{}", table.title())?;
        for entry in services {
            write!(self.output, "{}", table.service(entry))?;
        }
        Ok(())
    }

    /// Version and services in one round trip.
    fn everything(&mut self) -> Result<(Info, Vec<ServiceEntry>), End> {
        let request = Request::Batch(vec![Request::Info, Request::Services]);
        let Reply::Batch(replies) = self.ask(&request)? else { return Err(odd()) };
        let mut replies = replies.into_iter();
        match (replies.next(), replies.next()) {
            (Some(Reply::Info(info)), Some(Reply::Services(services))) => Ok((info, services)),
            _ => Err(odd()),
        }
    }

    fn list_connections(&mut self, numeric: bool, engines: bool) -> Result<(), End> {
        let connections = Connections::new(numeric, engines, self.names);
        let mut cursor = Some(0);
        let mut title = Some(connections.title());
        while let Some(at) = cursor {
            let request = Request::Connections { cursor: at, limit: MAX_PAGE };
            let Reply::Connections(page) = self.ask(&request)? else { return Err(odd()) };
            write!(self.output, "{}", title.take().unwrap_or_default())?;
            for connection in &page.connections {
                write!(self.output, "{}", connections.line(connection))?;
            }
            cursor = page.next;
        }
        Ok(())
    }

    fn list_timeouts(&mut self) -> Result<(), End> {
        let Reply::Timeouts(timeouts) = self.ask(&Request::Timeouts)? else { return Err(odd()) };
        let (tcp, tcp_fin, udp) = (timeouts.tcp, timeouts.tcp_fin, timeouts.udp);
        Ok(writeln!(self.output, "Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}")?)
    }

    fn list_daemons(&mut self) -> Result<(), End> {
        let Reply::Daemons(daemons) = self.ask(&Request::Daemons)? else { return Err(odd()) };
        for daemon in &daemons {
            writeln!(self.output, "{}", daemon_line(daemon))?;
        }
        Ok(())
    }

    fn save(&mut self, numeric: bool) -> Result<u8, End> {
        let Reply::Services(mut services) = self.ask(&Request::Services)? else {
            return Err(odd());
        };
        order::sort(&mut services);
        for entry in &services {
            write!(self.output, "{}", save::commands(entry, numeric, self.names))?;
            for server in entry.servers.iter().filter(|server| save::is_lost(server.method)) {
                let server = server.server;
                self.say(&format!("{server}: full NAT has no option in ipvsadm, saved as -m"));
            }
        }
        Ok(0)
    }

    /// Asks for something to show.
    fn ask(&mut self, request: &Request) -> Result<Reply, End> {
        let reply = self.director.request(request)?;
        match &reply {
            Reply::Failed(errno) => {
                let text = error_text(request, *errno);
                Err(Failure::listing(text.to_owned()).into())
            }
            Reply::Refused(message) => Err(Failure::listing(message.clone()).into()),
            Reply::Done
            | Reply::Info(_)
            | Reply::Services(_)
            | Reply::Service(_)
            | Reply::Timeouts(_)
            | Reply::Daemons(_)
            | Reply::Connections(_)
            | Reply::Batch(_) => Ok(reply),
        }
    }

    /// Carries out every line. The exit code is that of the last one.
    fn restore(&mut self, text: &[u8], first: Option<Request>) -> Result<u8, End> {
        let mut waiting: Vec<Line> = first.into_iter().map(Line::Change).collect();
        let mut code = 0;
        for words in restore::lines(text) {
            match parse::parse(self.program, &words, self.names) {
                Ok(Command::Change(request)) => waiting.push(Line::Change(request)),
                Err(failure) if !failure.fatal => waiting.push(Line::Failed(failure)),
                Ok(Command::Restore) => {
                    self.carry_out(&mut waiting)?;
                    return Err(Failure::try_help(self.program).into());
                }
                Ok(command @ (Command::Help | Command::Version)) => {
                    self.carry_out(&mut waiting)?;
                    return self.execute(command);
                }
                Ok(command) => {
                    self.carry_out(&mut waiting)?;
                    code = self.execute(command)?;
                }
                Err(failure) => {
                    self.carry_out(&mut waiting)?;
                    return Err(failure.into());
                }
            }
            if waiting.len() >= MAX_BATCH {
                code = self.carry_out(&mut waiting)?;
            }
        }
        if waiting.is_empty() { Ok(code) } else { self.carry_out(&mut waiting) }
    }

    /// Sends the changes of the lines that wait, and says what each line has to say. Returns the
    /// code of the last line.
    fn carry_out(&mut self, waiting: &mut Vec<Line>) -> Result<u8, End> {
        let lines = std::mem::take(waiting);
        let requests: Vec<Request> = lines.iter().filter_map(Line::request).cloned().collect();
        let mut replies = if requests.is_empty() {
            Vec::new().into_iter()
        } else {
            let reply = self.director.request(&Request::Batch(requests))?;
            let Reply::Batch(replies) = reply else { return Err(odd()) };
            replies.into_iter()
        };
        let mut code = 0;
        for line in lines {
            let failure = match line {
                Line::Failed(failure) => Some(failure),
                Line::Change(request) => {
                    let reply = replies.next().ok_or_else(odd)?;
                    refusal(&request, &reply)
                }
            };
            code = failure.as_ref().map_or(0, |failure| failure.code);
            if let Some(failure) = failure {
                self.say(&failure.message);
            }
        }
        Ok(code)
    }
}

/// A line of a restore that waits for its batch.
enum Line {
    Change(Request),
    /// It could not be understood, which is to be said in its turn.
    Failed(Failure),
}

impl Line {
    const fn request(&self) -> Option<&Request> {
        match self {
            Self::Change(request) => Some(request),
            Self::Failed(_) => None,
        }
    }
}

/// What to say when a change was refused.
fn refusal(request: &Request, reply: &Reply) -> Option<Failure> {
    match reply {
        Reply::Done => None,
        Reply::Failed(errno) => Some(Failure::refused(error_text(request, *errno).to_owned())),
        Reply::Refused(message) => Some(Failure::refused(message.clone())),
        Reply::Info(_)
        | Reply::Services(_)
        | Reply::Service(_)
        | Reply::Timeouts(_)
        | Reply::Daemons(_)
        | Reply::Connections(_)
        | Reply::Batch(_) => Some(Failure::refused(ODD.into())),
    }
}

const ODD: &str = "Viaduct gave an answer to another question";

fn odd() -> End {
    Failure::listing(ODD.into()).into()
}

fn usage(program: &str) -> String {
    format!("{BANNER}\n{}", USAGE.replace("{program}", program))
}

fn daemon_line(daemon: &Daemon) -> String {
    let role = match daemon.role {
        DaemonRole::Master => "master",
        DaemonRole::Backup => "backup",
    };
    let mut line =
        format!("{role} sync daemon (mcast={}, syncid={}", daemon.interface, daemon.sync_id);
    if daemon.max_length != 0 {
        line.push_str(&format!(", maxlen={}", daemon.max_length));
    }
    if let Some(group) = daemon.group {
        line.push_str(&format!(", group={group}"));
    }
    if daemon.port != 0 {
        line.push_str(&format!(", port={}", daemon.port));
    }
    if daemon.ttl != 0 {
        line.push_str(&format!(", ttl={}", daemon.ttl));
    }
    line.push(')');
    line
}
