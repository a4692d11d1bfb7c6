//! The book of addresses that full NAT sends from. A connection refers to its own by number, in one
//! byte.
//!
//! An address has a place for as long as a service's pool or an interface offers it, or a connection
//! uses it. A place that neither does is closed, rests until every worker has begun a batch since, as a
//! connection's slot does, and is free for another address then: a worker that still holds an ended
//! connection reads the address that it was sent from. Only control moves places; packets read and
//! count.

use super::connections::Connections;
use crate::table::Address;
use std::collections::BTreeSet;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses that full NAT can use at most, over all services.
pub const MOST_SOURCES: usize = 256;

/// Count of a place that no connection can take.
const CLOSED: u32 = u32::MAX;

/// The book.
#[derive(Debug)]
pub struct Sources {
    addresses: Box<[[AtomicU64; 2]]>,
    /// Connections of each, or [`CLOSED`].
    users: Box<[AtomicU32]>,
    book: Mutex<Book>,
}

/// What control knows.
#[derive(Debug)]
struct Book {
    places: Vec<Place>,
    pools: BTreeSet<Address>,
    interfaces: BTreeSet<Address>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Free,
    Open(Address),
    /// Until this grace period is over.
    Resting(u64),
}

/// How far the book meets what is asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fill {
    /// Addresses that have a place.
    pub open: usize,
    /// Offered addresses that have none.
    pub missing: usize,
    /// Places that will be free in a moment.
    pub resting: usize,
}

impl Sources {
    /// A book of `capacity` places, [`MOST_SOURCES`] at most.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(MOST_SOURCES);
        Self {
            addresses: std::iter::repeat_with(Default::default).take(MOST_SOURCES).collect(),
            users: std::iter::repeat_with(|| AtomicU32::new(CLOSED)).take(capacity).collect(),
            book: Mutex::new(Book {
                places: vec![Place::Free; capacity],
                pools: BTreeSet::new(),
                interfaces: BTreeSet::new(),
            }),
        }
    }

    /// The address with this number.
    #[inline]
    pub fn address(&self, number: u8) -> Address {
        let [high, low] = &self.addresses[usize::from(number)];
        Address(u128::from(high.load(Relaxed)) << 64 | u128::from(low.load(Relaxed)))
    }

    /// The number of an address that connections may be sent from.
    pub fn find(&self, address: Address) -> Option<u8> {
        let open = |users: &AtomicU32| users.load(Acquire) != CLOSED;
        let mut numbers = (0..=u8::MAX).zip(&self.users);
        numbers.find(|(n, users)| open(users) && self.address(*n) == address).map(|(n, _)| n)
    }

    /// Counts a connection more. `false` when the place is not this address's any more, or counts four
    /// thousand million.
    #[must_use]
    pub(super) fn take(&self, number: u8, address: Address) -> bool {
        let Some(users) = self.users.get(usize::from(number)) else { return false };
        let more = |many| (many < CLOSED - 1).then(|| many + 1);
        if users.fetch_update(Acquire, Relaxed, more).is_err() {
            return false;
        }
        // From here on it stays the same.
        let same = self.address(number) == address;
        if !same {
            self.give_back(number);
        }
        same
    }

    /// Counts a connection less.
    pub(super) fn give_back(&self, number: u8) {
        if let Some(users) = self.users.get(usize::from(number)) {
            let less = |many| (many != CLOSED && many > 0).then(|| many - 1);
            let _ = users.fetch_update(Release, Relaxed, less);
        }
    }

    /// Makes these the addresses of the services' pools.
    pub fn offer_pools(&self, all: impl Iterator<Item = Address>, connections: &Connections) {
        let mut book = self.book();
        book.pools = all.collect();
        self.rearrange(&mut book, connections);
    }

    /// Makes these the addresses of the interfaces.
    pub fn offer_interfaces(&self, all: impl Iterator<Item = Address>, connections: &Connections) {
        let mut book = self.book();
        book.interfaces = all.collect();
        self.rearrange(&mut book, connections);
    }

    /// Closes places that nobody needs any more and gives free ones away. To be called every second or
    /// two.
    pub fn arrange(&self, connections: &Connections) -> Fill {
        let mut book = self.book();
        self.rearrange(&mut book, connections);
        let places = |is: fn(&Place) -> bool| book.places.iter().filter(|place| is(place)).count();
        let open = places(|place| matches!(place, Place::Open(_)));
        let resting = places(|place| matches!(place, Place::Resting(_)));
        let has_none = |address: &&Address| !book.places.contains(&Place::Open(**address));
        let missing = book.pools.union(&book.interfaces).filter(has_none).count();
        Fill { open, missing, resting }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rearrange(&self, book: &mut Book, connections: &Connections) {
        let Book { places, pools, interfaces } = book;
        // An administrator chose the pools; most addresses of interfaces are never sent from.
        let others = interfaces.iter().filter(|address| !pools.contains(*address));
        let wanted: Vec<Address> = pools.iter().chain(others).take(places.len()).copied().collect();
        let kept: BTreeSet<Address> = wanted.iter().copied().collect();
        for (place, users) in places.iter_mut().zip(&self.users) {
            match *place {
                Place::Open(address) if !kept.contains(&address) => {
                    if users.compare_exchange(0, CLOSED, AcqRel, Relaxed).is_ok() {
                        *place = Place::Resting(connections.begin_grace());
                    }
                }
                Place::Resting(grace) if connections.is_over(grace) => *place = Place::Free,
                Place::Free | Place::Open(_) | Place::Resting(_) => {}
            }
        }
        let open: BTreeSet<Address> = places.iter().filter_map(Place::address).collect();
        let mut free = places.iter_mut().zip(self.addresses.iter().zip(&self.users));
        for address in wanted.into_iter().filter(|address| !open.contains(address)) {
            let Some((place, (words, users))) = free.find(|(place, _)| **place == Place::Free)
            else {
                break;
            };
            words[0].store((address.0 >> 64) as u64, Relaxed);
            words[1].store(address.0 as u64, Relaxed);
            users.store(0, Release);
            *place = Place::Open(address);
        }
    }
}

impl Place {
    const fn address(&self) -> Option<Address> {
        match *self {
            Self::Open(address) => Some(address),
            Self::Free | Self::Resting(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
