//! `check`, `apply`, `confirm`, `diff`, `rollback`, `history`, `export`.

use super::{CommandError, Outcome, print};
use crate::client::{Client, query};
use crate::web::api::{Applied, Compared, RollbackWish};
use control::model::{Document, format_duration};
use control::store::{RevisionInfo, Standing};
use hyper::Method;
use std::path::Path;
use std::time::Duration;

/// Checks a file without a daemon.
pub(super) fn check(file: &Path) -> Outcome {
    let text = print::read_text(file)?;
    match Document::review(&text, &print::file_name(file)) {
        Ok((document, doubts)) => {
            for doubt in doubts {
                eprintln!("warning: {doubt}");
            }
            let reals: usize = document.services.iter().map(|service| service.reals.len()).sum();
            print::text(&format!(
                "{} is valid: {}, {}\n",
                print::file_name(file),
                print::count(document.services.len(), "service"),
                print::count(reals, "real server")
            ))
        }
        Err(problems) => {
            Err(CommandError::Problems(problems.iter().map(ToString::to_string).collect()))
        }
    }
}

pub(super) fn apply(
    client: &Client,
    file: &Path,
    confirm_within: Option<Duration>,
    comment: &str,
) -> Outcome {
    let text = print::read_text(file)?;
    let comment = match comment {
        "" => format!("apply {}", print::file_name(file)),
        comment => comment.to_owned(),
    };
    let wish = query(&[
        ("file", Some(print::file_name(file))),
        ("comment", Some(comment)),
        ("confirm_within", confirm_within.map(format_duration)),
    ]);
    let path = format!("/v1/config{wish}");
    let applied: Applied = client.send_bytes(Method::PUT, &path, text.into_bytes())?;
    print::text(&match (applied.revision, confirm_within) {
        (None, _) => "nothing to change\n".to_owned(),
        (Some(revision), None) => format!("revision {} is active\n", revision.number),
        (Some(revision), Some(within)) => format!(
            "revision {} is active; it rolls back in {} unless you run: viaduct confirm\n",
            revision.number,
            format_duration(within)
        ),
    })
}

pub(super) fn confirm(client: &Client) -> Outcome {
    let applied: Applied = client.post("/v1/config/confirm", &())?;
    let number = applied.revision.map_or(0, |revision| revision.number);
    print::text(&format!("revision {number} is confirmed\n"))
}

pub(super) fn diff(client: &Client, file: &Path, revision: Option<u64>, json: bool) -> Outcome {
    let text = print::read_text(file)?;
    let wish = query(&[
        ("file", Some(print::file_name(file))),
        ("revision", revision.map(|number| number.to_string())),
    ]);
    let path = format!("/v1/config/diff{wish}");
    let found: Vec<Compared> = client.send_bytes(Method::POST, &path, text.into_bytes())?;
    if json {
        return print::json(&found);
    }
    if found.is_empty() {
        return print::text("nothing to change\n");
    }
    let line = |compared: &Compared| match compared.connections {
        None | Some(0) => format!("{}\n", compared.difference),
        Some(count) => {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            format!("{} ({})\n", compared.difference, print::count(count, "connection"))
        }
    };
    print::text(&found.iter().map(line).collect::<String>())
}

pub(super) fn roll_back(client: &Client, revision: Option<u64>) -> Outcome {
    let applied: Applied = client.post("/v1/config/rollback", &RollbackWish { revision })?;
    let number = applied.revision.map_or(0, |revision| revision.number);
    print::text(&format!("revision {number} is active\n"))
}

pub(super) fn history(client: &Client, json: bool) -> Outcome {
    let revisions: Vec<RevisionInfo> = client.get("/v1/revisions")?;
    if json {
        return print::json(&revisions);
    }
    let row = |info: &RevisionInfo| {
        let standing = match info.standing {
            Standing::Committed => String::new(),
            Standing::Confirmed => "confirmed".to_owned(),
            Standing::Unconfirmed { until, .. } => {
                format!("until {}", print::moment(until.saturating_mul(1000)))
            }
        };
        vec![
            info.number.to_string(),
            print::moment(info.time.saturating_mul(1000)),
            info.author.clone(),
            standing,
            info.comment.clone(),
        ]
    };
    let rows: Vec<_> = revisions.iter().map(row).collect();
    print::table(&[">Revision", "Time", "Author", "Status", "Comment"], &rows)
}

pub(super) fn export(client: &Client, revision: Option<u64>) -> Outcome {
    let path = match revision {
        None => "/v1/config".to_owned(),
        Some(number) => format!("/v1/revisions/{number}"),
    };
    print::bytes(&client.get_bytes(&path)?)
}
