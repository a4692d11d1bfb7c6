//! `ipvsadm`, `ipvsadm-save` and `ipvsadm-restore`, for the director's IPVS instead of the kernel's.
//!
//! Grammar, messages, lists and exit codes are those of `ipvsadm` 1.31 as Debian ships it, byte for
//! byte, its slips included, because scripts read them. A command line becomes a [`Command`]
//! (`parse`), a command becomes requests to a [`Director`], and `table`, `save` and `connections`
//! write what comes back.

mod command;
mod connections;
mod director;
mod draft;
mod endpoint;
mod message;
mod names;
mod number;
mod options;
mod order;
mod parse;
mod popt;
mod restore;
mod save;
mod session;
mod table;
mod text;
mod tunnel;

pub use command::{Command, Style, View};
pub use director::{Director, Unreachable};
pub use message::Failure;
pub use names::{Names, SystemNames};
pub use parse::parse;
pub use session::Session;

use crate::client::Client;
use std::ffi::OsString;
use std::io::{self, BufWriter};
use std::path::Path;
use std::process::ExitCode;

/// Runs `program` with its arguments against the daemon that listens on `socket`.
///
/// `program` is the name by which it was called; when its last part is `ipvsadm-save` or
/// `ipvsadm-restore`, that script's work is done, else `ipvsadm`'s. Reads standard input only to
/// restore.
pub fn run(
    program: &str,
    arguments: impl IntoIterator<Item = OsString>,
    socket: &Path,
) -> ExitCode {
    let words: Vec<String> =
        arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut session = Session {
        program,
        director: &mut Client::new(socket),
        names: &SystemNames::default(),
        input: &mut io::stdin().lock(),
        output: &mut BufWriter::new(io::stdout().lock()),
        errors: &mut io::stderr().lock(),
    };
    let code = match program.rsplit('/').next() {
        Some("ipvsadm-save") => session.save_script(&words),
        Some("ipvsadm-restore") => session.restore_script(),
        Some(_) | None => session.ipvsadm(&words),
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests;
