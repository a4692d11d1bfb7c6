//! The one binary.

use console::{args, cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse(std::env::args_os().collect()) {
        Ok(arguments) => cli::run(arguments),
        Err(code) => code,
    }
}
