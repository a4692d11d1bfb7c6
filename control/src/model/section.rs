//! One table of the text, read key by key; every problem is noted and reading goes on.

use super::Problems;
use std::cell::RefCell;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value of the text with its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// One table. Keys that nobody asked for by the time of [`Section::finish`] are unknown.
pub(super) struct Section<'t, 'p> {
    table: &'t DeTable<'t>,
    span: Range<usize>,
    title: &'static str,
    problems: &'p RefCell<Problems<'t>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'t, 'p> Section<'t, 'p> {
    /// `span` is where a key that is missing altogether is reported; `title` names the table.
    pub fn new(
        table: &'t DeTable<'t>,
        span: Range<usize>,
        title: &'static str,
        problems: &'p RefCell<Problems<'t>>,
    ) -> Self {
        Self { table, span, title, problems, asked: RefCell::default() }
    }

    /// Notes a problem of the whole table.
    pub fn problem(&self, message: impl Into<String>) {
        self.problems.borrow_mut().note(&self.span, message);
    }

    /// Notes a problem at a key's value, or at the table when the key is absent.
    pub fn problem_at(&self, key: &'static str, message: impl Into<String>) {
        let span = self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.problems.borrow_mut().note(&span, message);
    }

    /// Notes a doubt at a key's value, or at the table when the key is absent.
    pub fn doubt_at(&self, key: &'static str, message: impl Into<String>) {
        self.problems.borrow_mut().doubt(&self.span_of(key), message);
    }

    /// Notes a problem at a place inside this table.
    pub fn problem_in(&self, span: &Range<usize>, message: impl Into<String>) {
        self.problems.borrow_mut().note(span, message);
    }

    /// Where a key's value stands.
    pub fn span_of(&self, key: &'static str) -> Range<usize> {
        self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Whether a key is there; does not count as asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key.
    pub fn value(&self, key: &'static str) -> Option<&'t Value<'t>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    /// The value of a key as `read` understands it; otherwise a problem that says what was
    /// `wanted`.
    pub fn read<T>(
        &self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let result = read(value.get_ref());
        if result.is_none() {
            self.refuse(key, &value.span(), wanted);
        }
        result
    }

    /// Every element of an array as `read` understands it; those it does not are problems.
    pub fn list<T>(
        &self,
        key: &'static str,
        wanted: &str,
        read: impl Fn(&'t DeValue<'t>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.refuse(key, &value.span(), &format!("a list, each element {wanted}"));
            return Vec::new();
        };
        let mut items = Vec::new();
        for element in array {
            match read(element.get_ref()) {
                Some(item) => items.push(item),
                None => self.refuse(key, &element.span(), wanted),
            }
        }
        items
    }

    fn refuse(&self, key: &str, span: &Range<usize>, wanted: &str) {
        let mut problems = self.problems.borrow_mut();
        let found = problems.excerpt(span);
        problems.note(span, format!("{key} is {found}, should be {wanted}"));
    }

    /// A key that must be there, as any of the readers returned it.
    pub fn required<T>(&self, key: &'static str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.has(key) {
            self.problem(format!(
                "{} has no {key}, should have one, such as {example}",
                self.title
            ));
        }
        value
    }

    /// A text that is not empty.
    pub fn text(&self, key: &'static str) -> Option<String> {
        self.read(key, "a text in quotes, not empty", |value| {
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        })
    }

    /// A text that may be empty.
    pub fn any_text(&self, key: &'static str) -> Option<String> {
        self.read(key, "a text in quotes", |value| value.as_str().map(str::to_owned))
    }

    /// A switch.
    pub fn switch(&self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", DeValue::as_bool)
    }

    /// A whole number within a range.
    pub fn number<N: TryFrom<i64>>(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<N> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &wanted, |value| {
            let number = integer(value).filter(|number| range.contains(number))?;
            N::try_from(number).ok()
        })
    }

    /// A duration within a range.
    pub fn duration(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let (least, most) = (range.start(), range.end());
        let wanted = format!(
            "a duration from {} to {} with its unit, such as \"{}\"",
            super::format_duration(*least),
            super::format_duration(*most),
            super::format_duration(Duration::from_secs(10).clamp(*least, *most)),
        );
        self.read(key, &wanted, |value| {
            super::parse_duration(value.as_str()?).filter(|duration| range.contains(duration))
        })
    }

    /// A duration of whole seconds within a range.
    pub fn seconds(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let duration = self.duration(key, range)?;
        if duration.subsec_nanos() != 0 {
            self.refuse(key, &self.span_of(key), "whole seconds, such as \"10s\"");
            return None;
        }
        Some(duration)
    }

    /// One word of a list.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        let found = value.as_ref().as_str();
        if let Some((_, meaning)) = words.iter().find(|(word, _)| Some(*word) == found) {
            return Some(*meaning);
        }
        let mut wanted = one_of(words.iter().map(|(word, _)| *word));
        if let Some(near) = nearest(found.unwrap_or_default(), words.iter().map(|(word, _)| *word))
        {
            wanted.push_str(&format!("; did you mean \"{near}\"?"));
        }
        self.refuse(key, &value.span(), &wanted);
        None
    }

    /// Something that its type reads from text: addresses.
    pub fn parsed<T: std::str::FromStr>(&self, key: &'static str, wanted: &str) -> Option<T> {
        self.read(key, wanted, |value| value.as_str()?.parse().ok())
    }

    /// A table inside this one.
    pub fn table(&self, key: &'static str, title: &'static str) -> Option<Section<'t, 'p>> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.refuse(key, &value.span(), &format!("a table, as {title}"));
            return None;
        };
        Some(Section::new(table, self.place(key, value), title, self.problems))
    }

    /// The tables of an array inside this one.
    pub fn tables(&self, key: &'static str, title: &'static str) -> Vec<Section<'t, 'p>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.refuse(key, &value.span(), &format!("a list of tables, as {title}"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array {
            match element.get_ref().as_table() {
                Some(table) => {
                    sections.push(Section::new(table, element.span(), title, self.problems));
                }
                None => self.refuse(key, &element.span(), &format!("a table, as {title}")),
            }
        }
        sections
    }

    /// Where to report a table: its value, or its key when the value has no place of its own.
    fn place(&self, key: &str, value: &Value<'t>) -> Range<usize> {
        let span = value.span();
        if !span.is_empty() {
            return span;
        }
        self.table.get_key_value(key).map_or(span, |(key, _)| key.span())
    }

    /// Keys and values of a table with free keys, in the order of the text.
    pub fn entries(&self) -> Vec<(&'t str, &'t Value<'t>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| (key.span().start, key.get_ref(), value))
            .collect();
        entries.sort_by_key(|(at, _, _)| *at);
        entries.into_iter().map(|(_, key, value)| (key.as_ref(), value)).collect()
    }

    /// Notes every key that nobody asked for, with the nearest one that somebody did.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if asked.contains(&name) {
                continue;
            }
            let hint = match nearest(name, asked.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("should be {}", one_of_keys(&asked)),
            };
            let message = format!("{} has no key {name}, {hint}", self.title);
            self.problems.borrow_mut().note(&key.span(), message);
        }
    }
}

/// A whole number of the text.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// `"a", "b" or "c"`.
fn one_of<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    join_with_or(&quoted)
}

fn one_of_keys(keys: &[&'static str]) -> String {
    let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    keys.sort();
    keys.dedup();
    join_with_or(&keys)
}

fn join_with_or(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The candidate that a slip of the finger turns into `found`, if there is one.
pub(super) fn nearest<'w>(
    found: &str,
    candidates: impl Iterator<Item = &'w str>,
) -> Option<&'w str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(found, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by(|(distance, candidate), (other_distance, other)| {
            let closeness = |word| strsim::jaro_winkler(found, word);
            distance
                .cmp(other_distance)
                .then_with(|| closeness(other).total_cmp(&closeness(candidate)))
        })
        .map(|(_, candidate)| candidate)
}
