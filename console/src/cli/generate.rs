//! `completions` and `man`: what packages install.

use super::{CommandError, Outcome, print};
use crate::args::Arguments;
use clap::CommandFactory;
use std::fs;
use std::path::Path;

pub(super) fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "viaduct", &mut bytes);
    print::bytes(&bytes)
}

/// One page for the program and one for each command.
pub(super) fn man(folder: &Path) -> Outcome {
    let failed = |error| CommandError::Io(folder.display().to_string(), error);
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(failed)
}
