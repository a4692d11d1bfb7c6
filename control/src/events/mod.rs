//! What can happen, and what follows from it. Pure: one file for each story.

mod clock_ticked;
mod config_committed;
mod edited;
mod link_changed;
mod peer_verdicts;
mod publication;
mod real_changed;
mod role_changed;
mod server_drained;
mod setup_suspected;
mod shared_configuration;
mod stored;

pub use config_committed::ConfigurationEvent;
pub use edited::EditEvent;
pub use link_changed::HostEvent;
pub use publication::publish_if_stale;
pub use real_changed::RealEvent;
pub use server_drained::{DrainEvent, real_key_of};
pub use setup_suspected::SetupEvent;
pub use shared_configuration::{Choice, PeerEvent};
pub use stored::StoreEvent;

use crate::model::VirtualAddress;
use crate::record::{Kind, Severity};
use crate::state::{Action, Moment, Senses, State};
use crate::vrrp::fsm as vrrp;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Something that happened. Each story has its events in its own file.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each variant describes its fields
pub enum Event {
    Configuration(ConfigurationEvent),
    Edit(EditEvent),
    Store(StoreEvent),
    Drain(DrainEvent),
    Real(RealEvent),
    /// A VRRP instance changed its state; `reason` says why, and what is down.
    RoleChanged {
        instance: String,
        to: vrrp::State,
        reason: String,
    },
    Host(HostEvent),
    Setup(SetupEvent),
    Peer(PeerEvent),
    /// The director serves these services' sorry pages, at these addresses of its own.
    SorryPagesOpened(BTreeMap<VirtualAddress, SocketAddr>),
    /// For the record; decides nothing.
    Noticed {
        kind: Kind,
        severity: Severity,
        text: String,
    },
    /// A deadline has come.
    TimePassed,
    /// The daemon is to end.
    StopAsked,
}

/// Decides what follows from an event. What packets look up may be stale afterwards: see
/// [`publish_if_stale`].
pub fn decide(state: &mut State, event: Event, senses: &Senses<'_>, out: &mut Vec<Action>) {
    let now = senses.now;
    state.steady = now.steady;
    if sees_what_is_published(&event) {
        publish_if_stale(state, senses, out);
    }
    match event {
        Event::Configuration(event) => config_committed::decide(state, event, out),
        Event::Edit(event) => edited::decide(state, event, senses, out),
        Event::Store(event) => stored::decide(state, event, senses, out),
        Event::Drain(event) => server_drained::decide(state, event, senses, out),
        Event::Real(event) => real_changed::decide(state, event, senses, out),
        Event::RoleChanged { instance, to, reason } => {
            role_changed::changed(state, instance, to, &reason, senses, out);
        }
        Event::Host(event) => link_changed::decide(state, event, senses, out),
        Event::Setup(event) => setup_suspected::decide(state, event, senses, out),
        Event::Peer(event) => shared_configuration::decide(state, event, senses, out),
        Event::SorryPagesOpened(places) => {
            state.situation.sorry_pages = places;
            state.stale = true;
        }
        Event::Noticed { kind, severity, text } => {
            let object = if kind == Kind::Peer { "peer" } else { "" };
            state.record(now, (severity, kind), object, text, out);
        }
        Event::TimePassed => clock_ticked::ticked(state, senses, out),
        Event::StopAsked => config_committed::stop(state, out),
    }
    shared_configuration::look(state, now, out);
}

/// Whether an event's story shows what is published, or publishes for an operator without a word about
/// quorums.
const fn sees_what_is_published(event: &Event) -> bool {
    matches!(
        event,
        Event::Edit(EditEvent::Ipvs { .. })
            | Event::Drain(DrainEvent::Drained { .. } | DrainEvent::PutBack { .. })
    )
}

#[cfg(test)]
mod tests;
