//! Two workers beside one: how much more they do together.

use super::director::{Bench, director};
use super::{Case, Forwarding, Work};
use std::sync::{Arc, Barrier};

const ROUNDS: usize = 5;

/// The rate of two workers over that of one, the median of several rounds. Each worker has its own
/// half of the connections, as a network card's queues would deal them out; the rate is by CPU
/// time, so on a busy machine it shows what the workers do to each other and nothing else.
pub fn ratio() -> (&'static str, String) {
    let case =
        Case { work: Work::Known(Forwarding::Nat), v6: false, connections: 100_000, size: 64 };
    let director = director(case, 2);
    let half = case.connections as u32 / 2;
    let mut benches: Vec<Bench> =
        (0..2).map(|worker| Bench::of(case, Arc::clone(&director), worker)).collect();
    for (worker, bench) in (0..).zip(&mut benches) {
        bench.open_some(worker * half..(worker + 1) * half);
    }
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let one = run(case, &mut benches[..1], half);
            let two = run(case, &mut benches, half);
            two / one
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    ("two workers over one", format!("{:.2}", ratios[ROUNDS / 2]))
}

fn run(case: Case, benches: &mut [Bench], half: u32) -> f64 {
    let start = Barrier::new(benches.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(benches)
            .map(|(worker, bench): (u32, &mut Bench)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    bench.rate_once(case, worker * half..(worker + 1) * half)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}
