//! A real server seems to be set up wrongly: it answers for a VIP, or its clients get no answers.

use super::{Kind, Senses, Severity};
use crate::compile::RealKey;
use crate::state::{Action, Claim, Flaw, State};
use dataplane::packet_path::sources::MOST_SOURCES;
use dataplane::table::Mac;
use std::net::IpAddr;
use std::time::Duration;

/// Evidence that a host is set up wrongly.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each variant describes its fields
pub enum SetupEvent {
    /// A real server's traffic shows `flaw`; `text` is `None` when it is right again.
    Suspected { real: RealKey, flaw: Flaw, text: Option<String> },
    /// Another host answers for an address that this node owns.
    AddressClaimed { address: IpAddr, mac: Mac },
    /// So many addresses that full NAT could send from have no place in the packet path's book; 0: all
    /// have again.
    SourcesMissing { many: usize },
}

pub(super) fn decide(
    state: &mut State,
    event: SetupEvent,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    match event {
        SetupEvent::Suspected { real, flaw, text } => {
            suspected(state, real, flaw, text, senses, out);
        }
        SetupEvent::AddressClaimed { address, mac } => claimed(state, (address, mac), senses, out),
        SetupEvent::SourcesMissing { many } => sources_missing(state, many, senses, out),
    }
}

/// A claim has to last this long: a director that has just become master may hear the last word of
/// the old one.
const CONFIRM: Duration = Duration::from_secs(5);

/// Claims that are remembered at most; further ones are heard when others have ended.
const CLAIMS: usize = 4096;

/// Traffic says that a setup is wrong, or right again.
fn suspected(
    state: &mut State,
    real: RealKey,
    flaw: Flaw,
    text: Option<String>,
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    let running = &state.running;
    let known = running.service_at(&real.0).is_some_and(|service| service.real(&real.1).is_some());
    // That a server which is down does not answer is no news.
    let is_down = state.health.get(&real).is_some_and(|health| !health.up);
    let flaws = state.suspects.entry(real).or_default();
    let (severity, text) = match text {
        Some(text) if known && !is_down => {
            let before = flaws.insert(flaw, text.clone());
            if before.is_some() {
                return;
            }
            (Severity::Warning, format!("{}: {text}", real.1))
        }
        Some(_) => return,
        None if flaws.remove(&flaw).is_some() && known => {
            (Severity::Info, format!("{} answers its clients again", real.1))
        }
        None => return,
    };
    state.record_of(senses.now, (severity, Kind::Setup), &real, text, out);
}

/// Somebody on the network answers for an address that this director owns.
fn claimed(
    state: &mut State,
    (address, mac): (IpAddr, Mac),
    senses: &Senses<'_>,
    out: &mut Vec<Action>,
) {
    let now = senses.now.steady;
    if state.generation.table.owned(&address).is_none() {
        // Heard by the packet path before it learnt that another director is master now.
        return;
    }
    if state.claims.len() >= CLAIMS && !state.claims.contains_key(&(address, mac)) {
        return;
    }
    let new = Claim { first: now, last: now, told: false };
    let claim = state.claims.entry((address, mac)).or_insert(new);
    claim.last = now;
    if claim.told || now < claim.first + CONFIRM {
        return;
    }
    claim.told = true;
    let hosts = addresses_of(state, mac);
    let reals = reals_of(state, address, &hosts);
    let who = written(mac);
    for real in &reals {
        let text = format!(
            "answers ARP for the VIP {address} with {who} and takes its clients away (viaduct \
             real-server check --method dr --vip {address} says what to repair)"
        );
        state.suspects.entry(*real).or_default().insert(Flaw::AnswersForVip, text.clone());
        let text = format!("{} {text}", real.1.ip());
        state.record_of(senses.now, (Severity::Warning, Kind::Setup), real, text, out);
    }
    if reals.is_empty() {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let host = if hosts.is_empty() { "a host".to_owned() } else { hosts.join(", ") };
        let text = format!(
            "{host} ({who}) answers for the VIP {address}, which this director owns, and takes its \
             clients away"
        );
        state.record(senses.now, (Severity::Warning, Kind::Setup), "", text, out);
    }
}

/// An address that is another director's now may be answered for by it, and by whom it was heard before
/// says nothing when the address comes back. What people were told of is ended in its time.
pub(super) fn forget_others(state: &mut State) {
    let table = &state.generation.table;
    state.claims.retain(|(address, _), claim| claim.told || table.owned(address).is_some());
}

/// The book of full-NAT source addresses is full, or has room again.
fn sources_missing(state: &mut State, many: usize, senses: &Senses<'_>, out: &mut Vec<Action>) {
    let (severity, text) = match many {
        0 => (Severity::Info, "every full-NAT source address can be used again".to_owned()),
        _ => {
            let text = format!(
                "full NAT can send from {MOST_SOURCES} addresses; {many} more of the interfaces or of \
                 source pools are left out, and connections that need one are dropped \
                 (no_source_address)"
            );
            (Severity::Warning, text)
        }
    };
    state.record(senses.now, (severity, Kind::Setup), "", text, out);
}

/// Claims that are not heard any more have ended.
pub(super) fn expire(state: &mut State, senses: &Senses<'_>, out: &mut Vec<Action>) {
    let now = senses.now.steady;
    let owned = state.generation.table.owned_addresses().count();
    let silence = 3 * crate::state::asking_round(owned) + CONFIRM;
    let over = |claim: &Claim| now >= claim.last + silence;
    let ended: Vec<_> =
        state.claims.iter().filter(|(_, claim)| over(claim)).map(|(key, _)| *key).collect();
    for (address, mac) in ended {
        let Some(claim) = state.claims.remove(&(address, mac)) else { continue };
        let of_address = |real: &RealKey| real.0.ip() == Some(address);
        let hosts = addresses_of(state, mac);
        for (real, flaws) in &mut state.suspects {
            if of_address(real) && hosts.contains(&real.1.ip()) {
                flaws.remove(&Flaw::AnswersForVip);
            }
        }
        if claim.told {
            let text = format!("{} answers for the VIP {address} no longer", written(mac));
            state.record(senses.now, (Severity::Info, Kind::Setup), "", text, out);
        }
    }
    state.suspects.retain(|_, flaws| !flaws.is_empty());
}

/// The addresses that an Ethernet address is known by.
fn addresses_of(state: &State, mac: Mac) -> Vec<IpAddr> {
    let kernel = state.host.neighbours.iter().filter(|(_, neighbour)| neighbour.mac == mac);
    let heard = state.heard.iter().filter(|(_, of)| **of == mac);
    let mut addresses: Vec<IpAddr> = kernel
        .map(|((_, address), _)| *address)
        .chain(heard.map(|((_, address), _)| *address))
        .filter(|address| !is_link_local(address))
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

const fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The real servers of a VIP's services that have one of these addresses; of any service, if none.
fn reals_of(state: &State, vip: IpAddr, hosts: &[IpAddr]) -> Vec<RealKey> {
    let services = state.running.services.iter();
    let all = services
        .flat_map(|service| service.reals.iter().map(|real| (service.address, real.address)));
    let named: Vec<RealKey> = all.filter(|real| hosts.contains(&real.1.ip())).collect();
    let of_vip: Vec<RealKey> =
        named.iter().filter(|real| real.0.ip() == Some(vip)).copied().collect();
    if of_vip.is_empty() { named } else { of_vip }
}

fn written(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
