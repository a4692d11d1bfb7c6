//! Sync groups: instances that are master together or not at all.
//!
//! A member whose timer expires waits until every other member's has; one that stops being master takes
//! the others with it; one in fault puts all in fault. An instance without a group is a group of one.

use super::Priority;
use super::fsm::{Action, Event, Membership, Parameters, State, Vrrp};
use std::time::Instant;

/// Instances that move together.
#[derive(Clone, Debug)]
pub struct Group {
    members: Vec<Member>,
}

/// One instance of a group.
#[derive(Clone, Debug)]
pub struct Member {
    vrrp: Vrrp,
    /// Something that this member itself needs is down.
    faulty: bool,
}

impl Member {
    /// Where the instance stands.
    pub const fn state(&self) -> State {
        self.vrrp.state()
    }
}

impl Group {
    /// A group of stopped instances, in the order that indexes them from now on.
    pub fn new(members: impl IntoIterator<Item = Parameters>) -> Self {
        let parameters: Vec<_> = members.into_iter().collect();
        let membership = membership(parameters.len());
        let member = |parameters| Member { vrrp: Vrrp::new(parameters, membership), faulty: false };
        Self { members: parameters.into_iter().map(member).collect() }
    }

    /// A group in which some members were running before, alone or in another group. New members join the
    /// others' state: an instance added to a group of masters is master.
    pub fn rebuild(
        members: impl IntoIterator<Item = (Option<Member>, Parameters)>,
        now: Instant,
        out: &mut Vec<(usize, Action)>,
    ) -> Self {
        let (earlier, parameters): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let mut group = Self::new(parameters.iter().copied());
        let mut fresh = Vec::new();
        for (index, earlier) in earlier.into_iter().enumerate() {
            match (earlier, group.members.get_mut(index)) {
                (Some(earlier), Some(member)) => *member = earlier,
                (None, _) | (_, None) => fresh.push(index),
            }
        }
        for (index, parameters) in parameters.into_iter().enumerate() {
            group.reconfigure(index, parameters);
        }
        let states: Vec<_> = group.members.iter().map(|member| member.vrrp.state()).collect();
        for index in fresh {
            group.member(index, Event::Startup, now, out);
            if states.contains(&State::Fault) {
                group.member(index, Event::Fault, now, out);
            } else if states.contains(&State::Master) {
                group.member(index, Event::Promote, now, out);
            }
        }
        group.settle(now, out);
        group
    }

    /// A group of members as they are.
    pub const fn from_members(members: Vec<Member>) -> Self {
        Self { members }
    }

    /// Takes a group apart, so its members can go on in others.
    pub fn into_members(self) -> Vec<Member> {
        self.members
    }

    /// The member at `index`.
    pub fn get(&self, index: usize) -> Option<&Vrrp> {
        self.members.get(index).map(|member| &member.vrrp)
    }

    /// When [`Group::timeout`] is due; `None` when nothing is awaited.
    pub fn deadline(&self) -> Option<Instant> {
        self.members.iter().filter_map(|member| member.vrrp.deadline()).min()
    }

    /// Starts all members.
    pub fn startup(&mut self, now: Instant, out: &mut Vec<(usize, Action)>) {
        let faulty = self.members.iter().any(|member| member.faulty);
        self.all(if faulty { Event::Fault } else { Event::Startup }, now, out);
        self.settle(now, out);
    }

    /// Stops all members; masters resign.
    pub fn shutdown(&mut self, now: Instant, out: &mut Vec<(usize, Action)>) {
        self.all(Event::Shutdown, now, out);
    }

    /// Gives mastership to the other node, if this one has it.
    pub fn resign(&mut self, now: Instant, out: &mut Vec<(usize, Action)>) {
        self.all(Event::Resign, now, out);
    }

    /// Lets every member look at the time.
    pub fn timeout(&mut self, now: Instant, out: &mut Vec<(usize, Action)>) {
        for index in 0..self.members.len() {
            self.feed(index, Event::Timeout, now, out);
        }
    }

    /// A member heard a valid advert.
    pub fn advert(
        &mut self,
        index: usize,
        heard: super::fsm::Heard,
        now: Instant,
        out: &mut Vec<(usize, Action)>,
    ) {
        self.feed(index, Event::Advert(heard), now, out);
    }

    /// Something that a member needs went down or came back.
    pub fn set_faulty(
        &mut self,
        index: usize,
        faulty: bool,
        now: Instant,
        out: &mut Vec<(usize, Action)>,
    ) {
        let Some(member) = self.members.get_mut(index) else { return };
        if member.faulty == faulty {
            return;
        }
        member.faulty = faulty;
        let started = self.members.iter().any(|member| member.vrrp.state() != State::Initialize);
        if !started {
            return;
        }
        if faulty {
            self.all(Event::Fault, now, out);
        } else if self.members.iter().all(|member| !member.faulty) {
            self.all(Event::Recovered, now, out);
            self.settle(now, out);
        }
    }

    /// Sets a member's effective priority.
    pub fn set_priority(&mut self, index: usize, priority: Priority) {
        if let Some(member) = self.members.get_mut(index) {
            member.vrrp.set_priority(priority);
        }
    }

    /// Forbids or allows to replace a living master of lower priority.
    pub fn hold(&mut self, held: bool) {
        for member in &mut self.members {
            member.vrrp.hold(held);
        }
    }

    /// Gives a member another configuration without leaving its state.
    pub fn reconfigure(&mut self, index: usize, parameters: Parameters) {
        let membership = membership(self.members.len());
        if let Some(member) = self.members.get_mut(index) {
            member.vrrp.reconfigure(parameters, membership);
        }
    }

    fn feed(&mut self, index: usize, event: Event, now: Instant, out: &mut Vec<(usize, Action)>) {
        let first = self.member(index, event, now, out);
        let announced = matches!(event, Event::Advert(_))
            && out[first..].iter().any(|(_, action)| matches!(action, Action::Announce { .. }));
        if announced {
            self.others(index, Event::Announce, now, out);
        }
        self.settle(now, out);
    }

    /// Makes the members agree: a master beside a backup leaves too, and everybody is promoted once
    /// nobody holds the group back any more.
    fn settle(&mut self, now: Instant, out: &mut Vec<(usize, Action)>) {
        let any = |state| self.members.iter().any(|member| member.vrrp.state() == state);
        if any(State::Master) && any(State::Backup) {
            self.all(Event::Demote, now, out);
        } else if self.members.iter().all(|member| member.vrrp.wants_master()) {
            self.all(Event::Promote, now, out);
        }
    }

    fn all(&mut self, event: Event, now: Instant, out: &mut Vec<(usize, Action)>) {
        for index in 0..self.members.len() {
            self.member(index, event, now, out);
        }
    }

    fn others(&mut self, but: usize, event: Event, now: Instant, out: &mut Vec<(usize, Action)>) {
        for index in (0..self.members.len()).filter(|index| *index != but) {
            self.member(index, event, now, out);
        }
    }

    /// Feeds one member; returns where its actions begin.
    fn member(
        &mut self,
        index: usize,
        event: Event,
        now: Instant,
        out: &mut Vec<(usize, Action)>,
    ) -> usize {
        let start = out.len();
        if let Some(member) = self.members.get_mut(index) {
            let mut actions = Vec::new();
            member.vrrp.on(event, now, &mut actions);
            out.extend(actions.into_iter().map(|action| (index, action)));
        }
        start
    }
}

const fn membership(members: usize) -> Membership {
    if members > 1 { Membership::Grouped } else { Membership::Alone }
}

#[cfg(test)]
mod tests;
