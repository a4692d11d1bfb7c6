//! The task that keeps the picture up to date.

use super::{HostState, dump};
use dataplane::io::receive_queues;
use futures_util::StreamExt;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long further notifications are waited for before the picture is taken again.
const SETTLE: Duration = Duration::from_millis(5);

/// Even without a notification the whole picture is taken again after this.
const REFRESH: Duration = Duration::from_secs(60);

/// How often the numbers of queues are asked for.
const QUEUES: Duration = Duration::from_secs(3);

/// Neighbours that wait for being asked for; further ones are dropped, because the packet path asks
/// again.
const WANTED: usize = 256;

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
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
    neighbours: bool,
}

impl Stale {
    /// Marks everything stale.
    fn all() -> Self {
        let mut stale = Self::default();
        stale.mark_all();
        stale
    }

    fn mark_all(&mut self) {
        (self.links, self.addresses, self.routes, self.neighbours) = (true, true, true, true);
    }
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
        let mut first = HostState::default();
        take(&handle, &Stale::all(), &mut first).await?;
        let (publish, state) = watch::channel(Arc::new(first));
        let (wanted, asked) = mpsc::channel(WANTED);
        let task = tokio::spawn(keep(handle, messages, publish, asked, stop));
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
        take(&handle, &Stale::all(), &mut state).await?;
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
    handle: Handle,
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
            message = messages.next() => mark(&message.ok_or(HostError::Ended)?, &mut stale),
            _ = refresh.tick() => stale = Stale::all(),
            _ = queues.tick() => stale.links = other_queues(&publish.borrow()),
            Some((link, address)) = asked.recv() => ask(&handle, link, address).await,
        }
        if gather(&mut messages, &mut stale).await? {
            let mut next = HostState::clone(&publish.borrow());
            take(&handle, &stale, &mut next).await?;
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

/// Whether an interface has another number of queues than it had, of which the kernel tells nobody.
fn other_queues(state: &HostState) -> bool {
    state.links.values().any(|link| receive_queues(&link.name) != link.queues)
}

/// Waits a moment for what comes along with the first notification. Whether anything is stale.
async fn gather(messages: &mut Messages, stale: &mut Stale) -> Result<bool, HostError> {
    let any = |stale: &Stale| stale.links || stale.addresses || stale.routes || stale.neighbours;
    if !any(stale) {
        return Ok(false);
    }
    let settled = tokio::time::sleep(SETTLE);
    tokio::pin!(settled);
    loop {
        tokio::select! {
            () = &mut settled => return Ok(any(stale)),
            message = messages.next() => mark(&message.ok_or(HostError::Ended)?, stale),
        }
    }
}

fn mark(message: &NetlinkMessage<RouteNetlinkMessage>, stale: &mut Stale) {
    #[allow(clippy::wildcard_enum_match_arm)] // foreign enums; what is not known makes all stale
    match &message.payload {
        NetlinkPayload::InnerMessage(inner) => match inner {
            // A link that comes or goes brings or takes its addresses and routes.
            RouteNetlinkMessage::DelLink(link) => {
                // Bridges tell in this way, too, that one of their ports has left.
                if link.header.interface_family == AddressFamily::Unspec {
                    stale.removed.insert(link.header.index);
                }
                stale.mark_all();
            }
            RouteNetlinkMessage::NewLink(_) => {
                stale.mark_all();
            }
            RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => {
                stale.addresses = true;
                stale.routes = true;
            }
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => {
                stale.routes = true;
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

async fn take(handle: &Handle, stale: &Stale, state: &mut HostState) -> Result<(), HostError> {
    if stale.links {
        state.links = dump::links(handle).await?;
    }
    if stale.addresses {
        state.addresses = dump::addresses(handle).await?;
    }
    if stale.routes {
        state.routes = dump::routes(handle).await?;
    }
    if stale.neighbours {
        state.neighbours = dump::neighbours(handle).await?;
    }
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
