//! What happened.

use crate::web::shell::{Choice, Shell, Visit, choices};
use crate::web::state::Tone;
use crate::web::trouble::{Trouble, html};
use crate::web::words::{Lang, Moment, moment};
use askama::Template;
use axum::extract::Query;
use axum::response::Response;
use control::record::{Record, Severity};
use serde::Deserialize;

/// Events on one page.
const PAGE: usize = 50;

/// Events that are looked through.
const LOOKED: usize = 20_000;

/// What can be chosen.
const SEVERITIES: [(&str, &str); 3] =
    [("", "every-severity"), ("warning", "severity-warning"), ("error", "severity-error")];

/// Which events.
#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    severity: String,
    #[serde(default)]
    subject: String,
    /// Only those before this sequence number.
    before: Option<u64>,
}

/// One line of the list.
pub struct Line {
    /// When.
    pub time: Moment,
    /// How bad.
    pub tone: Tone,
    /// About what.
    pub subject: String,
    /// Path of what it is about, if it has a page.
    pub link: Option<String>,
    /// What happened.
    pub text: String,
}

impl Line {
    /// An event for people.
    pub fn of(record: &Record, now: u64) -> Self {
        Self {
            time: moment(record.time, now),
            tone: match record.severity {
                Severity::Error => Tone::Bad,
                Severity::Warning => Tone::Warn,
                Severity::Info => Tone::Info,
            },
            subject: record.subject.clone(),
            link: record.real.map(|_| super::services::path(&record.subject)),
            text: record.text.clone(),
        }
    }
}

#[derive(Template)]
#[template(path = "pages/events.html")]
struct Page {
    s: Shell,
    l: Lang,
    lines: Vec<Line>,
    severity: String,
    severities: Vec<Choice>,
    subject: String,
    older: Option<u64>,
    filtered: bool,
}

/// `GET /events`.
pub async fn page(visit: Visit, Query(filter): Query<Filter>) -> Result<Response, Trouble> {
    let least = match filter.severity.as_str() {
        "error" => Severity::Error,
        "warning" => Severity::Warning,
        _ => Severity::Info,
    };
    let subject = filter.subject.trim().to_lowercase();
    let records = visit.site.handle.recent(LOOKED).await?;
    let matches = |record: &Record| {
        let words = || {
            record.subject.to_lowercase().contains(&subject)
                || record.real.is_some_and(|real| real.to_string().contains(&subject))
        };
        record.severity >= least
            && filter.before.is_none_or(|before| record.sequence < before)
            && (subject.is_empty() || words())
    };
    let now = crate::web::unix_millis();
    let mut found = records.iter().rev().filter(|record| matches(record));
    let shown: Vec<&Record> = found.by_ref().take(PAGE).map(AsRef::as_ref).collect();
    let older = found.next().and(shown.last()).map(|record| record.sequence);
    let l = visit.lang;
    html(&Page {
        s: visit.shell("/events", l.say("menu-events")),
        l,
        lines: shown.iter().map(|record| Line::of(record, now)).collect(),
        filtered: least > Severity::Info || !subject.is_empty() || filter.before.is_some(),
        severities: choices(l, &filter.severity, &SEVERITIES),
        severity: filter.severity,
        subject: filter.subject,
        older,
    })
}
