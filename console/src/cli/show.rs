//! `show`: what goes on, for people or as JSON.

mod time;

pub(super) use time::peer_clock;

use super::{Outcome, print};
use crate::args::{ShowArguments, Topic};
use crate::client::{Client, query};
use crate::web::api::EventsView;
use control::model::PersistentClients;
use control::record::{Record, Severity};
use control::view::{
    ConnectionView, ConnectionsView, DropView, InterfaceView, RealState, RealView, ServiceView,
    StatusView,
};

/// Connections shown unless more or fewer are asked for.
const CONNECTIONS: usize = 1000;

/// Connections asked for at once.
const PAGE: usize = 5000;

pub(super) fn show(client: &Client, arguments: &ShowArguments) -> Outcome {
    match arguments.what {
        Topic::Status => status(client, arguments),
        Topic::Services => services(client, arguments),
        Topic::Connections => connections(client, arguments),
        Topic::Health => health(client, arguments),
        Topic::Time => time::time(client, arguments),
        Topic::Drops => drops(client, arguments),
        Topic::Interfaces => interfaces(client, arguments),
        Topic::Sync => super::high_availability::sync(client, arguments),
        Topic::Vrrp => super::high_availability::vrrp(client, arguments),
        Topic::Events => events(client, arguments),
    }
}

fn status(client: &Client, arguments: &ShowArguments) -> Outcome {
    let status: StatusView = client.get("/v1/status")?;
    if arguments.json {
        return print::json(&status);
    }
    let unconfirmed = match status.unconfirmed {
        Some(number) => format!(" (revision {number} is waiting for confirmation)"),
        None => String::new(),
    };
    let mut text = format!(
        "viaduct {} on {}\nrevision     {}{unconfirmed}\nservices     {} ({} down)\n\
         real servers {} ({} drained)\nconnections  {} of {}\nworkers      {}\nlongest turn {:.0} ms\n",
        status.version,
        status.node,
        status.revision,
        status.services,
        status.down,
        status.reals,
        status.drained,
        status.connections,
        status.connections_capacity,
        status.workers,
        status.longest_turn * 1e3
    );
    if let Some(trouble) = &status.store_trouble {
        text.push_str(&format!("CHANGES ARE REFUSED: {trouble}\n"));
    }
    print::text(&text)
}

/// The services that are asked for.
fn wanted(
    client: &Client,
    arguments: &ShowArguments,
) -> Result<Vec<ServiceView>, super::CommandError> {
    let mut services: Vec<ServiceView> = client.get("/v1/services")?;
    if let Some(wanted) = &arguments.service {
        services.retain(|service| {
            let address = service.address.map(|address| address.to_string());
            service.name == *wanted || address.as_ref() == Some(wanted)
        });
        if services.is_empty() {
            return Err(super::CommandError::Failed(format!("there is no service {wanted}")));
        }
    }
    Ok(services)
}

fn services(client: &Client, arguments: &ShowArguments) -> Outcome {
    let services = wanted(client, arguments)?;
    if arguments.json {
        return print::json(&services);
    }
    let mut rows = Vec::new();
    for service in &services {
        let state = match (service.up, service.sorry) {
            (true, _) => "up",
            (false, true) => "sorry",
            (false, false) => "down",
        };
        let traffic = &service.traffic;
        rows.push(vec![
            service.name.clone(),
            state.to_owned(),
            place(service),
            format!("{} {}", service.scheduler, service.method),
            String::new(),
            String::new(),
            traffic.connections.to_string(),
            traffic.in_bytes.to_string(),
            traffic.out_bytes.to_string(),
        ]);
        rows.extend(service.reals.iter().map(real_row));
    }
    let headings = [
        "Service",
        "State",
        "Address",
        "Method",
        ">Weight",
        ">Active",
        ">Connections",
        ">Bytes in",
        ">Bytes out",
    ];
    print::table(&headings, &rows)
}

fn place(service: &ServiceView) -> String {
    let protocol = service.protocol.clone().unwrap_or_default();
    match (service.address, service.mark) {
        (Some(address), _) => format!("{protocol} {address}"),
        (None, Some(mark)) => format!("mark {mark}"),
        (None, None) => String::new(),
    }
}

fn real_row(real: &RealView) -> Vec<String> {
    let weight = if real.weight == real.effective_weight {
        real.weight.to_string()
    } else {
        format!("{} ({})", real.effective_weight, real.weight)
    };
    vec![
        "  ->".to_owned(),
        state_name(real.state).to_owned(),
        real.address.to_string(),
        real.method.clone(),
        weight,
        format!("{}+{}", real.active, real.inactive),
        real.traffic.connections.to_string(),
        real.traffic.in_bytes.to_string(),
        real.traffic.out_bytes.to_string(),
    ]
}

const fn state_name(state: RealState) -> &'static str {
    match state {
        RealState::Up => "up",
        RealState::Down => "down",
        RealState::Untested => "untested",
        RealState::Unchecked => "unchecked",
        RealState::Drained => "drained",
        RealState::Sorry => "sorry",
    }
}

fn health(client: &Client, arguments: &ShowArguments) -> Outcome {
    let services = wanted(client, arguments)?;
    if arguments.json {
        return print::json(&services);
    }
    let mut rows = Vec::new();
    for service in &services {
        for real in &service.reals {
            let since = real.drain.as_ref().map(|drain| drain.since).or(real.since);
            let reason = match &real.drain {
                Some(drain) => drain_text(drain, real),
                None => real.reason.clone().unwrap_or_default(),
            };
            rows.push(vec![
                service.name.clone(),
                real.address.to_string(),
                state_name(real.state).to_owned(),
                since.map(print::moment).unwrap_or_default(),
                reason,
            ]);
            let warning = |text: &String| {
                let blank = String::new;
                vec![blank(), blank(), "WARNING".to_owned(), blank(), text.clone()]
            };
            rows.extend(real.suspicions.iter().map(warning));
            rows.extend(real.peer.as_ref().map(|peer| {
                let state = if peer.up { "up" } else { "down" };
                warning(&format!("{state} as the peer sees it: {}", peer.reason))
            }));
        }
    }
    print::table(&["Service", "Real server", "State", "Since", "Reason"], &rows)
}

fn drain_text(drain: &control::view::DrainView, real: &RealView) -> String {
    let mut text = format!("by {}", drain.author);
    if !drain.reason.is_empty() {
        text.push_str(&format!(": {}", drain.reason));
    }
    text.push_str(&format!("; {} connections left", real.active + real.inactive));
    if let Some(deadline) = drain.deadline {
        text.push_str(&format!(", to be ended at {}", print::moment(deadline)));
    }
    if drain.persistent == PersistentClients::Keep {
        text.push_str("; persistent clients stay");
    }
    text
}

fn connections(client: &Client, arguments: &ShowArguments) -> Outcome {
    let limit = arguments.limit.unwrap_or(if arguments.json { usize::MAX } else { CONNECTIONS });
    let mut found: Vec<ConnectionView> = Vec::new();
    let mut cursor = Some(0);
    while let Some(from) = cursor.filter(|_| found.len() < limit) {
        let path = query(&[
            ("service", arguments.service.clone()),
            ("cursor", Some(from.to_string())),
            ("limit", Some(PAGE.min(limit - found.len()).to_string())),
        ]);
        let page: ConnectionsView = client.get(&format!("/v1/connections{path}"))?;
        found.extend(page.connections);
        cursor = page.next;
    }
    if arguments.json {
        return print::json(&found);
    }
    let row = |connection: &ConnectionView| {
        vec![
            connection.protocol.clone(),
            format!("{:02}:{:02}", connection.expires / 60, connection.expires % 60),
            connection.state.clone(),
            connection.client.to_string(),
            connection.vip.to_string(),
            connection.real.to_string(),
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    print::table(&["Protocol", ">Expires", "State", "Client", "VIP", "Real server"], &rows)?;
    if cursor.is_some() {
        print::text(&format!("... more than {limit}; --limit N shows more\n"))?;
    }
    Ok(())
}

fn drops(client: &Client, arguments: &ShowArguments) -> Outcome {
    let drops: Vec<DropView> = client.get("/v1/drops")?;
    if arguments.json {
        return print::json(&drops);
    }
    let happened = drops.iter().filter(|drop| drop.packets > 0);
    let rows: Vec<_> = happened
        .map(|drop| vec![drop.packets.to_string(), drop.reason.clone(), drop.explanation.clone()])
        .collect();
    if rows.is_empty() {
        return print::text("no packets dropped\n");
    }
    print::table(&[">Packets", "Reason", "Meaning"], &rows)
}

fn interfaces(client: &Client, arguments: &ShowArguments) -> Outcome {
    let interfaces: Vec<InterfaceView> = client.get("/v1/interfaces")?;
    if arguments.json {
        return print::json(&interfaces);
    }
    let row = |interface: &InterfaceView| {
        let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
        let reason = interface.unguarded.as_ref().map_or_else(
            || interface.reason.clone().unwrap_or_default(),
            |why| format!("the host also sees the packets: {why}"),
        );
        vec![
            interface.name.clone(),
            interface.status.clone(),
            interface.backend.clone().unwrap_or_default(),
            if interface.carrier { "yes" } else { "no" }.to_owned(),
            interface.mac.clone().unwrap_or_default(),
            interface.mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
            addresses.join(" "),
            reason,
        ]
    };
    let rows: Vec<_> = interfaces.iter().map(row).collect();
    let headings =
        ["Interface", "Status", "Backend", "Carrier", "MAC", ">MTU", "Addresses", "Reason"];
    print::table(&headings, &rows)
}

fn events(client: &Client, arguments: &ShowArguments) -> Outcome {
    let path = query(&[("limit", arguments.limit.map(|limit| limit.to_string()))]);
    let mut view: EventsView = client.get(&format!("/v1/events{path}"))?;
    if let Some(service) = &arguments.service {
        view.events.retain(|event| event.subject == *service);
    }
    if arguments.json {
        return print::json(&view.events);
    }
    let severity = |record: &Record| match record.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "ERROR",
    };
    let row = |record: &Record| {
        vec![
            print::moment(record.time),
            severity(record).to_owned(),
            record.kind.name().to_owned(),
            record.subject.clone(),
            record.text.clone(),
        ]
    };
    let rows: Vec<_> = view.events.iter().map(row).collect();
    print::table(&["Time", "Severity", "Kind", "Subject", "Message"], &rows)
}
