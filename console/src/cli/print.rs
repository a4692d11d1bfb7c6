//! Results on standard output.

use super::{CommandError, Outcome};
pub(super) use control::view::moment;
use serde::Serialize;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

/// Writes a text as it is.
pub(super) fn text(text: &str) -> Outcome {
    bytes(text.as_bytes())
}

/// Writes bytes as they are.
pub(super) fn bytes(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|error| CommandError::Io("standard output".to_owned(), error))
}

/// Writes a value as JSON for people and programs.
pub(super) fn json(value: &impl Serialize) -> Outcome {
    let json = serde_json::to_string_pretty(value);
    let json = json.map_err(|error| CommandError::Failed(error.to_string()))?;
    text(&format!("{json}\n"))
}

/// Writes rows with aligned columns. Columns whose heading begins with `>` are aligned right.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> Outcome {
    text(&aligned(headings, rows))
}

fn aligned(headings: &[&str], rows: &[Vec<String>]) -> String {
    let right: Vec<bool> = headings.iter().map(|heading| heading.starts_with('>')).collect();
    let first = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&first).chain(rows).collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for row in all {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
            let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
            let cell = if *right { format!("{gap}{cell}") } else { format!("{cell}{gap}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.map_err(|error| CommandError::Io(path.display().to_string(), error))
}

/// Reads a text.
pub(super) fn read_text(path: &Path) -> Result<String, CommandError> {
    String::from_utf8(read(path)?)
        .map_err(|_| CommandError::Failed(format!("{} is not UTF-8 text", path.display())))
}

/// What to call a file in messages.
pub(super) fn file_name(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() }
}

/// `1 service`, `2 services`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows =
            [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "200".to_owned()]];
        assert_eq!(aligned(&["Name", ">Count"], &rows), "Name  Count\na         1\nlong    200\n");
    }
}
