//! The configuration: what runs, what is on trial, its history, and editing it as text.

use crate::web::shell::{Choice, Shell, Visit, choices};
use crate::web::state::Tone;
use crate::web::trouble::{Told, Trouble, html};
use crate::web::words::{Lang, Moment, duration, moment};
use askama::Template;
use axum::Form;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use control::model::{Change, Difference, Document, Problem, differences};
use control::state::Refusal;
use control::store::{RevisionInfo, Standing};
use serde::Deserialize;
use std::time::Duration;

/// Revisions in the list.
const HISTORY: usize = 50;

/// How long a revision that is gone back to is on trial.
const TRIAL: Duration = Duration::from_secs(60);

/// How an edited document can be applied.
const TRIALS: [(&str, &str); 4] =
    [("60s", "trial-60"), ("30s", "trial-30"), ("5m", "trial-300"), ("", "trial-none")];

/// One difference between two documents.
pub struct DifferenceLine {
    /// `+`, `-` or `~`.
    pub sign: &'static str,
    /// How it looks.
    pub tone: Tone,
    /// What it is about, in the document's words.
    pub subject: String,
    /// Before.
    pub before: String,
    /// After.
    pub after: String,
}

impl From<Difference> for DifferenceLine {
    fn from(difference: Difference) -> Self {
        let (sign, tone) = match difference.change {
            Change::Added => ("+", Tone::Good),
            Change::Removed => ("-", Tone::Bad),
            Change::Changed => ("~", Tone::Warn),
        };
        let Difference { subject, key, before, after, .. } = difference;
        let subject = if key.is_empty() { subject } else { format!("{subject}: {key}") };
        Self { sign, tone, subject, before, after }
    }
}

/// A revision in the history.
pub struct RevisionLine {
    number: u64,
    time: Moment,
    author: String,
    comment: String,
    trial: bool,
    runs: bool,
}

/// A revision that nobody has confirmed yet.
struct Trial {
    number: u64,
    title: String,
    explanation: String,
}

#[derive(Template)]
#[template(path = "pages/config.html")]
struct Page {
    s: Shell,
    l: Lang,
    trial: Option<Trial>,
    changes: Vec<DifferenceLine>,
    history: Vec<RevisionLine>,
    text: String,
    administrates: bool,
}

/// `GET /config`.
pub async fn page(visit: Visit) -> Result<Response, Trouble> {
    let l = visit.lang;
    let snapshot = visit.site.handle.snapshot();
    let now = crate::web::unix_millis();
    let history = &snapshot.history;
    let line = |info: &RevisionInfo| RevisionLine {
        number: info.number,
        time: moment(info.time * 1000, now),
        author: info.author.clone(),
        comment: info.comment.clone(),
        trial: snapshot.unconfirmed == Some(info.number),
        runs: snapshot.revision == info.number,
    };
    let changes = match history.iter().rev().nth(1) {
        Some(before) => {
            let before = visit.site.handle.revision(before.number).await?;
            let before = before.document().map_err(|error| Trouble::Inner(error.to_string()))?;
            differences(&before, &snapshot.document)
        }
        None => Vec::new(),
    };
    html(&Page {
        s: visit.shell("/config", l.say("menu-config")),
        l,
        trial: trial(history.last(), now, l),
        changes: changes.into_iter().map(DifferenceLine::from).collect(),
        history: history.iter().rev().take(HISTORY).map(line).collect(),
        text: snapshot.document.to_toml(),
        administrates: visit.actor.role >= control::access::Role::Administrator,
    })
}

fn trial(last: Option<&RevisionInfo>, now: u64, l: Lang) -> Option<Trial> {
    let last = last?;
    let Standing::Unconfirmed { until, .. } = last.standing else { return None };
    let until = until * 1000;
    let left = duration(Duration::from_millis(until.saturating_sub(now)), l);
    let (number, at) = (last.number.to_string(), moment(until, now).full);
    Some(Trial {
        number: last.number,
        title: l.say_with("trial-title", &[("number", &number), ("left", &left)]),
        explanation: l.say_with("trial-explain", &[("author", &last.author), ("until", &at)]),
    })
}

/// `POST /config/confirm`: the revision on trial stays.
pub async fn confirm(visit: Visit) -> Result<Redirect, Trouble> {
    visit.site.handle.confirm().await?;
    tracing::info!("{} keeps the revision that was on trial", visit.actor.name);
    Ok(Redirect::to("/config"))
}

/// `POST /config/take-back`: what was there before the trial comes back now.
pub async fn take_back(visit: Visit) -> Result<Redirect, Trouble> {
    if visit.site.handle.snapshot().unconfirmed.is_none() {
        return Err(Refusal::NothingToConfirm.into());
    }
    visit.site.handle.roll_back(None, &visit.actor.name).await?;
    Ok(Redirect::to("/config"))
}

#[derive(Template)]
#[template(path = "pages/revision.html")]
struct RevisionPage {
    s: Shell,
    l: Lang,
    number: u64,
    time: Moment,
    author: String,
    comment: String,
    changes: Vec<DifferenceLine>,
    text: String,
    administrates: bool,
}

/// `GET /config/revisions/{number}`: what going back to it would change.
pub async fn revision(visit: Visit, Path(number): Path<u64>) -> Result<Response, Trouble> {
    let l = visit.lang;
    let found = visit.site.handle.revision(number).await?;
    let document = found.document().map_err(|error| Trouble::Inner(error.to_string()))?;
    let changes = differences(&visit.site.handle.snapshot().head, &document);
    html(&RevisionPage {
        s: visit.shell("/config", l.count("revision-title", number)),
        l,
        number,
        time: moment(found.info.time * 1000, crate::web::unix_millis()),
        author: found.info.author.clone(),
        comment: found.info.comment.clone(),
        changes: changes.into_iter().map(DifferenceLine::from).collect(),
        text: found.text,
        administrates: visit.actor.role >= control::access::Role::Administrator,
    })
}

/// `POST /config/revisions/{number}`: goes back to it, on trial.
pub async fn go_back(visit: Visit, Path(number): Path<u64>) -> Result<Redirect, Trouble> {
    let handle = &visit.site.handle;
    let found = handle.revision(number).await?;
    let document = found.document().map_err(|error| Trouble::Inner(error.to_string()))?;
    let comment = format!("rollback to revision {number}");
    handle.apply(document, &visit.actor.name, &comment, Some(TRIAL)).await?;
    Ok(Redirect::to("/config"))
}

/// What is wrong with a document, or hardly meant.
struct ProblemLine {
    place: String,
    message: String,
}

fn lines(problems: Vec<Problem>, l: Lang) -> Vec<ProblemLine> {
    let line = |problem: Problem| {
        let (line, column) = (problem.line.to_string(), problem.column.to_string());
        let place = l.say_with("edit-place", &[("line", &line), ("column", &column)]);
        ProblemLine { place, message: problem.message }
    };
    problems.into_iter().map(line).collect()
}

/// An edited document.
#[derive(Deserialize)]
pub struct Edited {
    base: u64,
    text: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    trial: String,
    #[serde(default)]
    apply: String,
}

#[derive(Template)]
#[template(path = "pages/config-edit.html")]
struct EditPage {
    s: Shell,
    l: Lang,
    base: u64,
    text: String,
    comment: String,
    trials: Vec<Choice>,
    problems: Vec<ProblemLine>,
    doubts: Vec<ProblemLine>,
    changes: Vec<DifferenceLine>,
    checked: bool,
    conflict: Vec<DifferenceLine>,
    refused: Option<String>,
}

impl EditPage {
    fn new(visit: &Visit, edited: Edited) -> Self {
        let l = visit.lang;
        Self {
            s: visit.shell("/config", l.say("config-edit")),
            l,
            base: edited.base,
            text: edited.text,
            comment: edited.comment,
            trials: choices(l, &edited.trial, &TRIALS),
            problems: Vec::new(),
            doubts: Vec::new(),
            changes: Vec::new(),
            checked: false,
            conflict: Vec::new(),
            refused: None,
        }
    }

    fn with_status(&self, status: StatusCode) -> Result<Response, Trouble> {
        let mut page = html(self)?;
        *page.status_mut() = status;
        page.extensions_mut().insert(Told);
        Ok(page)
    }
}

/// `GET /config/edit`.
pub async fn edit_page(visit: Visit) -> Result<Response, Trouble> {
    let snapshot = visit.site.handle.snapshot();
    let (comment, trial, apply) = (String::new(), "60s".to_owned(), String::new());
    let text = snapshot.head.to_toml();
    html(&EditPage::new(&visit, Edited { base: snapshot.version, text, comment, trial, apply }))
}

/// `POST /config/edit`: checks the text, and applies it when that is asked for and it is good.
pub async fn edit(visit: Visit, Form(mut edited): Form<Edited>) -> Result<Response, Trouble> {
    // Browsers send the ends of lines as CR LF.
    edited.text = edited.text.replace("\r\n", "\n");
    let snapshot = visit.site.handle.snapshot();
    let wanted = !edited.apply.is_empty();
    let (text, comment, trial) =
        (edited.text.clone(), edited.comment.clone(), edited.trial.clone());
    let base = edited.base;
    let mut page = EditPage::new(&visit, edited);
    let (document, doubts) = match Document::review(&text, "configuration") {
        Ok(reviewed) => reviewed,
        Err(problems) => {
            page.problems = lines(problems, visit.lang);
            return page.with_status(StatusCode::UNPROCESSABLE_ENTITY);
        }
    };
    page.checked = true;
    page.doubts = lines(doubts, visit.lang);
    let changes = differences(&snapshot.head, &document);
    page.changes = changes.into_iter().map(DifferenceLine::from).collect();
    if !wanted {
        return html(&page);
    }
    let within = control::model::parse_duration(&trial).filter(|within| !within.is_zero());
    let author = &visit.actor.name;
    let applied =
        visit.site.handle.apply_onto(Some(base), document, author, comment.trim(), within).await;
    match applied {
        Ok(_) => Ok(Redirect::to("/config").into_response()),
        Err(Refusal::Conflict) => {
            let history = &snapshot.history;
            page.refused = history.last().map(|last| {
                let number = last.number.to_string();
                let by = [("author", last.author.as_str()), ("number", number.as_str())];
                visit.lang.say_with("edit-conflict", &by)
            });
            page.conflict = std::mem::take(&mut page.changes);
            // Sent again, it is applied to what is there now.
            page.base = snapshot.version;
            page.with_status(StatusCode::PRECONDITION_FAILED)
        }
        Err(Refusal::Invalid(problems)) => {
            page.problems = lines(problems, visit.lang);
            page.with_status(StatusCode::UNPROCESSABLE_ENTITY)
        }
        Err(refusal) => Err(refusal.into()),
    }
}
