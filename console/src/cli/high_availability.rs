//! `pair`, `join`, `failover`, `sync keep`, `show vrrp`, `show sync`: the two directors.

use super::show::peer_clock;
use super::{Outcome, print};
use crate::args::{ShowArguments, Whose};
use crate::client::Client;
use crate::web::api::{Applied, FailoverWish, Invitation, JoinWish, Joined, KeepWish};
use control::events::Choice;
use control::sync::lineage::Relation;
use control::time::TimeView;
use control::view::{ChangeView, ConfigurationsView, Disagreement, SyncView, VrrpView};

pub(super) fn vrrp(client: &Client, arguments: &ShowArguments) -> Outcome {
    let instances: Vec<VrrpView> = client.get("/v1/vrrp")?;
    if arguments.json {
        return print::json(&instances);
    }
    if instances.is_empty() {
        return print::text("no VRRP instance is configured\n");
    }
    let row = |instance: &VrrpView| {
        let addresses: Vec<String> = instance.addresses.iter().map(ToString::to_string).collect();
        let heard = instance.master.as_ref();
        vec![
            instance.name.clone(),
            instance.state.clone(),
            instance.seconds.to_string(),
            instance.priority.to_string(),
            format!("{} id {} v{}", instance.interface, instance.id, instance.version),
            mac(instance),
            addresses.join(" "),
            heard.map(|m| format!("{} ({})", m.address, m.priority)).unwrap_or_default(),
            why(instance),
        ]
    };
    let rows: Vec<_> = instances.iter().map(row).collect();
    let headings = [
        "Instance",
        "State",
        ">Seconds",
        ">Priority",
        "Interface",
        "MAC",
        "Addresses",
        "Master",
        "Reason",
    ];
    print::table(&headings, &rows)?;
    // Adverts with a time in them, logs and certificates of the two are compared by their clocks.
    let clocks: TimeView = client.get("/v1/time")?;
    match &clocks.peer {
        Some(peer) => print::text(&format!("\npeer's clock: {}\n", peer_clock(peer))),
        None => Ok(()),
    }
}

/// What the master answers with.
fn mac(instance: &VrrpView) -> String {
    let own = if instance.virtual_mac { "" } else { "own " };
    instance.mac.as_ref().map(|mac| format!("{own}{mac}")).unwrap_or_default()
}

fn why(instance: &VrrpView) -> String {
    let mut why = if instance.faults.is_empty() {
        instance.reason.clone().unwrap_or_default()
    } else {
        instance.faults.join(", ")
    };
    if !instance.differences.is_empty() {
        why.push_str(&format!("; the peer differs: {}", instance.differences.join(", ")));
    }
    why
}

pub(super) fn failover(client: &Client, instance: Option<String>) -> Outcome {
    let what = instance.clone().unwrap_or_else(|| "every instance".to_owned());
    let _: Applied = client.post("/v1/failover", &FailoverWish { instance })?;
    print::text(&format!("{what}: mastership handed to the peer\n"))
}

pub(super) fn pair(client: &Client) -> Outcome {
    let invitation: Invitation = client.post("/v1/pair", &())?;
    print::text(&format!("{}\n", invitation.code))
}

pub(super) fn join(client: &Client, code: String) -> Outcome {
    let joined: Joined = client.post("/v1/join", &JoinWish { code })?;
    print::text(&format!("paired with {}\n", joined.key))
}

pub(super) fn keep(client: &Client, whose: Whose) -> Outcome {
    let keep = match whose {
        Whose::Mine => Choice::Mine,
        Whose::Theirs => Choice::Theirs,
    };
    let applied: Applied = client.post("/v1/sync/keep", &KeepWish { keep })?;
    print::text(&match (whose, applied.revision) {
        (Whose::Mine, Some(revision)) => {
            format!("revision {}: the peer applies this configuration\n", revision.number)
        }
        (Whose::Mine, None) => "the peer applies this configuration\n".to_owned(),
        (Whose::Theirs, Some(revision)) => format!("revision {} is active\n", revision.number),
        (Whose::Theirs, None) => "nothing to change\n".to_owned(),
    })
}

/// The configurations, in lines for `show sync`.
fn configuration(view: &ConfigurationsView) -> Vec<(&'static str, String)> {
    let Some(relation) = view.relation else { return Vec::new() };
    let change = |change: &ChangeView| {
        format!(
            "by {} on {}, {}: {}",
            change.author,
            change.node,
            print::moment(change.time),
            change.comment
        )
    };
    let standing = match (relation, &view.declined, &view.declined_by_peer) {
        (Relation::Same, _, _) => "same on both".to_owned(),
        (Relation::Ahead, _, Some(why)) => format!("refused by the peer: {why}"),
        (Relation::Behind, Some(why), _) => format!("the peer's is refused here: {why}"),
        (Relation::Ahead, _, None) => "the peer is applying this one".to_owned(),
        (Relation::Behind, None, _) => "applying the peer's".to_owned(),
        (Relation::Conflict, _, _) => {
            "CONFLICT, both have changed: resolve with `viaduct sync keep mine|theirs`".to_owned()
        }
    };
    let mut lines = vec![("configuration", standing)];
    if relation == Relation::Same {
        lines.extend(view.own.iter().map(|own| ("last change", change(own))));
        return lines;
    }
    lines.extend(view.own.iter().map(|own| ("mine", change(own))));
    lines.extend(view.peer.iter().map(|peer| ("theirs", change(peer))));
    if relation == Relation::Conflict {
        let declined = [&view.declined, &view.declined_by_peer].into_iter().flatten();
        lines.extend(declined.map(|why| ("not sent", why.clone())));
    }
    lines.extend(view.differences.iter().map(|one| ("would change", one.to_string())));
    lines
}

pub(super) fn sync(client: &Client, arguments: &ShowArguments) -> Outcome {
    let sync: SyncView = client.get("/v1/sync")?;
    if arguments.json {
        return print::json(&sync);
    }
    let mut lines = vec![("state", format!("{} for {} s", sync.state, sync.seconds))];
    match sync.state.as_str() {
        "none" => return print::text("no [peer] is configured\n"),
        "not_paired" => lines.push((
            "to do",
            "`viaduct pair` on one director, `viaduct join CODE` on the other".to_owned(),
        )),
        _ => {}
    }
    lines.extend(sync.reason.clone().map(|reason| ("reason", reason)));
    lines.extend(sync.peer.clone().map(|peer| ("peer", peer)));
    lines.extend(sync.address.map(|address| ("address", address.to_string())));
    lines.extend(sync.key.clone().map(|key| ("own key", key)));
    lines.push((
        "lag",
        format!(
            "{} connections, {} ms{}",
            sync.lag_connections,
            sync.lag_milliseconds,
            if sync.snapshot { ", full resync in progress" } else { "" }
        ),
    ));
    let caught_up = match (sync.caught_up, sync.waiting) {
        (true, _) => "yes",
        (false, true) => "no; does not preempt until then",
        (false, false) => "no",
    };
    lines.push(("caught up", caught_up.to_owned()));
    lines.push(("received", format!("{} ({} refused)", sync.adopted, sync.refused)));
    lines.push(("resyncs", sync.resyncs.to_string()));
    if let (Some(offset), Some(round_trip)) = (sync.clock_offset, sync.round_trip) {
        lines.push(("peer's clock", format!("{offset:+.3} ms (round trip {round_trip:.3} ms)")));
    }
    lines.extend(configuration(&sync.configuration));
    lines.extend(sync.configuration.disagreements.iter().map(|one| {
        let (own, other) = if one.up { ("up", "down") } else { ("down", "up") };
        let Disagreement { service, real, reason, peer_reason, .. } = one;
        let text =
            format!("{service} {real} is {own} ({reason}), {other} for the peer ({peer_reason})");
        ("disagreement", text)
    }));
    lines.push(("sent", format!("{} bytes in {} messages", sync.bytes_sent, sync.frames_sent)));
    let text = lines.iter().map(|(what, value)| format!("{what:<15}{value}\n"));
    print::text(&text.collect::<String>())
}
