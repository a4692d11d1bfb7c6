//! Test runs of the programs in the kernel.

use super::*;
use crate::io::bpf::Load;
use aya::programs::Program;
use aya::{TestRun, TestRunOptions, TestRunResult};

/// How the frame of a test run arrives.
#[derive(Clone, Copy, Default, Debug)]
pub struct Arrival {
    /// The interface that it is said to have come in on, of the current network namespace; 0 for none.
    pub interface: u32,
    /// Its control block, where programs leave notes for each other.
    pub control: [u32; 5],
}

/// What a test run gave.
pub struct Outcome {
    /// What the program returned.
    pub returned: i32,
    /// The control block afterwards.
    pub control: [u32; 5],
}

/// Runs a program that sees socket buffers.
pub fn run<P>(steering: &Steering, name: &'static str, frame: &[u8], arrival: &Arrival) -> Outcome
where
    P: Load,
    for<'p, 'a> P: TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult> + 'p,
    for<'o> &'o mut P: TryFrom<&'o mut Program>,
{
    // struct __sk_buff: ifindex is the eleventh word, cb begins with the thirteenth.
    const CONTROL: std::ops::Range<usize> = 12..17;
    let mut context = [0u32; 48];
    context[10] = arrival.interface;
    context[CONTROL].copy_from_slice(&arrival.control);
    let (returned, after) = run_in::<P>(steering, name, frame, &context);
    Outcome { returned, control: *after[CONTROL].first_chunk().unwrap() }
}

/// Runs the driver's program.
pub fn run_xdp(steering: &Steering, frame: &[u8], interface: u32) -> i32 {
    // struct xdp_md: the second word is the length, the fourth the interface.
    let context = [0, frame.len() as u32, 0, interface, 0, 0];
    run_in::<aya::programs::Xdp>(steering, "viaduct_xdp", frame, &context).0
}

fn run_in<P>(
    steering: &Steering,
    name: &'static str,
    frame: &[u8],
    context: &[u32],
) -> (i32, Vec<u32>)
where
    P: Load,
    for<'p, 'a> P: TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult> + 'p,
    for<'o> &'o mut P: TryFrom<&'o mut Program>,
{
    let before: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut after = before.clone();
    let mut programs = steering.programs();
    let program: &mut P = bpf::program(&mut programs, name).unwrap();
    let options = TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(&before),
        ctx_out: Some(&mut after),
        ..TestRunOptions::new()
    };
    let result = program.test_run(options).unwrap();
    let words = after.chunks_exact(4).map(|word| u32::from_ne_bytes(*word.first_chunk().unwrap()));
    (result.return_value.cast_signed(), words.collect())
}
