//! One service with its real servers.

use super::list::{address, method_id};
use crate::web::pages::events::Line;
use crate::web::shell::{Shell, Visit};
use crate::web::state::{Tone, of_real, of_service};
use crate::web::trouble::{Trouble, html};
use crate::web::words::{Lang, duration, exact, moment, short};
use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use control::view::{RealState, RealView, ServiceView};
use std::time::Duration;

/// Events in the list of this page.
const EVENTS: usize = 10;

/// Events that are looked through for those of this service.
const LOOKED: usize = 2000;

/// One real server in the table.
pub struct Server {
    /// RIP and port.
    pub address: String,
    /// The `id` of its row.
    pub anchor: String,
    /// Path of what can be done with it.
    pub path: String,
    /// How bad its state is.
    pub tone: Tone,
    /// Its state in words.
    pub state: String,
    /// Its weight in the document.
    pub weight: u32,
    /// Its share of new connections.
    pub share: String,
    /// Open connections, short.
    pub open: String,
    /// Open connections, exactly.
    pub open_exact: String,
    /// What is to say about its state, in this language.
    pub note: Option<String>,
    /// The checker's own words.
    pub reason: Option<String>,
    /// What seems to be wrong with its setup.
    pub suspicions: Vec<String>,
    /// Whether an operator took it out.
    pub drained: bool,
    /// Whether it has connections to cut.
    pub can_be_cut: bool,
    /// Whether it is the sorry server, which nobody takes out.
    pub sorry: bool,
}

impl Server {
    fn of(service: &ServiceView, real: &RealView, now: u64, l: Lang) -> Self {
        let state = of_real(real);
        let all: u64 = service.reals.iter().map(|real| u64::from(real.effective_weight)).sum();
        let share = u64::from(real.effective_weight) * 100;
        let open = u64::from(real.active) + u64::from(real.inactive);
        Self {
            address: real.address.to_string(),
            anchor: super::anchor(real),
            path: format!(
                "{}/servers/{}",
                super::path(&service.name),
                super::segment(&real.address.to_string())
            ),
            tone: state.tone,
            state: state.words(l),
            weight: real.weight,
            share: format!("{} %", (share + all / 2).checked_div(all).unwrap_or(0)),
            open: short(open as f64),
            open_exact: exact(open),
            note: note(real, open, now, l),
            reason: real.reason.clone().filter(|_| real.state == RealState::Down),
            suspicions: real.suspicions.clone(),
            drained: real.state == RealState::Drained,
            can_be_cut: open > 0,
            sorry: real.state == RealState::Sorry,
        }
    }
}

/// What is to say about a server that is not simply healthy.
fn note(real: &RealView, open: u64, now: u64, l: Lang) -> Option<String> {
    if let Some(drain) = &real.drain {
        let since = moment(drain.since, now).short;
        let by = [("author", drain.author.as_str()), ("since", &since)];
        let mut sentences = vec![l.say_with("drained-by", &by)];
        if !drain.reason.is_empty() {
            sentences.push(l.say_with("drained-because", &[("reason", &drain.reason)]));
        }
        sentences.push(l.count("connections-remain", open));
        if let Some(deadline) = drain.deadline.filter(|_| open > 0) {
            let left = Duration::from_millis(deadline.saturating_sub(now));
            sentences.push(l.say_with("cut-in", &[("span", &duration(left, l))]));
        }
        return Some(sentences.join(" "));
    }
    let since = real.since.filter(|_| real.state == RealState::Down)?;
    let span = duration(Duration::from_millis(now.saturating_sub(since)), l);
    Some(l.say_with("down-since", &[("since", &moment(since, now).short), ("span", &span)]))
}

#[derive(Template)]
#[template(path = "pages/service.html")]
struct Page {
    s: Shell,
    l: Lang,
    name: String,
    tone: Tone,
    state: String,
    address: String,
    protocol: String,
    method: String,
    replies_bypass: bool,
    scheduler: String,
    persistence: Option<u64>,
    servers: Vec<Server>,
    events: Vec<Line>,
}

/// `GET /services/{service}`.
pub async fn page(visit: Visit, Path(name): Path<String>) -> Result<Response, Trouble> {
    let l = visit.lang;
    let service = find(&visit, &name).await?;
    let now = crate::web::unix_millis();
    let recent = visit.site.handle.recent(LOOKED).await?;
    let own = recent.iter().rev().filter(|record| record.subject == service.name).take(EVENTS);
    let state = of_service(&service);
    html(&Page {
        s: visit.shell("/services", service.name.clone()),
        l,
        tone: state.tone,
        state: state.words(l),
        address: address(&service),
        protocol: service.protocol.clone().unwrap_or_default().to_uppercase(),
        method: l.say(method_id(&service.method)),
        replies_bypass: matches!(method_id(&service.method), "method-dr" | "method-tunnel"),
        scheduler: service.scheduler.clone(),
        persistence: service.persistence,
        servers: service.reals.iter().map(|real| Server::of(&service, real, now, l)).collect(),
        events: own.map(|record| Line::of(record, now)).collect(),
        name: service.name,
    })
}

/// The service of that name.
///
/// # Errors
/// When there is none; the message offers the nearest name.
pub async fn find(visit: &Visit, name: &str) -> Result<ServiceView, Trouble> {
    let services = visit.site.handle.services().await?;
    let nearest = services
        .iter()
        .map(|service| (strsim::jaro_winkler(&service.name, name), &service.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, nearest)| nearest.clone());
    services.into_iter().find(|service| service.name == name).ok_or_else(|| {
        let l = visit.lang;
        Trouble::NotFound(match nearest {
            Some(nearest) => l.say_with("no-service-but", &[("name", name), ("nearest", &nearest)]),
            None => l.say_with("no-service", &[("name", name)]),
        })
    })
}
