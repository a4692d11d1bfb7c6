//! TOML to document: every table decoded on its own, so that all problems come out at once.

mod check;
mod combinations;
mod node;
mod probe;
mod service;
mod vrrp;

pub(super) use check::{CONNECTIONS, ON_DOWN, ON_UNSENT, THROUGH};
pub(super) use node::{ALERT_EVENTS, BACKENDS, MAIL_SECURITY};
pub(super) use probe::{HTTP_VERSIONS, RECORDS};
pub(super) use service::FLAGS;

use super::section::Section;
use super::{Document, Problem, Problems};
use dataplane::table::Prefix;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads a document, and what is doubtful about it.
///
/// # Errors
/// Every problem, by position.
pub(super) fn document(text: &str, file: &str) -> Result<(Document, Vec<Problem>), Vec<Problem>> {
    let (root, syntax) = DeTable::parse_recoverable(text);
    let problems = RefCell::new(Problems::new(text));
    for error in &syntax {
        let span = error.span().unwrap_or(0..0);
        problems.borrow_mut().note(&span, format!("not TOML: {}", error.message()));
    }
    if !syntax.is_empty() {
        // What is left of a text that is not TOML would only add problems that are not there.
        return Err(problems.into_inner().into_sorted(file));
    }
    let document = {
        let section = Section::new(root.get_ref(), 0..0, "the document", &problems);
        let document = sections(&section);
        section.finish();
        document
    };
    problems.into_inner().into_doubts(file).map(|doubts| (document, doubts))
}

fn sections(root: &Section<'_, '_>) -> Document {
    let mut document = Document {
        node: node::node(root),
        interfaces: node::interfaces(root),
        services: service::services(root),
        vrrp: Vec::new(),
        track_scripts: vrrp::track_scripts(root),
        peer: node::peer(root),
        time: node::time(root),
        alerts: node::alerts(root),
        timeouts: node::timeouts(root),
        tunables: node::tunables(root),
    };
    document.vrrp = vrrp::instances(root, &document);
    node::alerts_name_services(root, &document);
    document
}

/// Notes a second use of a value that must be unique.
fn unique<T: Ord>(seen: &mut BTreeSet<T>, value: T, section: &Section<'_, '_>, key: &'static str) {
    if !seen.insert(value) {
        section.problem_at(key, format!("this {key} was given before, should be unique"));
    }
}

/// Names of services, instances and receivers: shown, typed and used in paths.
fn name(section: &Section<'_, '_>, key: &'static str) -> Option<String> {
    section.read(key, "a name of 1 to 64 characters without blanks or /", |value| {
        let text = value.as_str()?;
        let fits = !text.is_empty() && text.chars().count() <= 64;
        let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
        (fits && clean).then(|| text.to_owned())
    })
}

/// The kernel's interface names: 1 to 15 bytes.
fn interface_name(section: &Section<'_, '_>, key: &'static str) -> Option<String> {
    section.read(key, "an interface name of 1 to 15 characters, such as \"eth0\"", |value| {
        let text = value.as_str()?;
        let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
        let clean = !text.contains(|c: char| c.is_whitespace() || c == '/' || c == ':');
        (fits && clean).then(|| text.to_owned())
    })
}

fn ip(value: &DeValue<'_>) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

/// An address and port, with the address of one family given as that family's.
fn socket(value: &DeValue<'_>) -> Option<SocketAddr> {
    value.as_str()?.parse().ok()
}

/// `10.0.0.0/8`, or an address for itself alone.
fn prefix(value: &DeValue<'_>) -> Option<Prefix> {
    let text = value.as_str()?;
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(most);
    (length <= most).then_some(Prefix { address, length })
}

/// A program and its arguments: a list, or one text split at blanks.
fn command(section: &Section<'_, '_>, key: &'static str) -> Option<Vec<String>> {
    let wanted = "a program with its full path and its arguments, such as [\"/bin/true\", \"-x\"]";
    section.read(key, wanted, |value| {
        let words: Vec<String> = match value.as_str() {
            Some(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            None => value
                .as_array()?
                .iter()
                .map(|word| word.get_ref().as_str().map(str::to_owned))
                .collect::<Option<_>>()?,
        };
        let absolute = words.first().is_some_and(|program| program.starts_with('/'));
        (absolute && words.iter().all(|word| !word.contains('\0'))).then_some(words)
    })
}
