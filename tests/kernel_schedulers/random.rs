//! Scenarios of random changes and traffic, the same for the same seed.

use super::scenario::{Change, Phase, Scenario, Server, Traffic};
use dataplane::table::{Family, Scheduler, SchedulerFlags};

const PHASES: usize = 16;
/// Every so many phases, closed connections end.
const EXPIRY: usize = 4;
const SERVERS: u8 = 8;
const CLIENTS: usize = 60;
const DESTINATIONS: usize = 12;
const WEIGHTS: [u32; 12] = [0, 1, 1, 2, 3, 4, 5, 8, 10, 100, 1000, 65_535];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % limit as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn server(&mut self, number: u8) -> Server {
        let server = Server::new(number, WEIGHTS[self.below(WEIGHTS.len())]);
        if !self.one_in(4) {
            return server;
        }
        let upper = 1 + self.below(12) as u32;
        let lower = if self.one_in(2) { 0 } else { self.below(upper as usize + 1) as u32 };
        server.limits(upper, lower)
    }
}

/// Destination-minded schedulers get a mark service, and every other seed is IPv6.
pub fn scenario(number: u8, seed: u64, scheduler: Scheduler, flags: SchedulerFlags) -> Scenario {
    let by_mark = matches!(scheduler, Scheduler::Dh | Scheduler::Lblc | Scheduler::Lblcr);
    let family = if seed % 2 == 1 { Family::V6 } else { Family::V4 };
    // The kernel's lblc and lblcr remember which destinations a removed server had, in case it
    // comes back; ours start afresh.
    let comes_back = !matches!(scheduler, Scheduler::Lblc | Scheduler::Lblcr);
    let mut dice = Dice(u64::from(number) << 32 | seed);
    let mut servers = Servers { present: Vec::new(), absent: (1..=SERVERS).collect(), comes_back };
    let mut connections = 0;
    let phases = (0..PHASES).map(|phase| Phase {
        changes: servers.changes(&mut dice, if phase == 0 { 4 } else { 0 }),
        traffic: traffic(&mut dice, &mut connections),
        expire: phase % EXPIRY == EXPIRY - 1,
    });
    let phases = phases.collect();
    let name = format!("random {seed}");
    Scenario { name, number, family, by_mark, scheduler, flags, phases }
}

struct Servers {
    present: Vec<Server>,
    absent: Vec<u8>,
    comes_back: bool,
}

impl Servers {
    /// At least so many additions, and a few changes of any kind.
    fn changes(&mut self, dice: &mut Dice, additions: usize) -> Vec<Change> {
        let mut changes: Vec<_> = (0..additions).filter_map(|_| self.add(dice)).collect();
        for _ in 0..dice.below(3) {
            changes.extend(match dice.below(4) {
                0 => self.add(dice),
                1 => self.delete(dice),
                _ => self.edit(dice),
            });
        }
        changes
    }

    fn add(&mut self, dice: &mut Dice) -> Option<Change> {
        if self.absent.is_empty() {
            return None;
        }
        let number = self.absent.remove(dice.below(self.absent.len()));
        let server = dice.server(number);
        self.present.push(server);
        Some(Change::Add(server))
    }

    fn delete(&mut self, dice: &mut Dice) -> Option<Change> {
        if self.present.len() < 2 {
            return None;
        }
        let server = self.present.remove(dice.below(self.present.len()));
        if self.comes_back {
            self.absent.push(server.number);
        }
        Some(Change::Delete(server.number))
    }

    /// An edit that changes nothing is left out: to us it is no event, while the kernel's wrr then
    /// starts its walk over.
    fn edit(&mut self, dice: &mut Dice) -> Option<Change> {
        let place = dice.below(self.present.len());
        let server = self.present.get_mut(place)?;
        let edited = dice.server(server.number);
        let changed = edited != *server;
        *server = edited;
        changed.then_some(Change::Edit(edited))
    }
}

fn traffic(dice: &mut Dice, connections: &mut usize) -> Vec<Traffic> {
    let mut traffic = Vec::new();
    for _ in 0..8 + dice.below(16) {
        if *connections > 0 && dice.one_in(3) {
            traffic.push(Traffic::Close(dice.below(*connections)));
        } else {
            let client = dice.below(CLIENTS) as u8;
            let destination = 1 + dice.below(DESTINATIONS) as u8;
            traffic.push(Traffic::Connect { client, destination });
            *connections += 1;
        }
    }
    traffic
}
