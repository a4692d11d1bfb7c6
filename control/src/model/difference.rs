//! What turns one document into another, in an operator's words.
//!
//! It works on the documents' own text form, so every key is covered by its own name.

use super::Document;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use toml::{Table, Value};

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// What happens to the subject.
    pub change: Change,
    /// To what: `service web`, `service web, real server 10.0.0.1:80`, `timeouts`.
    pub subject: String,
    /// Of a change, the key; empty otherwise.
    pub key: String,
    /// Before; empty when there was nothing.
    pub before: String,
    /// After; empty when there will be nothing.
    pub after: String,
    /// The service that it concerns, by name.
    pub service: Option<String>,
    /// The real server that it concerns.
    pub real: Option<String>,
}

/// What happens to a subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The subject is added.
    Added,
    /// The subject is removed.
    Removed,
    /// A key of it changes.
    Changed,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, key, before, after, .. } = self;
        match self.change {
            Change::Added if after.is_empty() => write!(f, "+ {subject}"),
            Change::Added => write!(f, "+ {subject}: {after}"),
            Change::Removed if before.is_empty() => write!(f, "- {subject}"),
            Change::Removed => write!(f, "- {subject}: {before}"),
            Change::Changed => {
                let shown = |text: &str| {
                    if text.is_empty() { "nothing".to_owned() } else { text.to_owned() }
                };
                write!(f, "~ {subject}: {key} {} -> {}", shown(before), shown(after))
            }
        }
    }
}

/// Lists of tables: the document's key for them, what one is called, and what names it.
const LISTS: &[(&str, &str, &str)] = &[
    ("interface", "interface", "name"),
    ("service", "service", "name"),
    ("vrrp", "VRRP instance", "name"),
    ("track_script", "script", "name"),
    ("alert", "alert", "name"),
];

/// What turns `before` into `after`; nothing when they are equal.
pub fn differences(before: &Document, after: &Document) -> Vec<Difference> {
    let (old, new) = (table(before), table(after));
    let mut found = Vec::new();
    for (key, what, name) in LISTS {
        let (old, new) = (items(&old, key, name), items(&new, key, name));
        compare_lists(what, &old, &new, &mut found);
    }
    for key in keys(&old, &new) {
        if LISTS.iter().any(|(list, _, _)| *list == key) {
            continue;
        }
        let subject = Subject { text: format!("[{key}]"), ..Subject::default() };
        let value = |table: &Table| table.get(key).and_then(Value::as_table).cloned();
        let (old, new) = (value(&old).unwrap_or_default(), value(&new).unwrap_or_default());
        compare_keys(&subject, &flat(&old), &flat(&new), &mut found);
    }
    found
}

/// What a difference is about.
#[derive(Clone, Default)]
struct Subject {
    text: String,
    service: Option<String>,
    real: Option<String>,
}

impl Subject {
    fn difference(&self, change: Change, key: &str, before: &str, after: &str) -> Difference {
        Difference {
            change,
            subject: self.text.clone(),
            key: key.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            service: self.service.clone(),
            real: self.real.clone(),
        }
    }
}

/// The document as a table, every service with its name.
fn table(document: &Document) -> Table {
    let mut table: Table = document.to_toml().parse().unwrap_or_default();
    if let Some(Value::Array(services)) = table.get_mut("service") {
        for (value, service) in services.iter_mut().zip(&document.services) {
            if let Value::Table(value) = value {
                value.insert("name".to_owned(), Value::String(service.name.clone()));
            }
        }
    }
    table
}

/// The tables of a list by name, in their order.
fn items<'t>(table: &'t Table, key: &str, name: &str) -> Vec<(&'t str, &'t Table)> {
    let list = table.get(key).and_then(Value::as_array).into_iter().flatten();
    let tables = list.filter_map(Value::as_table);
    tables.filter_map(|item| Some((item.get(name)?.as_str()?, item))).collect()
}

fn compare_lists(
    what: &str,
    old: &[(&str, &Table)],
    new: &[(&str, &Table)],
    found: &mut Vec<Difference>,
) {
    let before: BTreeMap<&str, &Table> = old.iter().copied().collect();
    let after: BTreeMap<&str, &Table> = new.iter().copied().collect();
    let subject = |name: &str| Subject {
        text: format!("{what} {name}"),
        service: (what == "service").then(|| name.to_owned()),
        real: None,
    };
    for (name, table) in old.iter().filter(|(name, _)| !after.contains_key(name)) {
        found.push(subject(name).difference(Change::Removed, "", &summary(table), ""));
    }
    for (name, table) in new {
        match before.get(name) {
            None => found.push(subject(name).difference(Change::Added, "", "", &summary(table))),
            Some(old) if *old != *table => compare_tables(&subject(name), old, table, found),
            Some(_) => {}
        }
    }
}

/// Compares what two tables have beside their real servers, then those.
fn compare_tables(subject: &Subject, old: &Table, new: &Table, found: &mut Vec<Difference>) {
    compare_keys(subject, &flat(old), &flat(new), found);
    let (before, after) = (items(old, "real", "address"), items(new, "real", "address"));
    let of = |address: &str| Subject {
        text: format!("{}, real server {address}", subject.text),
        service: subject.service.clone(),
        real: Some(address.to_owned()),
    };
    let known: BTreeMap<&str, &Table> = before.iter().copied().collect();
    let stays: BTreeMap<&str, &Table> = after.iter().copied().collect();
    for (address, table) in before.iter().filter(|(address, _)| !stays.contains_key(address)) {
        found.push(of(address).difference(Change::Removed, "", &summary(table), ""));
    }
    for (address, table) in &after {
        match known.get(address) {
            None => found.push(of(address).difference(Change::Added, "", "", &summary(table))),
            Some(old) => compare_keys(&of(address), &flat(old), &flat(table), found),
        }
    }
    let order = |items: &[(&str, &Table)], others: &BTreeMap<&str, &Table>| {
        let kept = items.iter().filter(|(address, _)| others.contains_key(address));
        kept.map(|(address, _)| (*address).to_owned()).collect::<Vec<_>>()
    };
    let (before, after) = (order(&before, &stays), order(&after, &known));
    if before != after {
        let change = Change::Changed;
        found.push(subject.difference(change, "order", &before.join(", "), &after.join(", ")));
    }
}

fn compare_keys(
    subject: &Subject,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    found: &mut Vec<Difference>,
) {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        if before != after {
            let text = |value: Option<&String>| value.cloned().unwrap_or_default();
            let (before, after) = (text(before), text(after));
            found.push(subject.difference(Change::Changed, key, &before, &after));
        }
    }
}

/// The keys of both tables.
fn keys<'t>(old: &'t Table, new: &'t Table) -> Vec<&'t str> {
    let mut keys: Vec<&str> = old.keys().chain(new.keys()).map(String::as_str).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Keys and values with the tables inside spelled out as `check.interval`; real servers left out.
fn flat(table: &Table) -> BTreeMap<String, String> {
    let mut flattened = BTreeMap::new();
    flatten("", table, &mut flattened);
    flattened
}

fn flatten(prefix: &str, table: &Table, out: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(&name, inner, out),
            Value::Array(_) if name == "real" => {}
            Value::String(text) => {
                out.insert(name, text.clone());
            }
            Value::Array(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_) => {
                out.insert(name, value.to_string());
            }
        }
    }
}

/// What comes or goes, in a few words.
fn summary(table: &Table) -> String {
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    let mut words: Vec<String> = Vec::new();
    if table.contains_key("scheduler") {
        let mark = table.get("mark").map(|mark| format!("mark {mark}"));
        words.extend([text("protocol"), text("address")].into_iter().flatten().map(str::to_owned));
        words.extend(mark);
        words.extend([text("scheduler"), text("method")].into_iter().flatten().map(str::to_owned));
        let reals = table.get("real").and_then(Value::as_array).map_or(0, Vec::len);
        words.push(match reals {
            1 => "1 real server".to_owned(),
            reals => format!("{reals} real servers"),
        });
        return words.join(" ");
    }
    words.extend(table.get("weight").map(|weight| format!("weight {weight}")));
    words.extend(text("method").map(str::to_owned));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arbitrary;
    use proptest::prelude::*;

    const BEFORE: &str = r#"
[[interface]]
name = "eth0"
[[service]]
name = "web"
address = "192.0.2.10:80"
scheduler = "rr"
  [service.check]
  type = "http"
  path = "/a"
  [[service.real]]
  address = "10.0.0.1:80"
  [[service.real]]
  address = "10.0.0.2:80"
  weight = 2
[[service]]
name = "old"
address = "192.0.2.11:53"
protocol = "udp"
"#;

    const AFTER: &str = r#"
[timeouts]
tcp = "600s"
[[interface]]
name = "eth0"
backend = "ring"
[[service]]
name = "web"
address = "192.0.2.10:80"
scheduler = "wlc"
persistence = { timeout = "60s" }
  [service.check]
  type = "http"
  path = "/b"
  [[service.real]]
  address = "10.0.0.2:80"
  weight = 3
  [[service.real]]
  address = "10.0.0.3:80"
  method = "dr"
[[service]]
name = "new"
address = "192.0.2.12:0"
persistence = { timeout = "60s" }
  [[service.real]]
  address = "10.0.0.9:0"
"#;

    fn parse(text: &str) -> Document {
        Document::parse(text, "t").expect("good")
    }

    #[test]
    fn differences_are_said_in_an_operator_s_words() {
        let found = differences(&parse(BEFORE), &parse(AFTER));
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        ~ interface eth0: backend nothing -> ring
        - service old: udp 192.0.2.11:53 wlc nat 0 real servers
        ~ service web: check.path /a -> /b
        ~ service web: persistence.timeout nothing -> 60s
        ~ service web: scheduler rr -> wlc
        - service web, real server 10.0.0.1:80: weight 1
        ~ service web, real server 10.0.0.2:80: weight 2 -> 3
        + service web, real server 10.0.0.3:80: weight 1 dr
        + service new: tcp 192.0.2.12:0 wlc nat 1 real server
        ~ [timeouts]: tcp nothing -> 600s
        "#);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn equal_documents_and_only_they_have_no_differences(
            a in arbitrary::document(),
            b in arbitrary::document(),
        ) {
            prop_assert!(differences(&a, &a.clone()).is_empty());
            // The order of services is not shown: it changes nothing but the order of match rules.
            if differences(&a, &b).is_empty() {
                prop_assert_eq!(a.services.len(), b.services.len());
            }
        }
    }
}
