//! The first page: what needs attention, how the services stand, what happened last.

use super::events::Line;
use super::services::list::Row;
use crate::web::shell::{Shell, Visit};
use crate::web::state::{Tone, of_real, of_service, serves};
use crate::web::trouble::{Trouble, html};
use crate::web::words::Lang;
use askama::Template;
use axum::response::Response;
use control::view::{RealState, RealView, ServiceView, VrrpView};

/// Services in the list of this page; the others are on their own page.
const SERVICES: usize = 20;

/// Events in the list of this page.
const EVENTS: usize = 8;

/// Lines of trouble; more are counted.
const TROUBLES: usize = 12;

/// Something that needs attention.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Attention {
    /// How bad it is; first, so that lines are ordered by it.
    pub tone: Tone,
    /// What it is.
    pub what: String,
    /// How it is known, and what it means.
    pub say: String,
    /// Path of the page where it is looked at.
    pub link: String,
    /// What the link says.
    pub button: String,
}

#[derive(Template)]
#[template(path = "pages/overview.html")]
struct Page {
    s: Shell,
    l: Lang,
    attention: Vec<Attention>,
    more: usize,
    services: Vec<Row>,
    all: usize,
    reals: String,
    events: Vec<Line>,
    facts: Vec<(String, String)>,
}

/// `GET /`.
pub async fn page(visit: Visit) -> Result<Response, Trouble> {
    let l = visit.lang;
    let handle = &visit.site.handle;
    let services = handle.services().await?;
    let recent = handle.recent(EVENTS).await?;
    let status = handle.status(&crate::web::api::host_name(), env!("CARGO_PKG_VERSION")).await?;
    let mut attention = of_services(&services, l);
    attention.extend(of_instances(&handle.vrrp(), l));
    if let Some(trouble) = &status.store_trouble {
        attention.push(Attention {
            tone: Tone::Bad,
            what: l.say("attention-store"),
            say: trouble.clone(),
            link: "/events".to_owned(),
            button: l.say("menu-events"),
        });
    }
    attention.sort();
    let count = attention.len();
    let title = match count {
        0 => l.say("overview-good"),
        _ => l.count("overview-attention", count),
    };
    let all: usize = services.iter().map(|service| service.reals.len()).sum();
    let serving = services.iter().flat_map(|service| &service.reals).filter(|real| serves(real));
    let serving = serving.count().to_string();
    let arguments = [("all", all.to_string()), ("serving", serving)];
    let arguments = arguments.each_ref().map(|(name, value)| (*name, value.as_str()));
    let now = crate::web::unix_millis();
    let mut rows: Vec<Row> = services.iter().map(|service| Row::of(service, l)).collect();
    rows.sort_by_key(|row| row.tone);
    rows.truncate(SERVICES);
    html(&Page {
        s: visit.shell("/", title),
        l,
        more: count.saturating_sub(TROUBLES),
        attention: attention.into_iter().take(TROUBLES).collect(),
        all: services.len(),
        reals: l.say_with("overview-reals", &arguments),
        services: rows,
        events: recent.iter().rev().map(|record| Line::of(record, now)).collect(),
        facts: facts(&status, l),
    })
}

fn facts(status: &control::view::StatusView, l: Lang) -> Vec<(String, String)> {
    use crate::web::words::exact;
    vec![
        (l.say("fact-connections"), {
            let (of, all) = (exact(status.connections), exact(status.connections_capacity));
            l.say_with("of", &[("part", &of), ("whole", &all)])
        }),
        (l.say("fact-workers"), status.workers.to_string()),
        (l.say("fact-revision"), status.revision.to_string()),
        (l.say("fact-drained"), status.drained.to_string()),
    ]
}

/// What is wrong with services and their real servers.
fn of_services(services: &[ServiceView], l: Lang) -> Vec<Attention> {
    let mut found = Vec::new();
    for service in services {
        let state = of_service(service);
        let link = super::services::path(&service.name);
        let look = l.say_with("look-at", &[("name", &service.name)]);
        if state.tone == Tone::Bad {
            let what = format!("{}{}{}", service.name, l.say("colon"), state.words(l));
            let down = service.reals.iter().filter(|real| real.state == RealState::Down);
            let say = down.map(because).collect::<Vec<_>>().join(" · ");
            found.push(Attention {
                tone: Tone::Bad,
                what,
                say,
                link: link.clone(),
                button: look.clone(),
            });
        }
        for real in &service.reals {
            found.extend(of_server(service, real, state.tone, &link, l));
        }
    }
    found
}

fn because(real: &RealView) -> String {
    match &real.reason {
        Some(reason) => format!("{}: {reason}", real.address),
        None => real.address.to_string(),
    }
}

fn of_server(
    service: &ServiceView,
    real: &RealView,
    whole: Tone,
    link: &str,
    l: Lang,
) -> Vec<Attention> {
    let line = |tone, id: &str, say: String| Attention {
        tone,
        what: l.say_with(id, &[("service", &service.name), ("real", &real.address.to_string())]),
        say,
        link: format!("{link}#{}", super::services::anchor(real)),
        button: l.say_with("look-at", &[("name", &real.address.to_string())]),
    };
    let mut found = Vec::new();
    if real.state == RealState::Down && whole != Tone::Bad {
        found.push(line(
            Tone::Warn,
            "attention-real-down",
            real.reason.clone().unwrap_or_default(),
        ));
    }
    let suspected = real.suspicions.iter();
    found.extend(suspected.map(|text| line(Tone::Warn, "attention-suspected", text.clone())));
    if of_real(real).tone == Tone::Drain {
        let open = u64::from(real.active + real.inactive);
        found.push(line(Tone::Drain, "attention-draining", l.count("connections-remain", open)));
    }
    found
}

fn of_instances(instances: &[VrrpView], l: Lang) -> Vec<Attention> {
    let faulty = instances.iter().filter(|instance| !instance.faults.is_empty());
    let line = |instance: &VrrpView| Attention {
        tone: Tone::Bad,
        what: l.say_with("attention-vrrp", &[("name", &instance.name)]),
        say: instance.faults.join(" · "),
        link: "/events".to_owned(),
        button: l.say("menu-events"),
    };
    faulty.map(line).collect()
}
