//! Connections by service, real server and client; ending a selection, with the count shown first.

use crate::web::shell::{Shell, Visit};
use crate::web::trouble::{Trouble, html};
use crate::web::words::{Lang, exact};
use askama::Template;
use axum::Form;
use axum::extract::Query;
use axum::response::{IntoResponse, Redirect, Response};
use control::view::{ConnectionFilter, ConnectionView};
use serde::Deserialize;

/// Connections on one page.
const PAGE: usize = 50;

/// Pages of the table that are looked at for one page here: a filter that few meet must not take long.
const LOOKS: usize = 64;

/// Which connections, and where to go on.
#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    service: String,
    #[serde(default)]
    real: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    cursor: u64,
}

impl Filter {
    fn wish(&self) -> ConnectionFilter {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        ConnectionFilter {
            service: given(&self.service),
            real: given(&self.real),
            client: given(&self.client),
        }
    }
}

#[derive(Template)]
#[template(path = "pages/connections.html")]
struct Page {
    s: Shell,
    l: Lang,
    service: String,
    real: String,
    client: String,
    names: Vec<String>,
    connections: Vec<ConnectionView>,
    next: Option<u64>,
    filtered: bool,
    all: String,
}

/// `GET /connections`.
pub async fn page(visit: Visit, Query(filter): Query<Filter>) -> Result<Response, Trouble> {
    let l = visit.lang;
    let handle = &visit.site.handle;
    let wish = filter.wish();
    let (mut connections, mut cursor, mut looks) = (Vec::new(), Some(filter.cursor), 0);
    while let Some(from) = cursor.filter(|_| connections.len() < PAGE && looks < LOOKS) {
        let found = handle.connections(&wish, from, PAGE - connections.len()).await?;
        connections.extend(found.connections);
        cursor = found.next;
        looks += 1;
    }
    let document = &handle.snapshot().document;
    let all = handle.dataplane().director().connections().len() as u64;
    html(&Page {
        s: visit.shell("/connections", l.say("menu-connections")),
        l,
        names: document.services.iter().map(|service| service.name.clone()).collect(),
        filtered: !wish.is_empty(),
        service: filter.service,
        real: filter.real,
        client: filter.client,
        connections,
        next: cursor,
        all: l.say_with("connections-all", &[("count", &exact(all))]),
    })
}

#[derive(Template)]
#[template(path = "pages/connections-end.html")]
struct EndPage {
    s: Shell,
    l: Lang,
    service: String,
    real: String,
    client: String,
    count: u64,
}

/// `GET /connections/end`: says how many it would end.
pub async fn end_page(visit: Visit, Query(filter): Query<Filter>) -> Result<Response, Trouble> {
    let l = visit.lang;
    let wish = filter.wish();
    if wish.is_empty() {
        return Err(Trouble::Bad(l.say("end-needs-condition")));
    }
    let count = visit.site.handle.count(&wish).await?;
    html(&EndPage {
        s: visit.shell("/connections", l.say("end-title")),
        l,
        service: filter.service,
        real: filter.real,
        client: filter.client,
        count,
    })
}

/// `POST /connections/end`.
pub async fn end(visit: Visit, Form(filter): Form<Filter>) -> Result<Response, Trouble> {
    let ended = visit.site.handle.kill(&filter.wish()).await?;
    tracing::info!("{} ended {ended} connections", visit.actor.name);
    Ok(Redirect::to("/connections").into_response())
}
