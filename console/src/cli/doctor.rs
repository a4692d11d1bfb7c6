//! `doctor`: is this host fit to be a director, and what would make it faster.

use super::{CommandError, Outcome, print};
use crate::client::{Client, ClientError};
use control::doctor::{Finding, Grade, findings, gather};
use control::view::{InterfaceView, StatusView};
use std::path::Path;

pub(super) fn doctor(client: &Client, state: &Path, json: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::Failed(error.to_string()))?;
    let facts = runtime.block_on(gather(state));
    let facts = facts.map_err(|error| CommandError::Failed(error.to_string()))?;
    let mut found = findings(&facts);
    found.extend(daemon(client));
    if json {
        print::json(&found)?;
    } else {
        let rows: Vec<Vec<String>> = found.iter().map(row).collect();
        print::table(&["Subject", "Grade", "Found", "Advice"], &rows)?;
    }
    let errors = found.iter().filter(|finding| finding.grade == Grade::Error).count();
    if errors > 0 {
        let text =
            format!("{} to be fixed before a director can run", print::count(errors, "thing"));
        return Err(CommandError::Failed(text));
    }
    Ok(())
}

fn row(finding: &Finding) -> Vec<String> {
    let grade = match finding.grade {
        Grade::Good => "good",
        Grade::Advice => "advice",
        Grade::Warning => "WARNING",
        Grade::Error => "ERROR",
    };
    let (subject, found) = (finding.subject.clone(), finding.found.clone());
    vec![subject, grade.to_owned(), found, finding.advice.clone()]
}

/// What the running daemon says of itself.
fn daemon(client: &Client) -> Vec<Finding> {
    let finding = |subject: &str, grade, found: String, advice: String| Finding {
        subject: subject.to_owned(),
        grade,
        found,
        advice,
    };
    let status: StatusView = match client.get("/v1/status") {
        Ok(status) => status,
        Err(ClientError::NotRunning(..)) => {
            let found = "not running".to_owned();
            return vec![finding("daemon", Grade::Advice, found, "viaduct run".to_owned())];
        }
        Err(error) => {
            let advice = "check its log".to_owned();
            return vec![finding("daemon", Grade::Warning, error.to_string(), advice)];
        }
    };
    let services = print::count(status.services, "service");
    let found = format!("serving {services} with {}", print::count(status.reals, "real server"));
    let mut all = vec![match status.store_trouble {
        None => finding("daemon", Grade::Good, found, String::new()),
        Some(trouble) => finding("daemon", Grade::Error, format!("refuses changes: {trouble}"), {
            "forwarding continues; repair the disk of the state directory".to_owned()
        }),
    }];
    let interfaces: Vec<InterfaceView> = client.get("/v1/interfaces").unwrap_or_default();
    for interface in interfaces {
        let subject = format!("attached {}", interface.name);
        let reason = interface.reason.unwrap_or_default();
        all.push(match (interface.backend, interface.unguarded) {
            (Some(backend), None) => {
                finding(&subject, Grade::Good, format!("by {backend}: {reason}"), String::new())
            }
            (Some(backend), Some(why)) => finding(
                &subject,
                Grade::Warning,
                format!("by {backend}, but the host also sees the packets"),
                why,
            ),
            (None, _) => finding(&subject, Grade::Error, interface.status, reason),
        });
    }
    all
}
