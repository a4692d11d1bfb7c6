//! Ways by which checks reach a VIP on one real server: what a director does with clients' packets
//! for direct routing, done by the kernel with the probe's packets. Each way is a mark, a rule for it,
//! and a table with one route: the VIP by the real server.

use super::HostState;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Error, Handle, IpVersion, RouteMessageBuilder, new_connection};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Before the main table's rule, and a number to know our own by.
const PRIORITY: u32 = 8600;

/// Marks and tables count up from here; nobody else is likely to use such numbers.
const FIRST: u32 = 0x5644_0000;

/// As the host's other routes of this daemon.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(86);

/// A VIP on one real server.
pub type Way = (IpAddr, IpAddr);

/// The ways that there are.
pub struct ProbeRoutes {
    handle: Option<Handle>,
    /// Mark and interface of each.
    present: BTreeMap<Way, (u32, u32)>,
}

impl ProbeRoutes {
    /// Takes away what an earlier run may have left behind.
    pub async fn open() -> Self {
        let handle = match new_connection() {
            Ok((connection, handle, _)) => {
                tokio::spawn(connection);
                Some(handle)
            }
            Err(error) => {
                tracing::warn!(%error, "checks cannot go through the forwarding path");
                None
            }
        };
        let routes = Self { handle, present: BTreeMap::new() };
        if let Some(handle) = &routes.handle {
            for version in [IpVersion::V4, IpVersion::V6] {
                remove_all(handle, version).await;
            }
        }
        routes
    }

    /// Makes these the ways that there are, and says by which marks they are taken. A real server that
    /// is not on a network of this host has none: direct routing does not reach it either.
    pub async fn follow(&mut self, wanted: &BTreeSet<Way>, host: &HostState) -> BTreeMap<Way, u32> {
        let Some(handle) = &self.handle else { return BTreeMap::new() };
        let gone: Vec<Way> =
            self.present.keys().filter(|way| !wanted.contains(*way)).copied().collect();
        for way in gone {
            if let Some((mark, _)) = self.present.remove(&way) {
                remove(handle, way, mark).await;
            }
        }
        for way in wanted {
            let Some(link) = on_link(host, &way.1) else { continue };
            let known = self.present.get(way).copied();
            if known.is_some_and(|(_, of)| of == link) {
                continue;
            }
            let mark = known.map_or_else(|| free(&self.present), |(mark, _)| mark);
            match add(handle, *way, mark, link, known.is_none()).await {
                Ok(()) => {
                    self.present.insert(*way, (mark, link));
                }
                Err(error) => {
                    let (vip, real) = way;
                    tracing::warn!(%vip, %real, %error, "no way for checks through the VIP");
                }
            }
        }
        self.present.iter().map(|(way, (mark, _))| (*way, *mark)).collect()
    }
}

/// The interface on whose network an address is.
fn on_link(host: &HostState, address: &IpAddr) -> Option<u32> {
    let (hop, _) = host.route_to(address)?;
    hop.via.is_none().then_some(hop.link)
}

fn free(present: &BTreeMap<Way, (u32, u32)>) -> u32 {
    let used: BTreeSet<u32> = present.values().map(|(mark, _)| *mark).collect();
    (FIRST..).find(|mark| !used.contains(mark)).unwrap_or(FIRST)
}

async fn add(
    handle: &Handle,
    (vip, real): Way,
    mark: u32,
    link: u32,
    new: bool,
) -> Result<(), Error> {
    handle.route().add(route(vip, real, mark, link)).replace().execute().await?;
    if !new {
        return Ok(());
    }
    let rule = handle.rule().add().fw_mark(mark).table_id(mark).priority(PRIORITY);
    let rule = rule.action(RuleAction::ToTable);
    match vip {
        IpAddr::V4(_) => rule.v4().execute().await,
        IpAddr::V6(_) => rule.v6().execute().await,
    }
}

fn route(vip: IpAddr, real: IpAddr, table: u32, link: u32) -> RouteMessage {
    let length = if vip.is_ipv4() { 32 } else { 128 };
    let route = RouteMessageBuilder::<IpAddr>::new();
    let route = route.table_id(table).output_interface(link).protocol(PROTOCOL).onlink();
    // Addresses of one family, checked by the document, always fit together.
    match route.destination_prefix(vip, length).and_then(|route| route.gateway(real)) {
        Ok(route) => route.build(),
        Err(_) => RouteMessage::default(),
    }
}

async fn remove(handle: &Handle, (vip, _): Way, mark: u32) {
    let version = if vip.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
    remove_rules(handle, version, |rule| table_of(rule) == Some(mark)).await;
}

async fn remove_all(handle: &Handle, version: IpVersion) {
    remove_rules(handle, version, |_| true).await;
}

/// A table without a rule is looked at by nobody, so its route may stay; the next use replaces it.
async fn remove_rules(handle: &Handle, version: IpVersion, chosen: impl Fn(&RuleMessage) -> bool) {
    let found: Result<Vec<RuleMessage>, Error> =
        handle.rule().get(version).execute().try_collect().await;
    let ours = |rule: &RuleMessage| {
        rule.attributes.iter().any(|one| matches!(one, RuleAttribute::Priority(PRIORITY)))
    };
    for rule in found.unwrap_or_default().into_iter().filter(|rule| ours(rule) && chosen(rule)) {
        // One that somebody else removed is gone as well.
        let _ = handle.rule().del(rule).execute().await;
    }
}

fn table_of(rule: &RuleMessage) -> Option<u32> {
    rule.attributes
        .iter()
        .find_map(|one| if let RuleAttribute::Table(table) = one { Some(*table) } else { None })
}
