//! The command line: one module for each command.

mod accounts;
mod config;
mod config_file;
#[cfg(feature = "demo")]
pub mod demo;
mod doctor;
mod explain;
mod generate;
mod high_availability;
pub mod ipvsadm;
mod notify;
mod operate;
mod print;
mod real_server;
mod replay;
mod run;
mod show;

use crate::args::{Arguments, Command, SyncAction};
use crate::client::{Client, ClientError};
use std::process::ExitCode;

/// Why a command did not do as asked: exit code 1.
#[derive(Debug)]
pub enum CommandError {
    /// The daemon was not there, or refused.
    Client(ClientError),
    /// A file or the terminal failed.
    Io(String, std::io::Error),
    /// The text is no good; every line says what and where.
    Problems(Vec<String>),
    /// Anything else, in words.
    Failed(String),
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(failure) if !failure.problems.is_empty() => {
                Self::Problems(failure.problems.iter().map(ToString::to_string).collect())
            }
            ClientError::Refused(_) | ClientError::NotRunning(..) | ClientError::Broken(_) => {
                Self::Client(error)
            }
        }
    }
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(error) => write!(f, "viaduct: {error}"),
            Self::Io(what, error) => write!(f, "viaduct: {what}: {error}"),
            Self::Problems(lines) => f.write_str(&lines.join("\n")),
            Self::Failed(what) => write!(f, "viaduct: {what}"),
        }
    }
}

/// What a command comes to.
type Outcome = Result<(), CommandError>;

/// Does what the command line says.
pub fn run(arguments: Arguments) -> ExitCode {
    let client = Client::new(&arguments.socket);
    let outcome = match arguments.command {
        Command::Run(run) => return run::run(&run, &arguments.socket),
        #[cfg(feature = "demo")]
        Command::Demo(demo) => return demonstrate(&demo),
        Command::Check { file } => config::check(&file),
        Command::Apply { file, confirm_within, comment } => {
            config::apply(&client, &file, confirm_within, &comment)
        }
        Command::Confirm => config::confirm(&client),
        Command::Diff { file, revision, json } => config::diff(&client, &file, revision, json),
        Command::Rollback { revision } => config::roll_back(&client, revision),
        Command::History { json } => config::history(&client, json),
        Command::Export { revision } => config::export(&client, revision),
        Command::Show(show) => show::show(&client, &show),
        Command::Ipvsadm { .. } => {
            // Told apart before the command line was parsed; only help gets here.
            Err(CommandError::Failed("ipvsadm must be the first word".to_owned()))
        }
        Command::Drain { service, real, reason, within, persistent } => {
            operate::drain(&client, service, real, reason, within, persistent.into())
        }
        Command::Undrain { service, real } => operate::undrain(&client, service, real),
        Command::User { action } => accounts::user(&client, action),
        Command::Token { action } => accounts::token(&client, action),
        Command::KillConnections(kill) => operate::kill(&client, kill),
        Command::Pair => high_availability::pair(&client),
        Command::Join { code } => high_availability::join(&client, code),
        Command::Sync { action: SyncAction::Keep, whose } => {
            high_availability::keep(&client, whose)
        }
        Command::Failover { instance } => high_availability::failover(&client, instance),
        Command::Explain { from, to, protocol, json } => {
            explain::explain(&client, from, to, protocol, json)
        }
        Command::Replay { capture, config, out, json } => {
            replay::run(&capture, &config, &out, json)
        }
        Command::Doctor { state, json } => doctor::doctor(&client, &state, json),
        Command::RealServer(arguments) => real_server::real_server(&arguments),
        Command::Backup { file } => operate::backup(&client, &file),
        Command::Restore { file } => operate::restore(&client, &file),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { folder } => generate::man(&folder),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has gone, and has what they wanted.
        Err(CommandError::Io(_, error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "demo")]
fn demonstrate(arguments: &demo::DemoArguments) -> ExitCode {
    demo::run(arguments).unwrap_or_else(|error| {
        eprintln!("viaduct: {error:#}");
        ExitCode::FAILURE
    })
}
