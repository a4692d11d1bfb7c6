//! How often a password may be guessed: per account and per network, with growing pauses.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::IpAddr;

/// Wrong guesses before the first pause.
const FREE: u32 = 5;

/// The first pause, in seconds; each further wrong guess doubles it.
const FIRST: u64 = 1;

/// The longest pause, in seconds.
const LONGEST: u64 = 15 * 60;

/// After this long without a guess everything is forgotten, in seconds.
const FORGET: u64 = 3600;

/// Accounts and networks that are remembered; when there are more, the one that was quiet for longest is
/// forgotten.
const REMEMBERED: usize = 4096;

/// Seconds until the next guess is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait(pub u64);

/// Who guesses, or for whom.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Who {
    Account(String),
    Network(u128),
}

#[derive(Clone, Copy, Debug, Default)]
struct Guesses {
    wrong: u32,
    last: u64,
}

impl Guesses {
    /// When the next guess is looked at.
    fn opens(&self) -> u64 {
        let Some(doublings) = self.wrong.checked_sub(FREE) else { return 0 };
        self.last + FIRST.checked_shl(doublings.min(20)).map_or(LONGEST, |pause| pause.min(LONGEST))
    }
}

/// Remembers wrong guesses. Times are seconds of any clock that does not go back.
#[derive(Debug, Default)]
pub struct Throttle {
    guesses: BTreeMap<Who, Guesses>,
}

impl Throttle {
    /// Whether a guess may be made now. One from a network where the account is signed in already is not
    /// held up by guesses of others: see `known`.
    ///
    /// # Errors
    /// Says how long to wait.
    pub fn may_guess(
        &self,
        account: &str,
        address: IpAddr,
        known: bool,
        now: u64,
    ) -> Result<(), Wait> {
        let network = self.opens(&Who::Network(network(address)));
        let account = if known { 0 } else { self.opens(&Who::Account(account.to_owned())) };
        match network.max(account) {
            at if at > now => Err(Wait(at - now)),
            _ => Ok(()),
        }
    }

    fn opens(&self, who: &Who) -> u64 {
        self.guesses.get(who).map_or(0, Guesses::opens)
    }

    /// A guess was wrong.
    pub fn wrong(&mut self, account: &str, address: IpAddr, now: u64) {
        for who in [Who::Account(account.to_owned()), Who::Network(network(address))] {
            if self.guesses.len() >= REMEMBERED && !self.guesses.contains_key(&who) {
                self.forget_one(now);
            }
            let guesses = self.guesses.entry(who).or_default();
            if now.saturating_sub(guesses.last) > FORGET {
                guesses.wrong = 0;
            }
            guesses.wrong = guesses.wrong.saturating_add(1);
            guesses.last = now;
        }
    }

    /// A guess was right: the account starts anew. The network does not, or one valid account would let
    /// its owner try all others.
    pub fn right(&mut self, account: &str) {
        self.guesses.remove(&Who::Account(account.to_owned()));
    }

    fn forget_one(&mut self, now: u64) {
        self.guesses.retain(|_, guesses| now.saturating_sub(guesses.last) <= FORGET);
        if self.guesses.len() >= REMEMBERED
            && let Some(quiet) = self.guesses.iter().min_by_key(|(_, guesses)| guesses.last)
        {
            let quiet = quiet.0.clone();
            self.guesses.remove(&quiet);
        }
    }
}

/// The network of an address: all of an IPv4 address, the first 64 bits of an IPv6 one, because a host has
/// as many of the rest as it likes.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 << 64,
    }
}
