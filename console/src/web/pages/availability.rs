//! High availability: who is master and why, the link to the other director, and failing over.

use super::config::DifferenceLine;
use crate::web::shell::{Shell, Visit};
use crate::web::state::Tone;
use crate::web::trouble::{Trouble, html};
use crate::web::words::{Lang, duration, exact};
use askama::Template;
use axum::Form;
use axum::response::{IntoResponse, Redirect, Response};
use control::events::Choice;
use control::sync::revisions::Relation;
use control::view::{ChangeView, SyncView, VrrpView};
use serde::Deserialize;
use std::time::Duration;

/// One VRRP instance.
struct Instance {
    name: String,
    tone: Tone,
    state: String,
    since: String,
    reason: Option<String>,
    master: bool,
    priority: u8,
    interface: String,
    id: u8,
    addresses: String,
    other: Option<String>,
    troubles: Vec<String>,
}

impl Instance {
    fn of(view: VrrpView, l: Lang) -> Self {
        let (tone, id) = match view.state.as_str() {
            "master" => (Tone::Good, "vrrp-master"),
            "backup" => (Tone::Info, "vrrp-backup"),
            "fault" => (Tone::Bad, "vrrp-fault"),
            _ => (Tone::Off, "vrrp-stopped"),
        };
        let addresses = view.addresses.iter().chain(&view.inside_addresses);
        let addresses: Vec<String> = addresses.map(ToString::to_string).collect();
        Self {
            tone,
            state: l.say(id),
            since: duration(Duration::from_secs(view.seconds), l),
            master: view.state == "master",
            other: view.master.map(|master| {
                let (address, priority) = (master.address.to_string(), master.priority.to_string());
                l.say_with("heard-master", &[("address", &address), ("priority", &priority)])
            }),
            troubles: view.faults.into_iter().chain(view.differences).collect(),
            addresses: addresses.join(", "),
            name: view.name,
            reason: view.reason,
            priority: view.priority,
            interface: view.interface,
            id: view.id,
        }
    }
}

#[derive(Template)]
#[template(path = "pages/ha.html")]
struct Page {
    s: Shell,
    l: Lang,
    instances: Vec<Instance>,
    link: (Tone, String),
    reason: Option<String>,
    administrates: bool,
    paired: bool,
    conflict: Option<Conflict>,
    facts: Vec<(String, String)>,
}

/// `GET /ha`.
pub async fn page(visit: Visit) -> Result<Response, Trouble> {
    let l = visit.lang;
    let sync = visit.site.handle.sync().await?;
    let instances = visit.site.handle.vrrp();
    html(&Page {
        s: visit.shell("/ha", l.say("menu-ha")),
        l,
        instances: instances.into_iter().map(|view| Instance::of(view, l)).collect(),
        link: link(&sync, l),
        administrates: visit.actor.role >= control::access::Role::Administrator,
        paired: sync.state != "none",
        conflict: conflict(&sync, l),
        facts: facts(&sync, l),
        reason: sync.reason,
    })
}

fn link(sync: &SyncView, l: Lang) -> (Tone, String) {
    match sync.state.as_str() {
        "up" if sync.caught_up => (Tone::Good, l.say("link-up")),
        "up" => (Tone::Info, l.say("link-catching-up")),
        "not_paired" => (Tone::Warn, l.say("link-not-paired")),
        "none" => (Tone::Off, l.say("link-none")),
        _ => (Tone::Bad, l.say("link-down")),
    }
}

/// The last change on a director, for people.
fn change(change: &ChangeView, l: Lang) -> String {
    let ChangeView { node, author, comment, .. } = change;
    l.say_with("change-by", &[("node", node), ("author", author), ("comment", comment)])
}

/// Both configurations were changed since they were the same.
struct Conflict {
    own: String,
    peer: String,
    changes: Vec<DifferenceLine>,
}

fn conflict(sync: &SyncView, l: Lang) -> Option<Conflict> {
    let found = &sync.configuration;
    (found.relation == Some(Relation::Conflict)).then(|| Conflict {
        own: found.own.as_ref().map(|own| change(own, l)).unwrap_or_default(),
        peer: found.peer.as_ref().map(|peer| change(peer, l)).unwrap_or_default(),
        changes: found.differences.iter().cloned().map(DifferenceLine::from).collect(),
    })
}

fn facts(sync: &SyncView, l: Lang) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut fact = |id: &str, value: Option<String>| {
        facts.extend(value.map(|value| (l.say(id), value)));
    };
    fact("link-peer", sync.peer.clone());
    fact("link-address", sync.address.map(|address| address.to_string()));
    fact("link-key", sync.key.clone());
    if sync.state == "up" {
        fact("link-lag", Some(exact(sync.lag_connections as u64)));
        fact("link-adopted", Some(exact(sync.adopted)));
        fact("link-clock", sync.clock_offset.map(|offset| format!("{offset:.1} ms")));
        fact("link-round-trip", sync.round_trip.map(|trip| format!("{trip:.1} ms")));
    }
    facts
}

/// Which mastership to give away.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    #[serde(default)]
    instance: String,
}

#[derive(Template)]
#[template(path = "pages/failover.html")]
struct FailoverPage {
    s: Shell,
    l: Lang,
    instance: String,
    does: String,
    caught_up: bool,
}

/// `GET /ha/failover`: says what it will do.
pub async fn failover_page(
    visit: Visit,
    axum::extract::Query(which): axum::extract::Query<Which>,
) -> Result<Response, Trouble> {
    let l = visit.lang;
    let found = visit.site.handle.vrrp().into_iter().find(|view| view.name == which.instance);
    let found = found.ok_or_else(|| control::state::Refusal::NoInstance(which.instance.clone()))?;
    let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    let sync = visit.site.handle.sync().await?;
    html(&FailoverPage {
        s: visit.shell("/ha", l.say_with("failover-title", &[("name", &which.instance)])),
        l,
        does: l.say_with("failover-does", &[("addresses", &addresses.join(", "))]),
        caught_up: sync.state == "up" && sync.caught_up,
        instance: which.instance,
    })
}

/// `POST /ha/failover`.
pub async fn failover(visit: Visit, Form(which): Form<Which>) -> Result<Response, Trouble> {
    visit.site.handle.failover(Some(&which.instance))?;
    tracing::info!("{} gives the mastership of {} away", visit.actor.name, which.instance);
    Ok(Redirect::to("/ha").into_response())
}

/// Whose configuration both directors are to have.
#[derive(Debug, Deserialize)]
pub struct Keep {
    keep: Choice,
}

/// `POST /ha/keep`: settles a conflict.
pub async fn keep(visit: Visit, Form(wish): Form<Keep>) -> Result<Response, Trouble> {
    visit.site.handle.keep(wish.keep, &visit.actor.name).await?;
    Ok(Redirect::to("/ha").into_response())
}
