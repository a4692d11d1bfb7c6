use super::*;
use crate::sync::connection::{Connection, Key, Traits, Via};
use crate::sync::lineage::ChangeId;
use crate::sync::message::{Verdict, Verdicts, Want};
use crate::sync::pairing::ATTEMPTS;
use crate::sync::replica::Page;
use crate::sync::status::LinkState;
use dataplane::tick::Ticks;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A fresh loopback address, so that tests that run at once do not meet.
fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = (std::process::id() % 200) as u8 + 20;
    SocketAddr::from((Ipv4Addr::new(127, process, next[0], next[1]), 9850))
}

fn connection(number: u32, state: u8) -> Connection {
    let endpoint = |a, port| SocketAddr::from((Ipv4Addr::new(192, 0, 2, a), port));
    Connection {
        key: Key {
            protocol: 6,
            template: false,
            client: SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 1000)),
            vip: endpoint(10, 80),
        },
        real: endpoint(20, 80),
        via: Via::Nat,
        state,
        traits: Traits::default(),
        timeout: Ticks::from_secs(900),
        remaining: Ticks::from_secs(900),
        mark: 0,
        local: None,
        shifts: None,
    }
}

/// Own connections by number, and what the peer told.
#[derive(Default, Debug)]
struct Tables {
    own: BTreeMap<u32, Connection>,
    learnt: BTreeMap<Key, Connection>,
    stale: Option<BTreeMap<Key, Connection>>,
}

#[derive(Clone, Default, Debug)]
struct Table(Arc<Mutex<Tables>>);

impl Source for Table {
    fn page(&mut self, cursor: u64, limit: usize) -> Page {
        let tables = self.0.lock().unwrap();
        let rows = tables.own.range(cursor as u32..).take(limit);
        let next = rows.clone().last().map(|(number, _)| u64::from(*number) + 1);
        let connections: Vec<_> = rows.map(|(_, connection)| *connection).collect();
        let whole = connections.len() < limit;
        Page { connections, next: next.filter(|_| !whole) }
    }
}

impl Sink for Table {
    fn begin(&mut self) {
        let mut tables = self.0.lock().unwrap();
        tables.stale = Some(tables.learnt.clone());
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let mut tables = self.0.lock().unwrap();
        for change in changes {
            if let Some(stale) = &mut tables.stale {
                stale.remove(change.key());
            }
            match change {
                Change::Update(new) => drop(tables.learnt.insert(new.key, new)),
                Change::Close(key) => drop(tables.learnt.remove(&key)),
            }
        }
    }

    fn end(&mut self) {
        let mut tables = self.0.lock().unwrap();
        let stale = tables.stale.take().unwrap_or_default();
        tables.learnt.retain(|key, _| !stale.contains_key(key));
    }
}

impl Table {
    fn set(&self, number: u32, state: Option<u8>) -> Change {
        let mut tables = self.0.lock().unwrap();
        match state {
            Some(state) => {
                tables.own.insert(number, connection(number, state));
                Change::Update(connection(number, state))
            }
            None => {
                tables.own.remove(&number);
                Change::Close(connection(number, 0).key)
            }
        }
    }

    fn is_copied_to(&self, other: &Table) -> bool {
        let own: Vec<Connection> = self.0.lock().unwrap().own.values().copied().collect();
        other.0.lock().unwrap().learnt.values().eq(own.iter())
    }
}

struct Node {
    handle: SyncHandle,
    events: Receiver<SyncEvent>,
    table: Table,
    _folder: Arc<TempDir>,
}

impl Node {
    async fn start(settings: Settings, folder: &Arc<TempDir>) -> Self {
        let (told, events) = channel(256);
        let table = Table::default();
        let handle = spawn(settings, table.clone(), told).await.unwrap();
        Self { handle, events, table, _folder: Arc::clone(folder) }
    }

    /// The first event that fits; those before it are passed over.
    async fn event<T>(&mut self, what: &str, fits: impl Fn(&SyncEvent) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Some(found) = fits(&event) {
                    return found;
                }
                seen.push(event);
            }
        };
        match timeout(LIMIT, wait).await {
            Ok(found) => found,
            Err(_) => panic!("waited for {what}; {:?}; saw {seen:?}", self.handle.status()),
        }
    }

    async fn caught_up(&mut self) {
        self.event("catching up", |e| matches!(e, SyncEvent::CaughtUp).then_some(())).await;
    }

    async fn down(&mut self) -> String {
        self.event("the link to be down", |event| match event {
            SyncEvent::Down { reason } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    fn change(&self, number: u32, state: Option<u8>) {
        self.handle.record(vec![self.table.set(number, state)]);
    }
}

fn folder() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn settings(listen: SocketAddr, peer: SocketAddr, node: &str, folder: &TempDir) -> Settings {
    Settings {
        ping: Duration::from_millis(50),
        ..Settings::new(listen, peer, node, folder.path().into())
    }
}

/// Two nodes, not yet paired, that reach each other at `via` (a proxy, or the other's own address).
async fn two(via: Option<[SocketAddr; 2]>) -> (Node, Node) {
    let (one, two) = (address(), address());
    let [to_one, to_two] = via.unwrap_or([one, two]);
    let (first, second) = (folder(), folder());
    let one = Node::start(settings(one, to_two, "one", &first), &first).await;
    let two = Node::start(settings(two, to_one, "two", &second), &second).await;
    (one, two)
}

async fn paired() -> (Node, Node) {
    let (mut one, mut two) = two(None).await;
    let code = one.handle.pair().unwrap();
    let peer = two.handle.join(&code).await.unwrap();
    assert_eq!(peer, one.handle.fingerprint());
    one.caught_up().await;
    two.caught_up().await;
    (one, two)
}

async fn until(what: &str, mut fits: impl FnMut() -> bool) {
    let wait = async {
        while !fits() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(LIMIT, wait).await.is_ok(), "waited for {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paired_nodes_tell_each_other_everything_in_both_directions() {
    let (mut one, two) = paired().await;
    for number in 0..3000 {
        one.change(number, Some(1));
        two.change(100_000 + number, Some(1));
        if number % 3 == 0 {
            one.change(number, None);
            two.change(100_000 + number, Some(4));
        }
    }
    until("both copies", || {
        one.table.is_copied_to(&two.table) && two.table.is_copied_to(&one.table)
    })
    .await;
    until("no lag", || one.handle.status().lag.connections == 0).await;
    until("the clocks", || one.handle.status().clock.is_some()).await;
    let status = one.handle.status();
    assert!(matches!(&status.state, LinkState::Up { node, .. } if node == "two"), "{status:?}");
    let clock = status.clock.unwrap();
    assert!(clock.offset.abs() <= clock.round_trip.abs(), "one clock, two nodes: {clock:?}");
    let said = Control::Want(Want { id: ChangeId::NOTHING });
    assert!(two.handle.say(said.clone()));
    one.event("a control message", |e| (*e == SyncEvent::Heard(said.clone())).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_code_is_told_on_both_nodes_and_three_are_enough() {
    let (mut one, two) = two(None).await;
    let code = one.handle.pair().unwrap();
    for _ in 0..ATTEMPTS {
        let wrong = Code::from_bits(1);
        assert_ne!(wrong, code);
        let error = two.handle.join(&wrong).await.unwrap_err();
        assert!(error.to_string().contains("the code is wrong"), "{error}");
        let reason = one
            .event("the failed pairing", |event| match event {
                SyncEvent::PairingFailed { reason, .. } => Some(reason.clone()),
                _ => None,
            })
            .await;
        assert!(reason.contains("wrong code"), "{reason}");
    }
    let error = two.handle.join(&code).await.unwrap_err();
    assert!(error.to_string().contains("viaduct pair"), "{error}");
    assert_eq!(one.handle.status().state, LinkState::NotPaired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_key_is_refused_with_a_reason_on_both_nodes() {
    // Once with the reinstalled node dialling, once with it waiting.
    for dials in [true, false] {
        let (one, two) = paired().await;
        let (trusted, listen) = (one.handle.fingerprint(), two.handle.address());
        let peer = one.handle.address();
        drop(two);
        let fresh = loop {
            let fresh = folder();
            let trust = Trust::open(fresh.path().into()).unwrap();
            if (trust.identity().fingerprint() < trusted) == dials {
                trust.set_peer(trusted).unwrap();
                break fresh;
            }
        };
        let mut two = Node::start(settings(listen, peer, "two", &fresh), &fresh).await;
        let mut one = one;
        let mine = loop {
            let reason = one.down().await;
            if reason.contains("paired with") {
                break reason;
            }
        };
        assert!(mine.contains("the peer shows key"), "{mine}");
        let theirs = two.down().await;
        assert!(theirs.contains("the peer refuses this node's key"), "dials {dials}: {theirs}");
        assert!(one.table.0.lock().unwrap().learnt.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_change_nothing() {
    let (one, two) = paired().await;
    let links = one.handle.status().links;
    let mut seed = 1u64;
    let mut idle = Vec::new();
    for round in 0..60 {
        let mut stream = TcpStream::connect(one.handle.address()).await.unwrap();
        let mut bytes = [0; 600];
        for byte in &mut bytes {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (seed >> 56) as u8;
        }
        match round % 4 {
            0 => bytes[0] = 0x16,
            1 => bytes[..8].copy_from_slice(&crate::sync::pairing::MAGIC),
            2 if idle.len() < 3 => {
                idle.push(stream);
                continue;
            }
            _ => {}
        }
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
    }
    one.change(1, Some(1));
    until("the copy", || one.table.is_copied_to(&two.table)).await;
    let status = one.handle.status();
    assert!(matches!(status.state, LinkState::Up { .. }) && status.links == links, "{status:?}");
}

/// Forwards TCP between the nodes, and can stop forwarding or cut what it forwards.
struct Proxy {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    cut: tokio::sync::watch::Sender<u32>,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        let address = address();
        let listener = TcpListener::bind(address).await.unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let (cut, cutting) = tokio::sync::watch::channel(0);
        let gate = Arc::clone(&stopped);
        tokio::spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                let (gate, mut cutting) = (Arc::clone(&gate), cutting.clone());
                tokio::spawn(async move {
                    let Ok(outer) = TcpStream::connect(to).await else { return };
                    let (mut a, mut b) = (inner.into_split(), outer.into_split());
                    cutting.mark_unchanged();
                    tokio::select! {
                        () = pump(&mut a.0, &mut b.1, &gate) => {}
                        () = pump(&mut b.0, &mut a.1, &gate) => {}
                        _ = cutting.changed() => {}
                    }
                });
            }
        });
        Self { address, stopped, cut }
    }
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    stopped: &AtomicBool,
) {
    let mut buffer = [0; 4096];
    loop {
        while stopped.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(len) => {
                if to.write_all(&buffer[..len]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_cuts_and_pauses_everything_is_told_anew() {
    let (first, second) = (address(), address());
    let (to_first, to_second) = (Proxy::start(first).await, Proxy::start(second).await);
    let (one_folder, two_folder) = (folder(), folder());
    let own = settings(first, to_second.address, "one", &one_folder);
    let mut one = Node::start(own, &one_folder).await;
    let own = settings(second, to_first.address, "two", &two_folder);
    let mut two = Node::start(own, &two_folder).await;
    let code = one.handle.pair().unwrap();
    two.handle.join(&code).await.unwrap();
    one.caught_up().await;
    two.caught_up().await;
    let mut number = 0;
    for round in 0..6 {
        for _ in 0..500 {
            one.change(number, Some(1));
            number += 1;
        }
        for proxy in [&to_first, &to_second] {
            if round % 2 == 0 {
                proxy.cut.send_modify(|cuts| *cuts += 1);
            } else {
                proxy.stopped.store(true, Ordering::Relaxed);
            }
        }
        let mut reason = two.down().await;
        // Both may have dialled after the last cut: then one link replaced the other since.
        while round % 2 == 1 && reason.contains("connected anew") {
            reason = two.down().await;
        }
        if round % 2 == 1 {
            assert!(reason.contains("silent"), "{reason}");
        }
        // Changes while nobody listens: new ones, and some that end.
        (0..50).for_each(|back| one.change(number - 50 - back, None));
        for _ in 0..100 {
            one.change(number, Some(1));
            number += 1;
        }
        for proxy in [&to_first, &to_second] {
            proxy.stopped.store(false, Ordering::Relaxed);
        }
        two.caught_up().await;
        until("the copy", || one.table.is_copied_to(&two.table)).await;
    }
    assert!(two.handle.status().links >= 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_changes_than_fit_end_in_a_snapshot_and_not_in_a_wrong_copy() {
    let (one, two) = paired().await;
    for number in 0..50_000 {
        one.change(number % 7000, (number % 5 > 0).then_some((number % 11) as u8));
    }
    until("the copy", || one.table.is_copied_to(&two.table)).await;
    let status = one.handle.status();
    assert!(matches!(status.state, LinkState::Up { .. }), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_comes_back_and_learns_everything() {
    let (mut one, two) = paired().await;
    (0..2000).for_each(|number| one.change(number, Some(1)));
    let (listen, peer) = (two.handle.address(), one.handle.address());
    let kept = Arc::clone(&two._folder);
    let fingerprint = two.handle.fingerprint();
    drop(two);
    let reason = one.down().await;
    let known = ["this node is stopping", "end", "cannot be written"];
    assert!(known.iter().any(|known| reason.contains(known)), "{reason}");
    let mut two = Node::start(settings(listen, peer, "two", &kept), &kept).await;
    assert_eq!(two.handle.fingerprint(), fingerprint);
    two.caught_up().await;
    until("the copy", || one.table.is_copied_to(&two.table)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_is_told_in_a_moment() {
    let (one, two) = paired().await;
    let links = two.handle.status().links;
    {
        let mut tables = one.table.0.lock().unwrap();
        for number in 0..100_000 {
            tables.own.insert(number, connection(number, 1));
        }
    }
    // As if the peer had asked: whole batches were lost.
    one.handle.shared.note_overflow();
    let began = clock();
    until("the copy", || one.table.is_copied_to(&two.table)).await;
    let bytes = two.handle.traffic().record_bytes_received.load(Ordering::Relaxed);
    println!("100,000 connections in {:?}, {} bytes each", began.elapsed(), bytes / 100_000);
    assert!(bytes / 100_000 < 64);
    assert_eq!(two.handle.status().links, links);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_messages_arrive_whole_and_in_order() {
    let (mut one, two) = paired().await;
    let verdict = |number: usize| Verdict {
        service: format!("web{number}"),
        real: SocketAddr::from(([10, 0, 0, 11], 80)),
        up: number.is_multiple_of(2),
        reason: "x".repeat(number * 100),
    };
    let said = |number| Verdicts { whole: false, verdicts: vec![verdict(number)] };
    for number in 0..100 {
        assert!(two.handle.say(Control::Verdicts(said(number))));
    }
    for number in 0..100 {
        let verdicts = one
            .event("verdicts", |event| match event {
                SyncEvent::Heard(Control::Verdicts(verdicts)) => Some(verdicts.clone()),
                _ => None,
            })
            .await;
        assert_eq!(verdicts, said(number));
    }
}
