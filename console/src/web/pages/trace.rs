//! What happens to packets: every decision that one flow meets, and the packets that died.

use crate::web::shell::{Choice, Shell, Visit, choices};
use crate::web::trouble::{Trouble, html};
use crate::web::words::{Lang, exact, short};
use askama::Template;
use axum::extract::Query;
use axum::response::Response;
use control::model::Protocol;
use control::view::{ExplanationView, StepView};
use dataplane::packet_path::explain::Question;
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};

/// A flow to explain.
#[derive(Debug, Default, Deserialize)]
pub struct Flow {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    protocol: String,
}

const PROTOCOLS: [(&str, &str); 3] =
    [("tcp", "protocol-tcp"), ("udp", "protocol-udp"), ("sctp", "protocol-sctp")];

/// The client's port when only an address is given: any will do.
const ANY_PORT: u16 = 40_000;

#[derive(Template)]
#[template(path = "pages/explain.html")]
struct ExplainPage {
    s: Shell,
    l: Lang,
    from: String,
    to: String,
    protocols: Vec<Choice>,
    wrong: Option<String>,
    steps: Vec<StepView>,
    outcome: String,
}

/// `GET /explain`.
pub async fn explain(visit: Visit, Query(flow): Query<Flow>) -> Result<Response, Trouble> {
    let l = visit.lang;
    let asked = !flow.to.is_empty() || !flow.from.is_empty();
    let (mut wrong, mut found) = (None, None);
    if asked {
        match question(&flow, l) {
            Ok(question) => found = Some(visit.site.handle.explain(&question)),
            Err(text) => wrong = Some(text),
        }
    }
    let ExplanationView { steps, real } =
        found.unwrap_or(ExplanationView { steps: Vec::new(), real: None });
    html(&ExplainPage {
        s: visit.shell("/explain", l.say("menu-explain")),
        l,
        protocols: choices(l, &flow.protocol, &PROTOCOLS),
        from: flow.from,
        to: flow.to,
        wrong,
        steps,
        outcome: match real {
            Some(real) => l.say_with("explain-goes", &[("real", &real.to_string())]),
            None => l.say("explain-goes-nowhere"),
        },
    })
}

fn question(flow: &Flow, l: Lang) -> Result<Question, String> {
    let bad = |text: &str| l.say_with("bad-endpoint", &[("value", text)]);
    let from = flow.from.trim();
    let client = from.parse::<IpAddr>().map(|address| SocketAddr::new(address, ANY_PORT));
    let from = client.or_else(|_| from.parse::<SocketAddr>()).map_err(|_| bad(from))?;
    let to: SocketAddr = flow.to.trim().parse().map_err(|_| bad(flow.to.trim()))?;
    if from.is_ipv4() != to.is_ipv4() {
        return Err(l.say("bad-families"));
    }
    let protocol = match flow.protocol.as_str() {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    Ok(Question { protocol, from, to })
}

/// Packets that died of one reason.
struct Died {
    reason: String,
    explanation: String,
    packets: String,
    exact: String,
}

#[derive(Template)]
#[template(path = "pages/drops.html")]
struct DropsPage {
    s: Shell,
    l: Lang,
    died: Vec<Died>,
}

/// `GET /drops`.
pub async fn drops(visit: Visit) -> Result<Response, Trouble> {
    let l = visit.lang;
    let mut drops = visit.site.handle.drops();
    drops.retain(|drop| drop.packets > 0);
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.packets));
    let died = drops.into_iter().map(|drop| Died {
        reason: drop.reason,
        explanation: drop.explanation,
        packets: short(drop.packets as f64),
        exact: exact(drop.packets),
    });
    let died = died.collect();
    html(&DropsPage { s: visit.shell("/drops", l.say("menu-drops")), l, died })
}
