//! The measured director, fed from memory.

use super::bare::Bare;
use super::network::{INSIDE, OUTSIDE, hops, table};
use super::traffic::{From, Traffic};
use super::{Case, Forwarding, Work};
use dataplane::frame::{BATCH, Batch, Frame, HEADROOM};

use dataplane::packet_path::connections::HashKeys;
use dataplane::packet_path::{Capacity, Director, PacketPath, Verdict, Verdicts, View};
use dataplane::table::{Method, PortId, Tunnel};
use dataplane::tick::{Tick, Ticks};
use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

const STRIDE: usize = 2048;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;
/// CPU time of one measurement; the best of several counts.
const SPAN: Duration = Duration::from_millis(250);
const TRIES: usize = 4;

/// CPU time of this thread.
pub fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

pub fn director(case: Case, workers: usize) -> Arc<Director> {
    let (sender, _) = sync_channel(1);
    let connections = case.connections + 70_000;
    let capacity = Capacity { connections, services: 16, reals: 16, workers };
    let keys = HashKeys([11, 22, 33, 44]);
    let director = Arc::new(Director::new(capacity, keys, sender));
    director.publish_hops(hops());
    director.publish(table(method(case.work), case.v6), Tick(1));
    director
}

fn method(work: Work) -> Method {
    match work {
        Work::Known(Forwarding::Dr) => Method::DirectRouting,
        Work::Known(Forwarding::Tun) => Method::Tunnel(Tunnel::Ipip),
        Work::Known(Forwarding::FullNat) => Method::FullNat,
        Work::Known(Forwarding::Nat) | Work::Replies | Work::New | Work::Mixed | Work::Bare => {
            Method::Nat
        }
    }
}

pub struct Bench {
    case: Case,
    path: PacketPath,
    director: Arc<Director>,
    buffers: Vec<u8>,
    random: u64,
    now: Tick,
    /// Connections opened beside the known ones.
    opened: u32,
}

impl Bench {
    pub fn new(case: Case) -> Self {
        Self::of(case, director(case, 1), 0)
    }

    pub fn of(case: Case, director: Arc<Director>, worker: usize) -> Self {
        let path = PacketPath::new(Arc::clone(&director), worker, 1);
        let buffers = vec![0; BATCH * STRIDE];
        let random = 88_172_645_463_325_252 + worker as u64;
        Self { case, path, director, buffers, random, now: Tick(300), opened: 0 }
    }

    /// Whether a case can be measured with the same connections.
    pub fn serves(&self, case: Case) -> bool {
        let same = (case.v6, case.connections) == (self.case.v6, self.case.connections);
        same && method(case.work) == method(self.case.work) && case.work != Work::Mixed
    }

    /// Opens all connections.
    pub fn open(&mut self) {
        self.open_some(0..self.case.connections as u32);
    }

    pub fn open_some(&mut self, numbers: std::ops::Range<u32>) {
        for flags in [SYN, ACK] {
            let traffic = Traffic::new(self.case.v6, From::Client, 64, flags);
            let mut next = numbers.clone();
            while !next.is_empty() {
                let end = next.end.min(next.start + BATCH as u32);
                self.batch(traffic, next.start..end, 64);
                next.start = end;
            }
        }
    }

    /// Packets a second of CPU time, the best of several measurements.
    pub fn rate(&mut self, case: Case) -> f64 {
        let numbers = 0..case.connections as u32;
        (0..TRIES).map(|_| self.rate_once(case, numbers.clone())).fold(0.0, f64::max)
    }

    pub fn rate_once(&mut self, case: Case, numbers: std::ops::Range<u32>) -> f64 {
        let started = cpu_time();
        let (mut count, mut spent) = (0, Duration::ZERO);
        while spent < SPAN {
            count += self.batches(case, numbers.clone(), 64);
            spent = cpu_time() - started;
        }
        count as f64 / spent.as_secs_f64()
    }

    /// Judges batches of the case's packets, of random connections. How many packets.
    pub fn batches(&mut self, case: Case, numbers: std::ops::Range<u32>, batches: u32) -> usize {
        let from = if case.work == Work::Replies { From::Real } else { From::Client };
        let known = Traffic::new(case.v6, from, case.size, ACK);
        let replies = Traffic::new(case.v6, From::Real, case.size, ACK);
        let mut count = 0;
        for _ in 0..batches {
            let random = std::array::from_fn::<_, BATCH, _>(|_| self.random(&numbers));
            count += match case.work {
                Work::Mixed => {
                    self.batch(known, random[..28].iter().copied(), case.size)
                        + self.batch(replies, random[28..60].iter().copied(), case.size)
                        + self.short_connections()
                }
                Work::New => {
                    let first = self.opened;
                    self.opened += BATCH as u32;
                    let requests = Traffic::new(case.v6, From::Client, 64, SYN);
                    self.batch(requests, first..first + BATCH as u32, 64)
                }
                Work::Bare | Work::Known(_) | Work::Replies => {
                    self.batch(known, random.into_iter(), case.size)
                }
            };
        }
        count
    }

    /// Two connections open, two say something and two end; time goes on.
    fn short_connections(&mut self) -> usize {
        let first = self.case.connections as u32 + self.opened % 1_000_000;
        self.opened += 2;
        self.now = self.now.after(Ticks(1));
        let mut count = 0;
        for flags in [SYN, ACK, RST] {
            let traffic = Traffic::new(self.case.v6, From::Client, 64, flags);
            count += self.batch(traffic, first..first + 2, 64);
        }
        let director = Arc::clone(&self.director);
        let (table, hops) = (director.table(), director.hops());
        let view = View { director: &director, table: &table, hops: &hops, now: self.now };
        self.path.expire(view);
        count
    }

    /// New connections a second of CPU time, until the table is as full as the case says.
    pub fn new_rate(&mut self) -> f64 {
        let started = cpu_time();
        let count = self.batches(self.case, 0..1, (self.case.connections / BATCH) as u32);
        count as f64 / (cpu_time() - started).as_secs_f64()
    }

    #[inline]
    fn random(&mut self, numbers: &std::ops::Range<u32>) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        numbers.start + (((self.random >> 32) * numbers.len() as u64) >> 32) as u32
    }

    fn batch(
        &mut self,
        traffic: Traffic,
        numbers: impl Iterator<Item = u32>,
        size: usize,
    ) -> usize {
        let (table, hops) = (self.director.table(), self.director.hops());
        let view = View { director: &self.director, table: &table, hops: &hops, now: self.now };
        let mut batch = Batch::new();
        for (buffer, number) in self.buffers.chunks_exact_mut(STRIDE).zip(numbers) {
            traffic.write(number, &mut buffer[HEADROOM..]);
            batch.push(Frame::new(buffer, HEADROOM, HEADROOM + size, traffic.port()));
        }
        let mut verdicts = Verdicts::new();
        self.path.process(view, &mut batch, &mut verdicts);
        let lost = verdicts.iter().find(|verdict| !matches!(verdict, Verdict::Send(_)));
        assert_eq!(lost, None);
        verdicts.len()
    }
}

impl Traffic {
    fn port(&self) -> PortId {
        if self.is_from_client() { OUTSIDE } else { INSIDE }
    }
}

/// The yardstick's packets a second.
pub fn bare_rate(case: Case) -> f64 {
    let (mut bare, mut feed) = bare(case);
    (0..TRIES)
        .map(|_| {
            let started = cpu_time();
            let (mut count, mut spent) = (0, Duration::ZERO);
            while spent < SPAN {
                count += (0..64).map(|_| feed(&mut bare)).sum::<usize>();
                spent = cpu_time() - started;
            }
            count as f64 / spent.as_secs_f64()
        })
        .fold(0.0, f64::max)
}

/// The yardstick with its flows open, and what gives it one batch.
pub fn bare(case: Case) -> (Bare, impl FnMut(&mut Bare) -> usize) {
    let traffic = Traffic::new(false, From::Client, 64, ACK);
    let mut bare = Bare::new(case.connections);
    let mut frame = [0; 64];
    for number in 0..case.connections as u32 {
        traffic.write(number, &mut frame);
        bare.open(&frame);
    }
    let mut buffers = vec![0u8; BATCH * STRIDE];
    let mut random = 88_172_645_463_325_252u64;
    let feed = move |bare: &mut Bare| {
        let mut frames: arrayvec::ArrayVec<&mut [u8; 64], BATCH> = arrayvec::ArrayVec::new();
        for buffer in buffers.chunks_exact_mut(STRIDE) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let number = ((random >> 32) * case.connections as u64) >> 32;
            traffic.write(number as u32, &mut buffer[HEADROOM..]);
            frames.push(buffer[HEADROOM..].first_chunk_mut().unwrap());
        }
        let found = bare.pass(&mut frames);
        assert_eq!(found, BATCH);
        found
    };
    (bare, feed)
}

/// Memory per connection, all in.
pub fn memory() -> (&'static str, String) {
    let case = Case { work: Work::New, v6: false, connections: 1_000_000, size: 64 };
    let director = director(case, 1);
    let connections = director.connections();
    let bytes = connections.memory() as f64 / connections.capacity() as f64;
    ("memory per connection, bytes", format!("{bytes:.1}"))
}
