//! Who stays master when two directors do not hear each other. Pure.
//!
//! VRRP's adverts and the peer link are two paths. The rules, in this order:
//!
//! 1. The link is up, and both have been master of one instance for a second: their adverts do not
//!    arrive. The one with the lower priority (or, of equal ones, the smaller key) stands down until it hears adverts again, the
//!    other one is not master any more, or the link is down.
//! 2. The link is down, witnesses are configured, and none of them answers: this node is cut off, and
//!    stands down until one answers or the link is up.
//! 3. Otherwise VRRP decides. A node that becomes master because the other one is silent, on the link
//!    too, has the other one switched off, if there is a fence agent ([`super::fencing`]).

use crate::sync::message::Role;
use std::time::Duration;

/// How long both may be master: while mastership moves they are, for a moment.
const GRACE: Duration = Duration::from_secs(1);

/// What a node is for an instance, as it sees itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Own {
    /// Name, master, priority.
    pub role: Role,
    /// Valid adverts heard so far, in any state.
    pub heard: u64,
}

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whether the peer link is up.
    pub link: bool,
    /// Whether something has just come by it: what the peer said last still holds.
    pub fresh: bool,
    /// The own instances.
    pub own: &'a [Own],
    /// The peer's, as it told last.
    pub peer: &'a [Role],
    /// Whether, of equal priorities, this node stays.
    pub wins_ties: bool,
    /// Whether any witness answers; `None` without witnesses.
    pub witnessed: Option<bool>,
    /// On a clock that never jumps.
    pub now: Duration,
}

/// Why a node stands down.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Cause {
    /// Both were master of this instance; adverts heard of it at that time.
    Duel { instance: String, heard: u64 },
    /// Nobody is there.
    CutOff,
}

/// The judge, and what it said last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Arbitration {
    cause: Option<Cause>,
    /// Since when both are master of some instance that this node would have to give up.
    both_since: Option<Duration>,
}

impl Arbitration {
    /// Why this node may not be master now, in the operator's words; `None` when it may.
    pub fn judge(&mut self, facts: &Facts<'_>) -> Option<String> {
        self.cause = self.duel(facts).or_else(|| cut_off(facts));
        match &self.cause {
            None => None,
            Some(Cause::CutOff) => Some("no witness answers and the peer is gone".to_owned()),
            Some(Cause::Duel { instance, .. }) => {
                Some(format!("the peer is master of {instance}, but its adverts do not arrive"))
            }
        }
    }

    fn duel(&mut self, facts: &Facts<'_>) -> Option<Cause> {
        if !facts.link {
            self.both_since = None;
            return None;
        }
        let is_peers =
            |instance: &str| facts.peer.iter().any(|peer| peer.instance == instance && peer.master);
        if let Some(Cause::Duel { instance, heard }) = &self.cause {
            let own = facts.own.iter().find(|own| own.role.instance == *instance);
            let still = own.is_some_and(|own| own.heard == *heard) && is_peers(instance);
            return still.then(|| Cause::Duel { instance: instance.clone(), heard: *heard });
        }
        let loses = |own: &&Own| {
            let peer = facts.peer.iter().find(|peer| peer.instance == own.role.instance);
            own.role.master
                && peer.is_some_and(|peer| {
                    let ours = (own.role.priority, facts.wins_ties);
                    peer.master && ours < (peer.priority, !facts.wins_ties)
                })
        };
        let Some(lost) = facts.own.iter().find(loses).filter(|_| facts.fresh) else {
            self.both_since = None;
            return None;
        };
        let since = *self.both_since.get_or_insert(facts.now);
        (facts.now >= since + GRACE)
            .then(|| Cause::Duel { instance: lost.role.instance.clone(), heard: lost.heard })
    }
}

fn cut_off(facts: &Facts<'_>) -> Option<Cause> {
    (!facts.link && facts.witnessed == Some(false)).then_some(Cause::CutOff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(master: bool, priority: u8) -> Role {
        Role { instance: "outside".to_owned(), master, priority, virtual_mac: Some(true) }
    }

    fn own(master: bool, priority: u8, heard: u64) -> [Own; 1] {
        [Own { role: role(master, priority), heard }]
    }

    fn facts<'a>(own: &'a [Own], peer: &'a [Role]) -> Facts<'a> {
        Facts { link: true, fresh: true, own, peer, wins_ties: true, witnessed: None, now: GRACE }
    }

    #[test]
    fn of_two_masters_exactly_one_stands_down() {
        for (ours, theirs) in [(100, 150), (150, 100), (100, 100)] {
            let stands_down = |ours, theirs, wins_ties| {
                let (own, peer) = (own(true, ours, 0), [role(true, theirs)]);
                let facts = Facts { wins_ties, ..facts(&own, &peer) };
                let mut judge = Arbitration::default();
                let at_once = judge.judge(&Facts { now: Duration::ZERO, ..facts });
                assert_eq!(at_once, None, "mastership may be moving");
                judge.judge(&facts).is_some()
            };
            let (one, two) = (stands_down(ours, theirs, true), stands_down(theirs, ours, false));
            assert!(one != two, "{ours} {theirs}");
        }
    }

    #[test]
    fn a_peer_that_says_nothing_any_more_is_not_believed_to_be_master() {
        let (own, peer) = (own(true, 100, 0), [role(true, 150)]);
        let mut judge = Arbitration::default();
        for seconds in 0..5 {
            let now = Duration::from_secs(seconds);
            let facts = Facts { fresh: false, now, ..facts(&own, &peer) };
            assert_eq!(judge.judge(&facts), None);
        }
    }

    #[test]
    fn the_loser_waits_until_something_has_changed() {
        let peer = [role(true, 150)];
        let stood_down = || {
            let mut judge = Arbitration::default();
            let both = own(true, 100, 7);
            judge.judge(&Facts { now: Duration::ZERO, ..facts(&both, &peer) });
            assert!(judge.judge(&facts(&both, &peer)).is_some());
            // In fault now, it is no master any more.
            assert!(judge.judge(&facts(&own(false, 100, 7), &peer)).is_some());
            judge
        };
        let may = |change: &Facts<'_>| stood_down().judge(change).is_none();
        assert!(may(&facts(&own(false, 100, 8), &peer)), "adverts arrive again");
        assert!(may(&facts(&own(false, 100, 7), &[role(false, 150)])), "the peer resigned");
        let alone = own(false, 100, 7);
        assert!(may(&Facts { link: false, ..facts(&alone, &peer) }), "the peer is gone");
        assert!(may(&facts(&[], &peer)), "the instance is gone");
    }

    #[test]
    fn a_node_that_nobody_answers_is_no_master() {
        let own = own(true, 100, 0);
        let judge = |link, witnessed| {
            let facts = Facts { link, witnessed, ..facts(&own, &[]) };
            Arbitration::default().judge(&facts).is_some()
        };
        assert!(judge(false, Some(false)));
        assert!(!judge(false, Some(true)));
        assert!(!judge(false, None), "nobody was named");
        assert!(!judge(true, Some(false)), "the peer is there");
    }
}
