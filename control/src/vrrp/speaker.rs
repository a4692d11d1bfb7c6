//! What the thread does with events: feeds the state machines, carries out their actions, and keeps the
//! sockets in step with interfaces and configuration.

use super::Priority;
use super::Vrid;
use super::fsm::{Action, State};
use super::group::{Group, Member as GroupMember};
use super::instance::Instance;
use super::interfaces::{self, Interface};
use super::packet::Reach;
use super::socket::{Frames, Link};
use super::status::Change;
use dataplane::table::Family;
use member::Member;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

mod member;
mod traffic;

/// Until a change that found the receiver's queue full is offered again.
const RETRY_CHANGE: Duration = Duration::from_millis(10);

type LinkKey = (String, Family);
type Identity = (String, Family, Vrid);
type Actions = Vec<(usize, Action)>;

/// Everything that the thread owns but its wake-up call.
#[derive(Debug)]
pub struct Speaker {
    groups: Vec<Running>,
    links: BTreeMap<LinkKey, Link>,
    interfaces: BTreeMap<String, Interface>,
    frames: Frames,
    changes: Sender<Change>,
    held: bool,
    inhibited: Option<String>,
    identification: u16,
    /// Something changed that the published status does not show yet.
    pub dirty: bool,
}

/// A group's state machines and, at the same places, what belongs to each.
#[derive(Debug)]
struct Running {
    group: Group,
    members: Vec<Member>,
}

impl Speaker {
    /// Opens the frame socket and reads the interfaces.
    pub fn new(changes: Sender<Change>) -> io::Result<Self> {
        Ok(Self {
            groups: Vec::new(),
            links: BTreeMap::new(),
            interfaces: interfaces::all()?,
            frames: Frames::open()?,
            changes,
            held: false,
            inhibited: None,
            identification: 0,
            dirty: true,
        })
    }

    /// Sockets to wait on, in the order that [`Speaker::receive`] counts them.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// When [`Speaker::timeout`] has something to do.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let groups = self.groups.iter().filter_map(|running| running.group.deadline());
        let members = self.groups.iter().flat_map(|running| &running.members);
        let other = members.flat_map(|member| {
            let announcing = member.is_announcing().then_some(now);
            let untold = member.untold.is_some().then(|| now + RETRY_CHANGE);
            announcing.into_iter().chain(untold)
        });
        groups.chain(other).min()
    }

    /// Replaces the configuration. Instances that stay the same on the wire (interface, family, id and
    /// version) keep their state; the others start or stop.
    pub fn configure(&mut self, instances: Vec<Instance>, now: Instant) {
        let mut earlier: BTreeMap<Identity, (Member, GroupMember)> = BTreeMap::new();
        for running in std::mem::take(&mut self.groups) {
            for pair in running.members.into_iter().zip(running.group.into_members()) {
                earlier.insert(pair.0.instance.identity(), pair);
            }
        }
        let links = wanted_links(instances.iter());
        let mut groups: BTreeMap<_, Vec<(Member, Option<GroupMember>)>> = BTreeMap::new();
        for instance in instances {
            let version = instance.format.version();
            let same =
                |(member, _): &(Member, GroupMember)| member.instance.format.version() == version;
            let key = instance.group.clone().ok_or_else(|| instance.name.clone());
            let member = match earlier.remove(&instance.identity()) {
                Some(pair) if same(&pair) => {
                    let (mut member, vrrp) = pair;
                    member.replace(instance, vrrp.state() == State::Master);
                    (member, Some(vrrp))
                }
                Some(pair) => {
                    self.stop(pair, now);
                    (Member::new(instance, now), None)
                }
                None => (Member::new(instance, now), None),
            };
            groups.entry(key).or_default().push(member);
        }
        for gone in earlier.into_values() {
            self.stop(gone, now);
        }
        self.open_links(links);
        for members in groups.into_values() {
            self.assemble(members, now);
        }
        self.dirty = true;
    }

    fn assemble(&mut self, parts: Vec<(Member, Option<GroupMember>)>, now: Instant) {
        let mut out = Vec::new();
        let (mut members, machines): (Vec<Member>, Vec<_>) = parts.into_iter().unzip();
        for member in &mut members {
            member.find_source(&self.interfaces);
        }
        let fresh = machines.iter().all(Option::is_none);
        let parameters = members.iter().map(Member::parameters);
        let mut group = if fresh {
            Group::new(parameters)
        } else {
            Group::rebuild(machines.into_iter().zip(parameters), now, &mut out)
        };
        group.hold(self.held);
        let mut running = Running { group, members };
        self.look_at_faults(&mut running, now, &mut out);
        if fresh {
            running.group.startup(now, &mut out);
        }
        self.carry_out(&mut running, out, now);
        self.groups.push(running);
    }

    fn stop(&mut self, (member, machine): (Member, GroupMember), now: Instant) {
        let mut group = Group::from_members(vec![machine]);
        let mut out = Vec::new();
        group.shutdown(now, &mut out);
        self.carry_out(&mut Running { group, members: vec![member] }, out, now);
    }

    /// Resigns everywhere and stops.
    pub fn shutdown(&mut self, now: Instant) {
        self.with_groups(|speaker, running| {
            let mut out = Vec::new();
            running.group.shutdown(now, &mut out);
            speaker.carry_out(running, out, now);
        });
    }

    /// Gives mastership to the other node: one instance with its group, or all.
    pub fn resign(&mut self, instance: Option<&str>, now: Instant) {
        self.with_groups(|speaker, running| {
            let named = |member: &Member| instance.is_none_or(|name| member.instance.name == name);
            if running.members.iter().any(named) {
                let mut out = Vec::new();
                running.group.resign(now, &mut out);
                speaker.carry_out(running, out, now);
            }
        });
    }

    /// Forbids or allows to replace living masters of lower priority.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
        for running in &mut self.groups {
            running.group.hold(held);
        }
    }

    /// Puts every instance in fault for a reason, or ends that.
    pub fn inhibit(&mut self, reason: Option<String>, now: Instant) {
        self.inhibited = reason;
        self.look_again(now);
    }

    /// A tracked service or script went up or down.
    pub fn track(&mut self, name: &str, up: bool, now: Instant) {
        for member in self.groups.iter_mut().flat_map(|running| &mut running.members) {
            member.tracking.set(name, up);
        }
        self.look_again(now);
    }

    /// Reads the interfaces anew and draws the consequences.
    pub fn rescan(&mut self, now: Instant) {
        match interfaces::all() {
            Ok(interfaces) => {
                let before = std::mem::replace(&mut self.interfaces, interfaces);
                self.announce_other_macs(&before);
            }
            Err(error) => return tracing::warn!(%error, "cannot read the interfaces"),
        }
        let members = self.groups.iter().flat_map(|running| &running.members);
        self.open_links(wanted_links(members.map(|member| &member.instance)));
        self.look_again(now);
    }

    /// A master that answers with the MAC of its interfaces announces its addresses when that is another
    /// one than before, as after another cable of a bond took over.
    fn announce_other_macs(&mut self, before: &BTreeMap<String, Interface>) {
        let interfaces = &self.interfaces;
        let mac = |all: &BTreeMap<String, Interface>, name: &str| all.get(name).map(Interface::mac);
        let differs = |name: &str| mac(before, name) != mac(interfaces, name);
        for running in &mut self.groups {
            for (index, member) in running.members.iter_mut().enumerate() {
                let instance = &member.instance;
                let other =
                    !instance.virtual_mac && instance.owned().any(|(_, name)| differs(name));
                let machine = running.group.get(index);
                if other && machine.is_some_and(|machine| machine.state() == State::Master) {
                    member.announcing = (instance.announcements.repeat, 0);
                }
            }
        }
    }

    /// Opens and closes sockets until there is one for each key, with or without multicast.
    fn open_links(&mut self, wanted: BTreeMap<LinkKey, bool>) {
        let interfaces = &self.interfaces;
        self.links.retain(|key, link| {
            let multicast = wanted.get(key);
            let interface = interfaces.get(&key.0);
            multicast.zip(interface).is_some_and(|(multicast, i)| link.fits(i, *multicast))
        });
        for (key, multicast) in wanted {
            let Some(interface) = self.interfaces.get(&key.0) else { continue };
            if self.links.contains_key(&key) {
                continue;
            }
            match Link::open(&key.0, interface, key.1, multicast) {
                Ok(link) => drop(self.links.insert(key, link)),
                Err(error) => tracing::warn!(interface = key.0, %error, "cannot open VRRP sockets"),
            }
        }
    }

    /// Looks again at everything that instances depend on.
    fn look_again(&mut self, now: Instant) {
        self.with_groups(|speaker, running| {
            let mut out = Vec::new();
            for (index, member) in running.members.iter_mut().enumerate() {
                if member.find_source(&speaker.interfaces) {
                    running.group.reconfigure(index, member.parameters());
                }
            }
            speaker.look_at_faults(running, now, &mut out);
            speaker.carry_out(running, out, now);
        });
        self.dirty = true;
    }

    fn look_at_faults(&self, running: &mut Running, now: Instant, out: &mut Actions) {
        for (index, member) in running.members.iter_mut().enumerate() {
            member.look_at_interfaces(&self.interfaces);
            member.faults = self.faults(member);
            running.group.set_priority(index, member.tracking.priority());
            running.group.set_faulty(index, !member.faults.is_empty(), now, out);
        }
    }

    fn faults(&self, member: &Member) -> Vec<String> {
        let name = &member.instance.interface;
        let key = (name.clone(), member.instance.format.family());
        let interface = match self.interfaces.get(name) {
            None => Some(format!("interface {name} does not exist")),
            Some(interface) if !interface.up => Some(format!("interface {name} is down")),
            Some(_) if member.source.is_none() => {
                Some(format!("interface {name} has no source address"))
            }
            Some(_) if !self.links.contains_key(&key) => {
                Some(format!("no VRRP socket on interface {name}"))
            }
            Some(_) => None,
        };
        let tracked = member.tracking.faults().map(str::to_owned);
        self.inhibited.iter().cloned().chain(interface).chain(tracked).collect()
    }

    /// Runs `work` on every group while the rest of the speaker is free to use.
    fn with_groups(&mut self, mut work: impl FnMut(&mut Self, &mut Running)) {
        let mut groups = std::mem::take(&mut self.groups);
        for running in &mut groups {
            work(self, running);
        }
        self.groups = groups;
    }
}

fn wanted_links<'a>(instances: impl Iterator<Item = &'a Instance>) -> BTreeMap<LinkKey, bool> {
    let mut wanted = BTreeMap::new();
    for instance in instances {
        let key = (instance.interface.clone(), instance.format.family());
        *wanted.entry(key).or_default() |= instance.reach == Reach::Multicast;
    }
    wanted
}

/// Whether the priority is the owner's, who has no address but the virtual one.
fn is_owner(instance: &Instance) -> bool {
    instance.priority == Priority::OWNER
}
