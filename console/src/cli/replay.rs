//! `replay`: the real packet path over a capture file, without a daemon.

use super::{CommandError, Outcome, print};
use control::model::Document;
use control::replay::{Replayed, replay};
use std::fs::File;
use std::path::Path;

pub(super) fn run(capture: &Path, config: &Path, out: &Path, json: bool) -> Outcome {
    let text = print::read_text(config)?;
    let document = Document::parse(&text, &print::file_name(config)).map_err(|problems| {
        CommandError::Problems(problems.iter().map(ToString::to_string).collect())
    })?;
    let bytes = print::read(capture)?;
    let file =
        File::create(out).map_err(|error| CommandError::Io(out.display().to_string(), error))?;
    let replayed = replay(&document, &bytes, file)
        .map_err(|error| CommandError::Failed(format!("{}: {error}", capture.display())))?;
    if json { print::json(&replayed) } else { print::text(&told(&replayed)) }
}

fn told(replayed: &Replayed) -> String {
    let Replayed { frames, sent, host, consumed, drops, connections } = replayed;
    let mut text = format!(
        "{frames} frames read, {sent} written, {host} left to the host, {consumed} kept\n\
         {connections} connections at the end\n"
    );
    for (reason, packets) in drops {
        text.push_str(&format!("{packets} dropped: {reason}\n"));
    }
    text
}
