//! The list of services.

use crate::web::shell::{Choice, Shell, Visit, choices};
use crate::web::state::{Tone, of_service, serves};
use crate::web::trouble::{Trouble, html};
use crate::web::words::{Lang, exact, short};
use askama::Template;
use axum::extract::Query;
use axum::response::Response;
use control::view::{RealState, ServiceView};
use serde::Deserialize;

/// Services on one page.
const PAGE: usize = 50;

/// States that can be chosen.
const STATES: [(&str, &str); 6] = [
    ("", "every-state"),
    ("bad", "tone-bad"),
    ("warn", "tone-warn"),
    ("drain", "tone-drain"),
    ("good", "tone-good"),
    ("off", "tone-off"),
];

/// Orders that can be chosen.
const SORTS: [(&str, &str); 3] = [("", "sort-state"), ("name", "sort-name"), ("open", "sort-open")];

/// Which services, in which order.
#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    find: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    page: usize,
}

/// A service in a list.
pub struct Row {
    /// Its name.
    pub name: String,
    /// Path of its page.
    pub path: String,
    /// VIP and port, or its mark.
    pub address: String,
    /// Its protocol.
    pub protocol: String,
    /// Id of the forwarding method's name.
    pub method: String,
    /// The scheduler.
    pub scheduler: String,
    /// How bad its state is.
    pub tone: Tone,
    /// Its state in words.
    pub state: String,
    /// Real servers that take new connections, and all.
    pub healthy: String,
    /// Open connections.
    pub open: u64,
    /// The same, short.
    pub open_short: String,
    /// The same, exactly.
    pub open_exact: String,
}

impl Row {
    /// A service for people.
    pub fn of(service: &ServiceView, l: Lang) -> Self {
        let own = || service.reals.iter().filter(|real| real.state != RealState::Sorry);
        let serving = own().filter(|real| serves(real)).count().to_string();
        let all = own().count().to_string();
        let open = service
            .reals
            .iter()
            .map(|real| u64::from(real.active) + u64::from(real.inactive))
            .sum();
        let state = of_service(service);
        Self {
            name: service.name.clone(),
            path: super::path(&service.name),
            address: address(service),
            protocol: service.protocol.clone().unwrap_or_default().to_uppercase(),
            method: l.say(method_id(&service.method)),
            scheduler: service.scheduler.clone(),
            tone: state.tone,
            state: state.words(l),
            healthy: l.say_with("of", &[("part", &serving), ("whole", &all)]),
            open,
            open_short: short(open as f64),
            open_exact: exact(open),
        }
    }
}

/// VIP and port, or the mark.
pub fn address(service: &ServiceView) -> String {
    match (service.address, service.mark) {
        (Some(address), _) => address.to_string(),
        (None, Some(mark)) => format!("fwmark {mark}"),
        (None, None) => String::new(),
    }
}

/// The id of a forwarding method's name.
pub fn method_id(method: &str) -> &'static str {
    match method {
        "nat" => "method-nat",
        "fullnat" => "method-full-nat",
        "dr" => "method-dr",
        "local" => "method-local",
        _ => "method-tunnel",
    }
}

#[derive(Template)]
#[template(path = "pages/services.html")]
struct Page {
    s: Shell,
    l: Lang,
    rows: Vec<Row>,
    find: String,
    state: String,
    sort: String,
    states: Vec<Choice>,
    sorts: Vec<Choice>,
    all: usize,
    range: String,
    before: Option<usize>,
    after: Option<usize>,
}

/// `GET /services`.
pub async fn page(visit: Visit, Query(filter): Query<Filter>) -> Result<Response, Trouble> {
    let l = visit.lang;
    let services = visit.site.handle.services().await?;
    let all = services.len();
    let find = filter.find.trim().to_lowercase();
    let found = services.iter().filter(|service| is_found(service, &find));
    let mut rows: Vec<Row> = found.map(|service| Row::of(service, l)).collect();
    if !filter.state.is_empty() {
        rows.retain(|row| row.tone.class() == filter.state);
    }
    match filter.sort.as_str() {
        "name" => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        "open" => rows.sort_by_key(|row| std::cmp::Reverse(row.open)),
        // Services keep their order within a state.
        _ => rows.sort_by_key(|row| row.tone),
    }
    let count = rows.len();
    let start = filter.page.saturating_mul(PAGE).min(count);
    let shown: Vec<Row> = rows.into_iter().skip(start).take(PAGE).collect();
    let end = start + shown.len();
    let texts = [start + usize::from(end > start), end, count].map(|number| exact(number as u64));
    let [first, last, whole] = &texts;
    html(&Page {
        s: visit.shell("/services", l.say("menu-services")),
        l,
        rows: shown,
        states: choices(l, &filter.state, &STATES),
        sorts: choices(l, &filter.sort, &SORTS),
        find: filter.find,
        state: filter.state,
        sort: filter.sort,
        all,
        range: l.say_with("range", &[("first", first), ("last", last), ("whole", whole)]),
        before: (start > 0).then(|| filter.page.saturating_sub(1)),
        after: (end < count).then_some(filter.page + 1),
    })
}

fn is_found(service: &ServiceView, find: &str) -> bool {
    find.is_empty()
        || service.name.to_lowercase().contains(find)
        || address(service).contains(find)
        || service.reals.iter().any(|real| real.address.to_string().contains(find))
}
