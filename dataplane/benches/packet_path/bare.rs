//! The least that any director does: look a flow up and rewrite its packet, in batches with
//! prefetch. No parsing, no states, no timers, no second family: the yardstick for the real path.

use dataplane::frame::BATCH;
use dataplane::memory::prefetch;

/// One flow in one cache line.
#[repr(align(64))]
#[derive(Clone, Copy, Default)]
struct Flow {
    client: u64,
    destination: u32,
    port: u16,
    packets: u64,
    bytes: u64,
}

pub struct Bare {
    flows: Vec<Flow>,
    mask: usize,
}

impl Bare {
    pub fn new(connections: usize) -> Self {
        let size = (connections * 5 / 3).next_power_of_two();
        let mut flows = Vec::with_capacity(size);
        dataplane::memory::huge_pages(&mut flows);
        flows.resize(size, Flow::default());
        Self { flows, mask: size - 1 }
    }

    fn place(&self, client: u64) -> usize {
        (client.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) as usize & self.mask
    }

    pub fn open(&mut self, frame: &[u8]) {
        let client = client(frame);
        let mut at = self.place(client);
        while self.flows[at].client != 0 {
            at = (at + 1) & self.mask;
        }
        self.flows[at] = Flow { client, destination: 0x0a00_0001, port: 8080, ..Flow::default() };
    }

    /// Rewrites a batch. How many packets had a flow.
    #[inline(never)]
    pub fn pass(&mut self, frames: &mut [&mut [u8; 64]]) -> usize {
        let mut places = [0; BATCH];
        for (frame, place) in frames.iter().zip(&mut places) {
            *place = self.place(client(*frame));
            prefetch(&self.flows, *place);
        }
        let mut found = 0;
        for (frame, place) in frames.iter_mut().zip(&places) {
            let client = client(*frame);
            let mut at = *place;
            while self.flows[at].client != client && self.flows[at].client != 0 {
                at = (at + 1) & self.mask;
            }
            let flow = &mut self.flows[at];
            if flow.client == client {
                flow.packets += 1;
                flow.bytes += 50;
                rewrite(frame, flow);
                found += 1;
            }
        }
        found
    }
}

fn client(frame: &[u8]) -> u64 {
    let word = |at: usize| u64::from(u32::from_be_bytes([0, 1, 2, 3].map(|i| frame[at + i])));
    word(26) << 16 | word(34) >> 16
}

fn rewrite(frame: &mut [u8; 64], flow: &Flow) {
    let half =
        |at: usize, frame: &[u8; 64]| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let old = half(30, frame) + half(32, frame);
    let new = (flow.destination >> 16) + (flow.destination & 0xffff);
    let addresses = 2 * 0xffff - old + new;
    let ports = 0xffff - half(36, frame) + u32::from(flow.port);
    frame[30..34].copy_from_slice(&flow.destination.to_be_bytes());
    frame[36..38].copy_from_slice(&flow.port.to_be_bytes());
    for (at, delta) in [(24, addresses + 0xfeff), (50, addresses + ports)] {
        let sum = (0xffff - half(at, frame)) + delta;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        frame[at..at + 2].copy_from_slice(&(!sum as u16).to_be_bytes());
    }
    frame[22] -= 1;
}
