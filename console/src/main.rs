//! The one binary. What it is depends on its name: called `ipvsadm`, `ipvsadm-save` or
//! `ipvsadm-restore`, it is that; else it is `viaduct`.

use console::{args, cli};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(applet) = args::ipvsadm(&words) {
        return cli::ipvsadm::run(&applet.program, applet.arguments, &args::default_socket());
    }
    match args::parse(words) {
        Ok(arguments) => cli::run(arguments),
        Err(code) => code,
    }
}
