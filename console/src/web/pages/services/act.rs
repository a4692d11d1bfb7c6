//! What operators do with a real server. Each answers with the service's page (303), so that it works
//! without a script and can be reloaded.

use super::one::find;
use crate::web::shell::{Shell, Visit};
use crate::web::trouble::{Trouble, html};
use crate::web::words::{Lang, exact};
use askama::Template;
use axum::Form;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use control::model::PersistentClients;
use control::state::Refusal;
use control::view::RealView;
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

/// A real server of a service, as paths name it.
type Which = Path<(String, String)>;

/// A new weight.
#[derive(Debug, Deserialize)]
pub struct Weight {
    weight: u32,
}

/// How to drain.
#[derive(Debug, Deserialize)]
pub struct Drain {
    /// Seconds until the rest is cut; empty: never.
    #[serde(default)]
    within: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    persistent: String,
}

/// A reason.
#[derive(Debug, Deserialize)]
pub struct Reason {
    #[serde(default)]
    reason: String,
}

#[derive(Template)]
#[template(path = "pages/drain.html")]
struct DrainPage {
    s: Shell,
    l: Lang,
    service: String,
    real: String,
    back: String,
    action: String,
    force: bool,
    open: String,
    persistent: String,
    last: bool,
}

async fn server(visit: &Visit, service: &str, real: &str) -> Result<(RealView, bool), Trouble> {
    let found = find(visit, service).await?;
    let serving =
        found.reals.iter().filter(|real| crate::web::state::serves(real)).map(|real| real.address);
    let serving: Vec<SocketAddr> = serving.collect();
    let wanted = found.reals.into_iter().find(|own| own.address.to_string() == real);
    let wanted = wanted
        .ok_or_else(|| Refusal::NoReal { service: service.to_owned(), real: real.to_owned() })?;
    let last = serving == [wanted.address];
    Ok((wanted, last))
}

async fn ask(
    visit: Visit,
    service: String,
    real: String,
    force: bool,
) -> Result<Response, Trouble> {
    let l = visit.lang;
    let (view, last) = server(&visit, &service, &real).await?;
    let title = if force { "force-out-title" } else { "drain-title" };
    let verb = if force { "force-out" } else { "drain" };
    let back = super::path(&service);
    html(&DrainPage {
        s: visit.shell("/services", l.say_with(title, &[("real", &real), ("service", &service)])),
        l,
        action: format!("{back}/servers/{}/{verb}", super::segment(&real)),
        back,
        service,
        real,
        force,
        open: exact(u64::from(view.active) + u64::from(view.inactive)),
        persistent: exact(u64::from(view.persistent)),
        last,
    })
}

/// `GET .../drain`: says what it will do.
pub async fn drain_page(visit: Visit, Path((service, real)): Which) -> Result<Response, Trouble> {
    ask(visit, service, real, false).await
}

/// `GET .../force-out`: says what it will do.
pub async fn force_out_page(
    visit: Visit,
    Path((service, real)): Which,
) -> Result<Response, Trouble> {
    ask(visit, service, real, true).await
}

/// `POST .../drain`.
pub async fn drain(
    visit: Visit,
    Path((service, real)): Which,
    Form(form): Form<Drain>,
) -> Result<Response, Trouble> {
    let within = match form.within.trim() {
        "" => None,
        text => Some(control::model::parse_duration(text).ok_or_else(|| {
            Trouble::Bad(visit.lang.say_with("bad-duration", &[("value", text)]))
        })?),
    };
    let persistent = match form.persistent.as_str() {
        "keep" => PersistentClients::Keep,
        _ => PersistentClients::Move,
    };
    take_out(&visit, &service, &real, (&form.reason, within, persistent)).await
}

/// `POST .../force-out`: a drain whose deadline is now.
pub async fn force_out(
    visit: Visit,
    Path((service, real)): Which,
    Form(form): Form<Reason>,
) -> Result<Response, Trouble> {
    let how = (form.reason.as_str(), Some(Duration::ZERO), PersistentClients::Move);
    take_out(&visit, &service, &real, how).await
}

async fn take_out(
    visit: &Visit,
    service: &str,
    real: &str,
    (reason, within, persistent): (&str, Option<Duration>, PersistentClients),
) -> Result<Response, Trouble> {
    let author = &visit.actor.name;
    visit.site.handle.drain(service, real, author, reason.trim(), within, persistent).await?;
    Ok(back(service))
}

/// `POST .../put-back`.
pub async fn put_back(visit: Visit, Path((service, real)): Which) -> Result<Response, Trouble> {
    visit.site.handle.undrain(&service, &real, &visit.actor.name).await?;
    Ok(back(&service))
}

/// `POST .../weight`.
pub async fn weigh(
    visit: Visit,
    Path((service, real)): Which,
    Form(Weight { weight }): Form<Weight>,
) -> Result<Response, Trouble> {
    let address: SocketAddr = real.parse().map_err(|_| Trouble::NotFound(real.clone()))?;
    let comment = format!("{service}: weight of {real} to {weight}");
    let change = |document: &mut control::model::Document| {
        let services = &mut document.services;
        let found = services.iter_mut().find(|own| own.name == service);
        let found = found.ok_or_else(|| Refusal::NoService(service.clone()))?;
        let own = std::sync::Arc::make_mut(found);
        let real = own
            .reals
            .iter_mut()
            .find(|own| own.address == address)
            .ok_or_else(|| Refusal::NoReal { service: service.clone(), real: real.clone() })?;
        real.weight = weight;
        Ok::<_, Refusal>(())
    };
    visit.site.handle.edit(&visit.actor.name, &comment, change).await.map_err(
        |error| match error {
            control::handle::EditError::Edit(refusal)
            | control::handle::EditError::Refused(refusal) => Trouble::Refused(refusal),
        },
    )?;
    Ok(back(&service))
}

fn back(service: &str) -> Response {
    Redirect::to(&super::path(service)).into_response()
}
