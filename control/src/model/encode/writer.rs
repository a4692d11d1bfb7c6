//! Lines of TOML with the indentation of their table.

use std::fmt::{Display, Write};
use std::time::Duration;

/// A text under construction.
#[derive(Default)]
pub(super) struct Writer {
    text: String,
    indent: usize,
    /// A heading that is written with its first key, see [`Writer::optional`].
    pending: Option<&'static str>,
}

impl Writer {
    /// Opens a table that must be there even when empty. `depth` is its nesting, for indentation.
    pub fn heading(&mut self, heading: &'static str, depth: usize) {
        self.optional(heading, depth);
        self.flush();
    }

    /// Opens a table that is left out unless a key follows.
    pub fn optional(&mut self, heading: &'static str, depth: usize) {
        self.indent = depth * 2;
        self.pending = Some(heading);
    }

    fn flush(&mut self) {
        if let Some(heading) = self.pending.take() {
            let blank = if self.text.is_empty() || self.indent > 0 { "" } else { "\n" };
            let indent = self.indent;
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "{blank}{:indent$}{heading}", "");
        }
    }

    /// A key with a value that is TOML already.
    pub fn raw(&mut self, key: &str, value: impl Display) {
        self.flush();
        let indent = self.indent;
        let _ = writeln!(self.text, "{:indent$}{key} = {value}", "");
    }

    /// A key with a text.
    pub fn text(&mut self, key: &str, value: impl Display) {
        self.raw(key, quoted(&value.to_string()));
    }

    /// A key with a text, if there is one.
    pub fn some_text(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// A key with a number or a switch, unless it is the default.
    pub fn unless<T: Display + PartialEq>(&mut self, key: &str, value: T, default: T) {
        if value != default {
            self.raw(key, value);
        }
    }

    /// A key with a word, unless it is the default.
    pub fn word_unless(&mut self, key: &str, value: &str, default: &str) {
        if value != default {
            self.text(key, value);
        }
    }

    /// A key with a duration, unless it is the default.
    pub fn duration_unless(&mut self, key: &str, value: Duration, default: Duration) {
        if value != default {
            self.text(key, crate::model::format_duration(value));
        }
    }

    /// A key with a list of texts, unless empty.
    pub fn texts(&mut self, key: &str, values: impl IntoIterator<Item = impl Display>) {
        let items: Vec<String> =
            values.into_iter().map(|value| quoted(&value.to_string())).collect();
        if !items.is_empty() {
            self.raw(key, format!("[{}]", items.join(", ")));
        }
    }

    /// The finished text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// An inline table from its keys and values, the values being TOML already.
pub(super) fn inline(entries: &[(String, String)]) -> String {
    if entries.is_empty() {
        return "{}".to_owned();
    }
    let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", entries.join(", "))
}

/// One entry of an inline table with a text.
pub(super) fn entry(key: &str, value: impl Display) -> (String, String) {
    (key.to_owned(), quoted(&value.to_string()))
}

/// One entry of an inline table with a number or a switch.
pub(super) fn raw_entry(key: &str, value: impl Display) -> (String, String) {
    (key.to_owned(), value.to_string())
}

/// A TOML basic string on one line.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
