//! `explain`: every decision that a packet would meet.

use super::{Outcome, print};
use crate::args::Transport;
use crate::client::{Client, query};
use control::view::ExplanationView;
use std::net::SocketAddr;

pub(super) fn explain(
    client: &Client,
    from: SocketAddr,
    to: SocketAddr,
    protocol: Transport,
    json: bool,
) -> Outcome {
    let protocol = match protocol {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Sctp => "sctp",
    };
    let path = query(&[
        ("from", Some(from.to_string())),
        ("to", Some(to.to_string())),
        ("protocol", Some(protocol.to_owned())),
    ]);
    let explanation: ExplanationView = client.get(&format!("/v1/explain{path}"))?;
    if json {
        return print::json(&explanation);
    }
    let line = |step: &control::view::StepView| format!("{:<12}{}\n", step.stage, step.says);
    print::text(&explanation.steps.iter().map(line).collect::<String>())
}
