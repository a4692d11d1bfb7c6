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

pub use publication::publish_if_stale;
pub use server_drained::real_key_of;
pub use shared_configuration::Choice;

use crate::compile::RealKey;
use crate::health::weight::AgentWeight;
use crate::host::HostState;
use crate::ipvs;
use crate::model::{Document, PersistentClients, VirtualAddress};
use crate::record::{Kind, Severity};
use crate::state::{Action, Flaw, Moment, Order, PortStatus, Senses, State, Ticket};
use crate::store::RevisionInfo;
use crate::sync::session::Control;
use crate::vrrp::fsm as vrrp;
use dataplane::table::{Mac, PortId};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// An operator wants this document.
    ConfigApplied {
        /// Who waits.
        ticket: Ticket,
        /// What they want.
        document: Arc<Document>,
        /// Who they are.
        author: String,
        /// Why they want it.
        comment: String,
        /// It is rolled back unless confirmed within this.
        confirm_within: Option<Duration>,
    },
    /// Somebody edited the document as it was at `version`. Edits that follow one another become one
    /// revision.
    DocumentEdited {
        /// Who waits.
        ticket: Ticket,
        /// Of the document that was edited.
        version: u64,
        /// What it is now.
        document: Arc<Document>,
        /// Who.
        author: String,
        /// Why.
        comment: String,
    },
    /// `ipvsadm`, or who speaks like it.
    IpvsAsked {
        /// Who waits.
        ticket: Ticket,
        /// What.
        request: Box<ipvs::Request>,
        /// Who.
        author: String,
    },
    /// An operator confirms the head revision.
    ConfigConfirmed {
        /// Who waits.
        ticket: Ticket,
    },
    /// An operator goes back to a revision.
    RolledBack {
        /// Who waits.
        ticket: Ticket,
        /// The revision's document.
        document: Arc<Document>,
        /// The revision.
        to: u64,
        /// Who.
        author: String,
    },
    /// The store took something.
    Stored {
        /// Of what it was told.
        version: u64,
        /// The revision that it is, or will be part of.
        revision: RevisionInfo,
        /// All kept revisions, when they are others now.
        history: Option<Arc<Vec<RevisionInfo>>>,
    },
    /// The store did not take something.
    NotStored {
        /// Of what it was told.
        version: u64,
        /// Why.
        error: String,
    },
    /// An operator takes a real server out.
    ServerDrained {
        /// Who waits.
        ticket: Ticket,
        /// By name or address.
        service: String,
        /// By address.
        real: String,
        /// Who.
        author: String,
        /// Why.
        reason: String,
        /// Its connections are ended after this.
        within: Option<Duration>,
        /// What becomes of its persistent clients.
        persistent: PersistentClients,
    },
    /// An operator puts a real server back.
    ServerUndrained {
        /// Who waits.
        ticket: Ticket,
        /// By name or address.
        service: String,
        /// By address.
        real: String,
        /// Who.
        author: String,
    },
    /// A check changed its mind.
    RealDown {
        /// About which server.
        real: RealKey,
        /// Why.
        reason: String,
    },
    /// A backup was brought back: these real servers are out for maintenance, and no others.
    DrainsRestored(BTreeMap<RealKey, Order>),
    /// A check changed its mind.
    RealUp {
        /// About which server.
        real: RealKey,
        /// Why.
        reason: String,
    },
    /// A server's agent asks for another weight, or no longer for one.
    RealWeighed {
        /// Which server.
        real: RealKey,
        /// What it asks for.
        agent: Option<AgentWeight>,
    },
    /// A VRRP instance changed its state.
    RoleChanged {
        /// Which instance.
        instance: String,
        /// What it is now.
        to: vrrp::State,
        /// Why, and what is down.
        reason: String,
    },
    /// The host's picture is another one.
    HostChanged(Arc<HostState>),
    /// A port was opened, or not.
    PortOpened {
        /// Which.
        port: PortId,
        /// What came of it.
        status: PortStatus,
    },
    /// A port failed while it was in use.
    PortLost {
        /// Which.
        port: PortId,
        /// Of which attachment.
        edition: u64,
    },
    /// The packet path needs a neighbour.
    NeighbourNeeded {
        /// Where it lives.
        port: PortId,
        /// Who.
        address: IpAddr,
    },
    /// A neighbour answered the packet path.
    NeighbourSeen {
        /// Where it lives.
        port: PortId,
        /// Who.
        address: IpAddr,
        /// With which Ethernet address.
        mac: Mac,
    },
    /// The director serves these services' sorry pages, at these addresses of its own.
    SorryPagesOpened(BTreeMap<VirtualAddress, SocketAddr>),
    /// Something about a real server that people should know and that decides nothing.
    RealNoticed {
        /// Which server.
        real: RealKey,
        /// What kind of thing.
        kind: Kind,
        /// How much it matters.
        severity: Severity,
        /// What.
        text: String,
    },
    /// Something about a clock that people should know.
    ClockNoticed {
        /// How much it matters.
        severity: Severity,
        /// What.
        text: String,
    },
    /// A real server's traffic says that it is set up wrongly.
    SetupSuspected {
        /// Which server.
        real: RealKey,
        /// What is wrong.
        flaw: Flaw,
        /// In words; `None` when it is right again.
        text: Option<String>,
    },
    /// Somebody else on the network answers for an address that this node owns.
    AddressClaimed {
        /// The address.
        address: IpAddr,
        /// Who answers.
        mac: Mac,
    },
    /// A receiver could not be told of something.
    NotAlerted {
        /// Who, and why.
        text: String,
    },
    /// Something about the daemon that people should know.
    Noticed {
        /// How much it matters.
        severity: Severity,
        /// What.
        text: String,
    },
    /// Something about the link to the other director.
    PeerNoticed {
        /// How much it matters.
        severity: Severity,
        /// What.
        text: String,
    },
    /// The link to the other director is up, and it shares its configuration.
    PeerConnected {
        /// Its name.
        node: String,
    },
    /// The link to the other director is down.
    PeerDisconnected,
    /// The other director said something.
    PeerSaid(Control),
    /// Something that was said to the other director did not reach the link.
    PeerUnheard,
    /// An operator settles a conflict between the two directors' configurations.
    ConflictSettled {
        /// Who waits.
        ticket: Ticket,
        /// Whose configuration it is to be.
        choice: Choice,
        /// Who.
        author: String,
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
        Event::ConfigApplied { ticket, document, author, comment, confirm_within } => {
            let wish = config_committed::Wish { document, author, comment, confirm_within };
            config_committed::apply(state, ticket, wish, out);
        }
        Event::DocumentEdited { ticket, version, document, author, comment } => {
            let edit = edited::Edit { document, author, comment };
            edited::edit(state, ticket, version, edit, now, out);
        }
        Event::IpvsAsked { ticket, request, author } => {
            edited::ipvs(state, ticket, &request, author, senses, out);
        }
        Event::ConfigConfirmed { ticket } => config_committed::confirm(state, ticket, out),
        Event::RolledBack { ticket, document, to, author } => {
            config_committed::roll_back(state, ticket, document, to, author, out);
        }
        Event::Stored { version, revision, history } => {
            stored::stored(state, version, revision, history, senses, out);
        }
        Event::NotStored { version, error } => {
            stored::not_stored(state, version, &error, now, out);
        }
        Event::ServerDrained { ticket, service, real, author, reason, within, persistent } => {
            let order = server_drained::Wish { author, reason, within, persistent };
            server_drained::drain(state, ticket, &service, &real, order, now, out);
        }
        Event::ServerUndrained { ticket, service, real, author } => {
            server_drained::undrain(state, ticket, &service, &real, &author, now, out);
        }
        Event::RealDown { real, reason } => {
            real_changed::down(state, real, reason, senses, out);
        }
        Event::DrainsRestored(orders) => {
            server_drained::restored(state, &orders, senses, out);
        }
        Event::RealUp { real, reason } => real_changed::up(state, real, reason, senses, out),
        Event::RealWeighed { real, agent } => {
            real_changed::weighed(state, &real, agent, senses, out);
        }
        Event::RoleChanged { instance, to, reason } => {
            role_changed::changed(state, instance, to, &reason, senses, out);
        }
        Event::HostChanged(host) => link_changed::host(state, host, now, out),
        Event::PortOpened { port, status } => link_changed::opened(state, port, status, now, out),
        // One that was attached anew meanwhile is another one.
        Event::PortLost { port, edition } if senses.packets.is_current(port, edition) => {
            link_changed::lost(state, port, now, out);
        }
        Event::PortLost { .. } => {}
        Event::NeighbourNeeded { port, address } => {
            link_changed::needed(state, port, address, out);
        }
        Event::NeighbourSeen { port, address, mac } => {
            link_changed::seen(state, port, address, mac, out);
        }
        Event::SorryPagesOpened(places) => {
            state.situation.sorry_pages = places;
            state.stale = true;
        }
        Event::RealNoticed { real, kind, severity, text } => {
            real_changed::noticed(state, &real, (severity, kind), text, now, out);
        }
        Event::SetupSuspected { real, flaw, text } => {
            setup_suspected::suspected(state, real, flaw, text, senses, out);
        }
        Event::AddressClaimed { address, mac } => {
            setup_suspected::claimed(state, (address, mac), senses, out);
        }
        Event::NotAlerted { text } => {
            state.record(now, (Severity::Warning, Kind::Alert), "", text, out);
        }
        Event::ClockNoticed { severity, text } => {
            state.record(now, (severity, Kind::Clock), "", text, out);
        }
        Event::Noticed { severity, text } => {
            state.record(now, (severity, Kind::System), "", text, out);
        }
        Event::PeerNoticed { severity, text } => {
            state.record(now, (severity, Kind::Peer), "peer", text, out);
        }
        Event::PeerConnected { node } => {
            shared_configuration::connected(state, node, senses, out);
        }
        Event::PeerDisconnected => shared_configuration::disconnected(state),
        Event::PeerSaid(control) => peer_said(state, control, senses, out),
        Event::PeerUnheard => shared_configuration::unheard(state, now),
        Event::ConflictSettled { ticket, choice, author } => {
            shared_configuration::chosen(state, ticket, choice, author, now, out);
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
        Event::IpvsAsked { .. } | Event::ServerDrained { .. } | Event::ServerUndrained { .. }
    )
}

fn peer_said(state: &mut State, control: Control, senses: &Senses<'_>, out: &mut Vec<Action>) {
    match control {
        Control::Drains(orders) => server_drained::heard(state, orders, senses, out),
        Control::Verdicts(verdicts) => peer_verdicts::heard(state, verdicts, senses, out),
        // The link's task decides by them.
        Control::Roles(_) => {}
        control @ (Control::Heads(_)
        | Control::Want(_)
        | Control::Revision(_)
        | Control::Declined(_)) => shared_configuration::said(state, control, senses.now, out),
    }
}

#[cfg(test)]
mod tests;
