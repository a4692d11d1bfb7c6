//! What is wrong with a text, and where.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong with a document.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Collects the problems of one text.
#[derive(Debug)]
pub struct Problems<'t> {
    text: &'t str,
    found: Vec<(usize, String)>,
    doubts: Vec<(usize, String)>,
}

impl<'t> Problems<'t> {
    /// Creates an empty list for a document's text.
    pub const fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new(), doubts: Vec::new() }
    }

    /// Notes a problem at the start of `span`, in bytes of the text.
    pub fn note(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.found.push((span.start, message.into()));
    }

    /// Notes at the start of `span` what is no mistake in itself and is hardly meant.
    pub fn doubt(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.doubts.push((span.start, message.into()));
    }

    /// The part of the text that `span` covers, cut to one short line.
    pub fn excerpt(&self, span: &Range<usize>) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let mut short: String = line.chars().take(40).collect();
        if short.len() < text.len() {
            short.push_str("...");
        }
        short
    }

    /// All problems in the order of their positions; those at one place in the order noted.
    pub fn into_sorted(self, file: &str) -> Vec<Problem> {
        sorted(self.text, self.found, file)
    }

    /// All doubts when there is no problem, and all problems otherwise, each in order.
    pub fn into_doubts(self, file: &str) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.found.is_empty() {
            Ok(sorted(self.text, self.doubts, file))
        } else {
            Err(self.into_sorted(file))
        }
    }
}

fn sorted(text: &str, mut found: Vec<(usize, String)>, file: &str) -> Vec<Problem> {
    found.sort_by_key(|(offset, _)| *offset);
    let mut lines = LineCounter { text, offset: 0, line: 1, line_start: 0 };
    found
        .into_iter()
        .map(|(offset, message)| {
            let (line, column) = lines.advance(offset);
            Problem { file: file.to_owned(), line, column, message }
        })
        .collect()
}

/// Turns ascending byte offsets into lines and columns in one pass over the text.
struct LineCounter<'t> {
    text: &'t str,
    offset: usize,
    line: usize,
    line_start: usize,
}

impl LineCounter<'_> {
    fn advance(&mut self, to: usize) -> (usize, usize) {
        let to = self.text.floor_char_boundary(to);
        let between = self.text.get(self.offset..to).unwrap_or_default();
        for (at, _) in between.match_indices('\n') {
            self.line += 1;
            self.line_start = self.offset + at + 1;
        }
        self.offset = to;
        let before = self.text.get(self.line_start..to).unwrap_or_default();
        (self.line, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\n\u{e4}b\nc";
        let mut problems = Problems::new(text);
        problems.note(&(5..6), "third");
        problems.note(&(0..1), "first");
        problems.note(&(4..5), "second");
        problems.note(&(900..901), "beyond the end");
        let places: Vec<_> = problems.into_sorted("f").iter().map(ToString::to_string).collect();
        assert_eq!(
            places,
            ["f:1:1: first", "f:2:2: second", "f:2:3: third", "f:3:2: beyond the end"]
        );
    }
}
