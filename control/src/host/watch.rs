//! The task that keeps the picture up to date.

use super::{HostState, Link, Tables, dump, route_messages};
use dataplane::io::receive_queues;
use futures_util::StreamExt;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long further notifications are waited for before the picture is taken again.
const SETTLE: Duration = Duration::from_millis(5);

/// Even without a notification the whole picture is taken again after this.
const REFRESH: Duration = Duration::from_secs(60);

/// Asking for all routes takes at most this part of the time.
const SHARE: u32 = 50;

/// How often the numbers of queues are asked for.
const QUEUES: Duration = Duration::from_secs(3);

/// Neighbours that wait for being asked for; further ones are dropped, because the packet path asks
/// again.
const WANTED: usize = 256;

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Why the host cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No netlink socket.
    #[error("cannot open netlink: {0}")]
    Open(#[from] std::io::Error),
    /// The kernel refused to answer.
    #[error("netlink: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// The connection ended.
    #[error("the netlink connection ended")]
    Ended,
}

/// What has to be asked for anew.
#[derive(Clone, Default)]
struct Stale {
    links: bool,
    /// Indices of interfaces that were removed; they may be in use again.
    removed: BTreeSet<u32>,
    addresses: bool,
    routes: bool,
    rules: bool,
    neighbours: bool,
    /// Single routes came or went, and are in the tables already.
    told: bool,
}

impl Stale {
    /// Marks everything stale.
    fn all() -> Self {
        let mut stale = Self::default();
        stale.mark_all();
        stale
    }

    fn mark_all(&mut self) {
        (self.links, self.addresses, self.neighbours) = (true, true, true);
        (self.routes, self.rules) = (true, true);
    }

    const fn any(&self) -> bool {
        let Self { links, addresses, routes, rules, neighbours, told, .. } = self;
        *links || *addresses || *routes || *rules || *neighbours || *told
    }
}

/// What the picture is made from, and what it cost.
#[derive(Default)]
struct Source {
    tables: Tables,
    /// When all routes may be asked for again without need.
    routes_due: Option<Instant>,
}

/// A picture of the host that stays up to date.
#[derive(Clone, Debug)]
pub struct Watch {
    state: watch::Receiver<Arc<HostState>>,
    wanted: mpsc::Sender<(u32, IpAddr)>,
}

impl Watch {
    /// Takes the first picture and starts the task that keeps it up to date until `stop`. The task's
    /// handle yields the error if it ends before that.
    ///
    /// # Errors
    /// When the kernel refuses netlink.
    pub async fn start(
        stop: CancellationToken,
    ) -> Result<(Self, tokio::task::JoinHandle<Result<(), HostError>>), HostError> {
        let (connection, handle, messages) = new_multicast_connection(&GROUPS)?;
        tokio::spawn(connection);
        let (mut first, mut source) = (HostState::default(), Source::default());
        take(&handle, &Stale::all(), &mut first, &mut source).await?;
        let (publish, state) = watch::channel(Arc::new(first));
        let (wanted, asked) = mpsc::channel(WANTED);
        let task = tokio::spawn(keep((handle, source), messages, publish, asked, stop));
        Ok((Self { state, wanted }, task))
    }

    /// One picture, without keeping it up to date.
    ///
    /// # Errors
    /// When the kernel refuses netlink.
    pub async fn once() -> Result<HostState, HostError> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let mut state = HostState::default();
        take(&handle, &Stale::all(), &mut state, &mut Source::default()).await?;
        Ok(state)
    }

    /// The picture as it is now.
    pub fn state(&self) -> Arc<HostState> {
        Arc::clone(&self.state.borrow())
    }

    /// Waits until the picture has changed, and returns it.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn changed(&mut self) -> Result<Arc<HostState>, HostError> {
        self.state.changed().await.map_err(|_| HostError::Ended)?;
        Ok(Arc::clone(&self.state.borrow_and_update()))
    }

    /// Makes the kernel find out a neighbour's Ethernet address, or confirm the one that it has.
    /// Never waits; what does not fit is asked for again by the next packet.
    pub fn resolve(&self, link: u32, address: IpAddr) {
        let _ = self.wanted.try_send((link, address));
    }
}

type Messages = futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

async fn keep(
    (handle, mut source): (Handle, Source),
    messages: impl futures_util::Stream<
        Item = (NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr),
    > + Send
    + 'static,
    publish: watch::Sender<Arc<HostState>>,
    mut asked: mpsc::Receiver<(u32, IpAddr)>,
    stop: CancellationToken,
) -> Result<(), HostError> {
    let mut messages: Messages = messages.map(|(message, _)| message).boxed();
    let mut refresh = tokio::time::interval(REFRESH);
    refresh.tick().await;
    let mut queues = tokio::time::interval(QUEUES);
    let mut generation = 0;
    loop {
        let mut stale = Stale::default();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            message = messages.next() => {
                mark(&message.ok_or(HostError::Ended)?, &mut stale, &publish.borrow().links, &mut source.tables);
            }
            _ = refresh.tick() => stale = source.refreshed(),
            _ = queues.tick() => stale.links = changed_unsaid(&publish.borrow()),
            Some((link, address)) = asked.recv() => ask(&handle, link, address).await,
        }
        let links = publish.borrow().links.clone();
        if gather(&mut messages, &mut stale, &links, &mut source.tables).await? {
            let mut next = HostState::clone(&publish.borrow());
            take(&handle, &stale, &mut next, &mut source).await?;
            number(&mut next, &publish.borrow(), &stale.removed, &mut generation);
            publish.send_if_modified(|state| {
                let differs = **state != next;
                if differs {
                    *state = Arc::new(next);
                }
                differs
            });
        }
    }
}

/// Whether an interface has another number of queues than it had, or other settings, of which the
/// kernel tells nobody.
fn changed_unsaid(state: &HostState) -> bool {
    state.links.values().any(|link| {
        let carrier = link.carrier
            || link.ignored_without_carrier == dump::ignored_without_carrier(&link.name);
        receive_queues(&link.name) != link.queues || !carrier
    })
}

impl Source {
    /// What is asked for though nothing was told. A large table is asked for less often: the more the
    /// longer it takes.
    fn refreshed(&self) -> Stale {
        let routes = self.routes_due.is_none_or(|due| due <= Instant::now());
        Stale { routes, ..Stale::all() }
    }
}

/// Waits a moment for what comes along with the first notification. Whether anything is stale.
async fn gather(
    messages: &mut Messages,
    stale: &mut Stale,
    links: &BTreeMap<u32, Link>,
    tables: &mut Tables,
) -> Result<bool, HostError> {
    if !stale.any() {
        return Ok(false);
    }
    let settled = tokio::time::sleep(SETTLE);
    tokio::pin!(settled);
    loop {
        tokio::select! {
            () = &mut settled => return Ok(stale.any()),
            message = messages.next() => mark(&message.ok_or(HostError::Ended)?, stale, links, tables),
        }
    }
}

fn mark(
    message: &NetlinkMessage<RouteNetlinkMessage>,
    stale: &mut Stale,
    links: &BTreeMap<u32, Link>,
    tables: &mut Tables,
) {
    #[allow(clippy::wildcard_enum_match_arm)] // foreign enums; what is not known makes all stale
    match &message.payload {
        NetlinkPayload::InnerMessage(inner) => match inner {
            // A link that goes takes its addresses and routes with it.
            RouteNetlinkMessage::DelLink(link) => {
                // Bridges tell in this way, too, that one of their ports has left.
                if link.header.interface_family == AddressFamily::Unspec {
                    stale.removed.insert(link.header.index);
                }
                stale.mark_all();
            }
            // The kernel does not say which routes go when a link is switched off, nor which of
            // IPv4 an address takes with it.
            RouteNetlinkMessage::NewLink(link) => {
                let known = links.get(&link.header.index);
                let up = link.header.flags.contains(LinkFlags::Up);
                stale.links = true;
                if known.is_none_or(|known| known.up != up) {
                    stale.mark_all();
                }
            }
            RouteNetlinkMessage::NewAddress(_) => stale.addresses = true,
            RouteNetlinkMessage::DelAddress(_) => {
                stale.addresses = true;
                stale.routes = true;
            }
            RouteNetlinkMessage::NewRoute(route) => {
                route_messages::added(route, message.header.flags, tables);
                stale.told = true;
            }
            RouteNetlinkMessage::DelRoute(route) => {
                route_messages::removed(route, tables);
                stale.told = true;
            }
            RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => {
                stale.rules = true;
            }
            RouteNetlinkMessage::NewNeighbour(_) | RouteNetlinkMessage::DelNeighbour(_) => {
                stale.neighbours = true;
            }
            _ => {}
        },
        // The socket overflowed (ENOBUFS): anything may have been missed.
        _ => stale.mark_all(),
    }
}

/// Gives every interface that was not there before the next generation. Others keep theirs.
fn number(next: &mut HostState, before: &HostState, removed: &BTreeSet<u32>, last: &mut u64) {
    for (index, link) in &mut next.links {
        let same = before.links.get(index).filter(|_| !removed.contains(index));
        link.generation = same.map_or_else(
            || {
                *last += 1;
                *last
            },
            |same| same.generation,
        );
    }
}

async fn take(
    handle: &Handle,
    stale: &Stale,
    state: &mut HostState,
    source: &mut Source,
) -> Result<(), HostError> {
    if stale.links {
        state.links = dump::links(handle).await?;
    }
    if stale.addresses {
        state.addresses = dump::addresses(handle).await?;
    }
    if stale.routes {
        let start = Instant::now();
        route_messages::routes(handle, &mut source.tables).await?;
        source.routes_due = Some(Instant::now() + start.elapsed() * SHARE);
    }
    if stale.rules {
        route_messages::rules(handle, &mut source.tables).await?;
    }
    if stale.neighbours {
        state.neighbours = dump::neighbours(handle).await?;
    }
    if stale.links || stale.addresses {
        source.tables.follow(&state.links, &state.addresses);
    }
    state.routing = source.tables.snapshot(&state.links);
    state.led = source.tables.led();
    Ok(())
}

/// As `ip neigh ... use`: the kernel asks, as if it had a packet of its own to send.
async fn ask(handle: &Handle, link: u32, address: IpAddr) {
    let request = handle
        .neighbours()
        .add(link, address)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use)
        .replace();
    if let Err(error) = request.execute().await {
        tracing::debug!(link, %address, %error, "the kernel does not ask for a neighbour");
    }
}

#[cfg(test)]
mod tests;
