//! `drain`, `undrain`, `kill-connections`, `backup`, `restore`.

use super::{CommandError, Outcome, print};
use crate::args::KillArguments;
use crate::client::Client;
use crate::web::api::{Applied, DrainWish, Killed, UndrainWish};
use control::model::{PersistentClients, format_duration};
use control::view::ConnectionFilter;
use hyper::Method;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

pub(super) fn drain(
    client: &Client,
    service: String,
    real: String,
    reason: String,
    within: Option<Duration>,
    persistent: PersistentClients,
) -> Outcome {
    let text = match persistent {
        PersistentClients::Move => format!("{real} of {service} takes no new connections\n"),
        PersistentClients::Keep => format!(
            "{real} of {service} takes no new connections but those of clients that persistence \
             leads to it\n"
        ),
    };
    let within = within.map(format_duration);
    let wish = DrainWish { service, real, reason, within, persistent };
    let _: Applied = client.post("/v1/drain", &wish)?;
    print::text(&text)
}

pub(super) fn undrain(client: &Client, service: String, real: String) -> Outcome {
    let text = format!("{real} of {service} takes connections again\n");
    let _: Applied = client.post("/v1/undrain", &UndrainWish { service, real })?;
    print::text(&text)
}

pub(super) fn kill(client: &Client, kill: KillArguments) -> Outcome {
    let KillArguments { service, real, client: of } = kill;
    let filter = ConnectionFilter { service, real, client: of };
    let killed: Killed = client.post("/v1/connections/kill", &filter)?;
    print::text(&format!("{} connections ended\n", killed.connections))
}

pub(super) fn backup(client: &Client, file: &Path) -> Outcome {
    let bytes = client.get_bytes("/v1/backup")?;
    if file == Path::new("-") {
        return print::bytes(&bytes);
    }
    // It holds secrets: for its owner alone.
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| CommandError::Io(file.display().to_string(), error))?;
    print::text(&format!("{} bytes in {}\n", bytes.len(), file.display()))
}

pub(super) fn restore(client: &Client, file: &Path) -> Outcome {
    let bytes = print::read(file)?;
    let applied: Applied = client.send_bytes(Method::PUT, "/v1/restore", bytes)?;
    print::text(&match applied.revision {
        Some(revision) => format!("restored; revision {} is active\n", revision.number),
        None => "restored; the configuration is the same\n".to_owned(),
    })
}
