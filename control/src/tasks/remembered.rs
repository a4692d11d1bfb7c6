//! What a director knows from its last run: the store opened, and the state made of it.

use super::given_file;
use crate::compile::RealKey;
use crate::events::real_key_of;
use crate::model::Document;
use crate::record::Record;
use crate::state::{LINEAGE_MARK, Order, Sharing, State, Trial};
use crate::store::{Found, Standing, Store, StoreError, Tree};
use crate::tasks::GivenFile;
use dataplane::packet_path::Capacity;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Records read back at start, for `show events`.
const RECENT: usize = 2000;

/// Opens the store and commits the configuration file, if it is a new one. With what there is to say of
/// that.
pub(crate) fn open_store(
    path: &Path,
    file: Option<GivenFile>,
    now: Duration,
) -> Result<(Store, Found, Option<String>), StoreError> {
    let now = now.as_secs();
    let (mut store, mut found) = Store::open(path, now)?;
    let said = match file {
        Some(file) => given_file::commit_at_start(&mut store, &mut found, file, now)?,
        None => None,
    };
    Ok((store, found, said))
}

/// What the document says about sizes, over what the caller asks for.
pub(crate) fn sized(mut capacity: Capacity, found: &Found) -> Capacity {
    let Some(document) = &found.document else { return capacity };
    if let Some(connections) = document.node.connections {
        capacity.connections = usize::try_from(connections).unwrap_or(usize::MAX);
    }
    if let Some(workers) = document.node.workers {
        capacity.workers = usize::from(workers);
    }
    capacity
}

/// The last orders to drain real servers or put them back, as the store remembers them.
pub fn orders(store: &Store, document: &Document) -> BTreeMap<RealKey, Order> {
    let mut orders = BTreeMap::new();
    let read = store.records().each(Tree::Maintenance, &mut |key, value| {
        let key = real_key_of(document, key);
        if let (Some(key), Ok(order)) = (key, serde_json::from_slice(value)) {
            orders.insert(key, order);
        }
    });
    if let Err(error) = read {
        tracing::error!(%error, "drained servers are not known");
    }
    orders
}

/// The state as the store remembers it.
pub(crate) fn remembered(store: &Store, found: &Found, capacity: Capacity, now: Duration) -> State {
    let mut recent = VecDeque::new();
    for (_, value) in store.records().last(Tree::Events, RECENT).unwrap_or_default() {
        if let Ok(record) = serde_json::from_slice::<Record>(&value) {
            recent.push_front(Arc::new(record));
        }
    }
    let document = found.document.clone().unwrap_or_default();
    let mut maintenance = BTreeMap::new();
    let mut put_back = BTreeMap::new();
    for (key, order) in orders(store, &document) {
        match order {
            Order::Drained(drain) => drop(maintenance.insert(key, drain)),
            Order::PutBack { put_back: stamp } => drop(put_back.insert(key, stamp)),
        }
    }
    let mut state = State::new(found, store.history().to_vec(), maintenance, recent, capacity);
    state.put_back = put_back;
    state.trial = found.unconfirmed.as_ref().and_then(|info| {
        let Standing::Unconfirmed { until, within } = info.standing else { return None };
        // A clock that was set back must not make the trial longer than it was to be.
        let left = until.saturating_sub(now.as_secs()).min(within);
        let fallback = match info.number.checked_sub(1) {
            Some(before @ 1..) => store.revision(before).ok()?.document().ok()?,
            Some(0) | None => Document::default(),
        };
        Some(Trial {
            revision: info.number,
            until: Duration::from_secs(left),
            fallback: Arc::new(fallback),
            ending: false,
        })
    });
    state
}

/// What is known of the configuration that is shared with the other director.
pub(crate) fn sharing(store: &Store, state: &State, host: String) -> std::io::Result<Sharing> {
    let mut writer = [0; 8];
    getrandom::fill(&mut writer).map_err(|_| std::io::Error::other("no random numbers"))?;
    let mark = store.records().read(Tree::Marks, LINEAGE_MARK).ok().flatten();
    let lineage = mark.and_then(|bytes| Sharing::read(&bytes));
    let drained = state.maintenance.values().map(|drain| drain.stamp);
    let stamps = drained.chain(state.put_back.values().copied());
    let stamp = stamps.max().unwrap_or_default();
    let mut sharing = Sharing::new(host, u64::from_le_bytes(writer), lineage);
    sharing.stamp = stamp;
    Ok(sharing)
}
