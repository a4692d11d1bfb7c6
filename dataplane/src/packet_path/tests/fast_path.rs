//! The fast path and the general path do the same to every packet.
//!
//! Two directors see the same frames at the same times: one judges batches as in life, the other
//! judges each frame by [`PacketPath::one`] alone. Whatever can be seen of them has to be equal.

use super::fixture::packet::*;
use super::fixture::*;
use crate::frame::{BATCH, HEADROOM, Segmentation};

use crate::packet_path::connections::ConnectionInfo;
use crate::packet_path::counters::Traffic;
use crate::packet_path::reals::Load;
use crate::packet_path::*;
use crate::table::*;
use crate::tick::Ticks;
use crate::wire::{byte, ip as number, put16, transport::tcp as header};
use proptest::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

/// Services by port of the VIP; every method, and everything that needs more than new addresses.
fn services() -> Vec<Service> {
    let gue = |checksum| Tunnel::Gue { port: 6080, checksum };
    let kinds: [(u16, Method, Protocol); 15] = [
        (80, Method::Nat, Protocol::Tcp),
        (81, Method::DirectRouting, Protocol::Tcp),
        (82, Method::Tunnel(Tunnel::Ipip), Protocol::Tcp),
        (83, Method::FullNat, Protocol::Tcp),
        (84, Method::FullNat, Protocol::Tcp),
        (85, Method::Nat, Protocol::Tcp),
        (21, Method::Nat, Protocol::Tcp),
        (53, Method::Nat, Protocol::Udp),
        (54, Method::DirectRouting, Protocol::Udp),
        (55, Method::FullNat, Protocol::Udp),
        (86, Method::Tunnel(Tunnel::Gre { checksum: false }), Protocol::Tcp),
        (87, Method::Tunnel(Tunnel::Gre { checksum: true }), Protocol::Tcp),
        (56, Method::Tunnel(gue(GueChecksum::None)), Protocol::Udp),
        (57, Method::Tunnel(gue(GueChecksum::Full)), Protocol::Udp),
        (58, Method::Tunnel(Tunnel::Ipip), Protocol::Udp),
    ];
    let mut services = Vec::new();
    for v6 in [false, true] {
        for (port, method, protocol) in kinds {
            let id = services.len() as u32;
            let mut one = service(id, v6, protocol, method);
            let address = ip(if v6 { VIP6 } else { VIP4 });
            one.key = ServiceKey::Address { protocol, address, port };
            one.reals =
                [13, 12].iter().zip(id * 2..).map(|(n, id)| real(id, v6, *n, method)).collect();
            match port {
                84 => one.client_address = ClientAddress::TcpOption(254),
                85 | 53 => {
                    let mask = !0;
                    one.persistence = Some(Persistence { timeout: Ticks::from_secs(50), mask });
                    one.return_by_mac = port == 85;
                }
                _ => {}
            }
            services.push(one);
        }
    }
    services
}

/// What a step of the story is made of; the meaning of the numbers is in [`Story::frame`].
#[derive(Clone, Debug)]
enum Step {
    /// A client sends.
    Client { v6: bool, client: u8, service: u8, shape: Shape },
    /// A real server answers a frame that left not long ago.
    Answer { which: u8, shape: Shape },
    /// A frame that arrived not long ago arrives again.
    Again { which: u8 },
    /// The path to a real server turns out to be narrow.
    TooBig { which: u8 },
    /// Time passes; the batch ends.
    Pause { ticks: u16 },
    /// The batch ends.
    End,
    /// A new configuration: other timeouts, drained or removed real servers, a backup's.
    Configure { what: u8 },
}

/// What is unusual about a frame.
#[derive(Clone, Debug)]
struct Shape {
    flags: u8,
    payload: u16,
    hop_limit: u8,
    oddity: u8,
    offload: u8,
}

fn shape() -> impl Strategy<Value = Shape> {
    let flags = prop_oneof![6 => Just(0x10u8), 2 => Just(0x18), 3 => Just(0x02), 1 => any::<u8>()];
    let payload = prop_oneof![8 => 0u16..64, 1 => 1300u16..1700, 1 => 2000u16..20_000];
    let hop_limit = prop_oneof![12 => Just(64u8), 1 => 0u8..4];
    (flags, payload, hop_limit, 0u8..40, 0u8..12).prop_map(
        |(flags, payload, hop_limit, oddity, offload)| Shape {
            flags,
            payload,
            hop_limit,
            oddity,
            offload,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (any::<bool>(), 0u8..3, 0u8..15, shape()).prop_map(
            |(v6, client, service, shape)| Step::Client { v6, client, service, shape }
        ),
        8 => (any::<u8>(), shape()).prop_map(|(which, shape)| Step::Answer { which, shape }),
        4 => any::<u8>().prop_map(|which| Step::Again { which }),
        1 => any::<u8>().prop_map(|which| Step::TooBig { which }),
        2 => prop_oneof![0u16..600, 0u16..40_000].prop_map(|ticks| Step::Pause { ticks }),
        4 => Just(Step::End),
        1 => (0u8..6).prop_map(|what| Step::Configure { what }),
    ]
}

type Arriving = (PortId, Vec<u8>, Offload);

/// All that can be seen of a director from outside.
#[derive(PartialEq, Debug)]
struct Seen {
    verdicts: Vec<Verdict>,
    frames: Vec<(Vec<u8>, Offload)>,
    outbox: Vec<Left>,
    totals: [u64; 4],
    drops: Vec<u64>,
    traffic: Vec<Traffic>,
    loads: Vec<Load>,
    connections: Vec<ConnectionInfo>,
}

struct Story {
    fast: Network,
    general: Network,
    /// Frames of the batch being gathered.
    batch: Vec<Arriving>,
    /// Frames that arrived, and that left, latest last.
    arrived: Vec<Arriving>,
    left: Vec<Vec<u8>>,
    taken: usize,
}

impl Story {
    fn new() -> Self {
        let [fast, general] = [(); 2].map(|()| Network::new(services()));
        let (batch, arrived, left) = Default::default();
        Self { fast, general, batch, arrived, left, taken: 0 }
    }

    fn tell(&mut self, step: &Step) {
        match step {
            Step::Client { v6, client, service, shape } => {
                let client = match (*v6, client) {
                    (false, 0) => ("198.51.100.7", 4242),
                    (false, 1) => ("198.51.100.8", 4242),
                    (false, _) => ("198.51.100.7", 0),
                    (true, 0) => ("2001:db8:9::7", 4242),
                    (true, 1) => ("2001:db8:9::8", 1),
                    (true, _) => ("2001:db8:9::7", 0),
                };
                let ports = [80, 81, 82, 83, 84, 85, 21, 53, 54, 55, 86, 87, 56, 57, 58];
                let port = ports[usize::from(*service)];
                let vip = (if *v6 { VIP6 } else { VIP4 }, port);
                let payload = vec![7; usize::from(shape.payload)];
                let bytes = if (53..59).contains(&port) {
                    udp((client, vip), &payload)
                } else {
                    tcp((client, vip), "A", &payload)
                };
                self.arrive(OUTSIDE, bytes, shape);
            }
            Step::Answer { which, shape } => {
                let Some(question) = recent(&self.left, *which) else { return };
                let Ok(parse::Parsed::Ip(to)) = parse::frame(question) else { return };
                let (from, to) = (
                    (to.destination.to_string(), to.destination_port),
                    (to.source.to_string(), to.source_port),
                );
                let ends = ((from.0.as_str(), from.1), (to.0.as_str(), to.1));
                let payload = vec![9; usize::from(shape.payload)];
                let bytes =
                    if byte(question, 23) == number::UDP || byte(question, 20) == number::UDP {
                        udp(ends, &payload)
                    } else {
                        tcp(ends, "A", &payload)
                    };
                self.arrive(INSIDE, bytes, shape);
            }
            Step::Again { which } => {
                let Some(frame) = recent(&self.arrived, *which).cloned() else { return };
                self.batch.push(frame);
            }
            Step::TooBig { which } => {
                let Some(about) = recent(&self.left, *which) else { return };
                let Ok(parse::Parsed::Ip(packet)) = parse::frame(about) else { return };
                let router = if packet.is_v4() { "10.0.0.9" } else { "2001:db8:2::9" };
                let bytes = too_big(router, &packet.source.to_string(), 1400, about);
                self.batch.push((INSIDE, bytes, Offload::default()));
            }
            Step::Pause { ticks } => {
                self.end_batch();
                for net in [&mut self.fast, &mut self.general] {
                    net.now = net.now.after(Ticks(u32::from(*ticks)));
                }
                let [a, b] = [&mut self.fast, &mut self.general].map(|net| net.pass(1));
                assert_eq!(a, b);
            }
            Step::End => self.end_batch(),
            Step::Configure { what } => {
                self.end_batch();
                let mut timeouts = Timeouts::default();
                let mut list = services();
                let reals = |change: fn(&mut Real)| {
                    move |one: &mut Service| {
                        one.reals = one
                            .reals
                            .iter()
                            .cloned()
                            .map(|mut real| {
                                change(&mut real);
                                real
                            })
                            .collect();
                    }
                };
                match what {
                    0 => timeouts.tcp = Ticks::from_secs(100),
                    1 => list.iter_mut().for_each(reals(|real| real.weight = 0)),
                    2 => list.iter_mut().for_each(|one| one.reals = [].into()),
                    3 => timeouts.udp = Ticks::from_secs(1000),
                    _ => {}
                }
                let silent = if *what == 5 { vec![ip(VIP4)] } else { vec![] };
                for net in [&mut self.fast, &mut self.general] {
                    let table = table(list.clone(), timeouts, Tunables::default());
                    net.director.publish(table.with_silent(silent.clone()), net.now);
                }
            }
        }
        if self.batch.len() == BATCH {
            self.end_batch();
        }
    }

    /// Lets a frame join the batch, as unusual as its shape says.
    fn arrive(&mut self, port: PortId, mut bytes: Vec<u8>, shape: &Shape) {
        let packet = parsed(&bytes);
        if packet.protocol == number::TCP {
            bytes[packet.l4 + header::FLAGS] = shape.flags;
        }
        bytes[packet.l3 + if packet.is_v4() { 8 } else { 7 }] = shape.hop_limit;
        match shape.oddity {
            0 => drop(bytes.splice(12..12, [0x81, 0x00, 0x00, 0x05])),
            1 => bytes.extend([0; 9]),
            2 => bytes.truncate(bytes.len() - 1),
            3 => bytes.truncate(30),
            4 if packet.is_v4() => put16(&mut bytes, packet.l3 + 6, 0x2000),
            5 if packet.is_v4() => put16(&mut bytes, packet.l3 + 6, 0x00b9),
            6 if packet.is_v4() => bytes[packet.l3] = 0x46,
            7 => bytes[packet.l3 + if packet.is_v4() { 9 } else { 6 }] = number::SCTP,
            8 if packet.protocol == number::TCP => {
                bytes[packet.l4 + 12] = bytes[packet.l4 + 12].wrapping_add(0x10);
            }
            9 => put16(
                &mut bytes,
                packet.l4 + if packet.protocol == number::UDP { 6 } else { 16 },
                0,
            ),
            10 => bytes[packet.l3] ^= 0x10,
            11 => put16(&mut bytes, packet.l3 + if packet.is_v4() { 2 } else { 4 }, 19),
            _ => {}
        }
        let mut offload = Offload::default();
        if shape.offload < 3 {
            offload.partial_checksum = true;
            offload.checksum_start = packet.l4 as u16;
            offload.checksum_offset = if packet.protocol == number::UDP { 6 } else { 16 };
        }
        if matches!(shape.offload, 1..4) {
            let sizes = [0, 1, 500, 1400, 1448, 1460, 1461, 3000, u16::MAX];
            offload.segment_size = sizes[usize::from(shape.payload) % sizes.len()];
            offload.header_length = packet.l4 as u16 + 20;
            offload.segmentation = match (packet.protocol, packet.is_v4()) {
                (number::UDP, _) => Segmentation::Udp,
                (_, true) => Segmentation::Tcp4 { ecn: false },
                (_, false) => Segmentation::Tcp6 { ecn: true },
            };
        }
        self.batch.push((port, bytes, offload));
    }

    fn end_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let mut taken = 0;
        let fast = see(&mut self.fast, &batch, |path, view, frames, verdicts| {
            taken = path.judge(view, frames, verdicts);
        });
        self.taken += taken;
        let general = see(&mut self.general, &batch, |path, view, frames, verdicts| {
            view.director.connections().begin_batch(&path.owned);
            let mut sent = 0;
            for frame in frames.iter_mut() {
                let verdict = path.one(view, frame, None).unwrap_or_else(Verdict::Drop);
                sent += path.count(verdict);
                verdicts.push(verdict);
            }
            bump(&path.counters.received, frames.len() as u64);
            bump(&path.counters.sent, sent);
            if path.first_parts_seen {
                path.retry_held(view);
            }
        });
        assert_eq!(fast, general);
        let out = fast
            .verdicts
            .iter()
            .zip(fast.frames)
            .filter(|(verdict, _)| **verdict == Verdict::Send(INSIDE));
        self.left.extend(out.map(|(_, (bytes, _))| bytes));
        self.arrived.extend(batch);
        self.left.drain(..self.left.len().saturating_sub(32));
        self.arrived.drain(..self.arrived.len().saturating_sub(32));
    }
}

fn recent<T>(list: &[T], which: u8) -> Option<&T> {
    list.get(list.len().checked_sub(1 + usize::from(which) % list.len().max(1))?)
}

/// Lets a batch arrive and looks at everything.
fn see(
    net: &mut Network,
    batch: &[Arriving],
    judge: impl FnOnce(&mut PacketPath, View<'_>, &mut Batch<'_>, &mut Verdicts),
) -> Seen {
    let mut buffers: Vec<Vec<u8>> = batch
        .iter()
        .map(|(_, bytes, _)| [&[0xa5; HEADROOM], bytes.as_slice(), &[0xa5; 300]].concat())
        .collect();
    let mut frames = Batch::new();
    for (buffer, (port, bytes, offload)) in buffers.iter_mut().zip(batch) {
        let mut frame = Frame::new(buffer, HEADROOM, HEADROOM + bytes.len(), *port);
        frame.offload = *offload;
        frames.push(frame);
    }
    let director = std::sync::Arc::clone(&net.director);
    let (table, hops) = (director.table(), director.hops());
    let view = View { director: &director, table: &table, hops: &hops, now: net.now };
    let mut verdicts = Verdicts::new();
    judge(&mut net.path, view, &mut frames, &mut verdicts);
    let frames = frames.iter().map(|frame| (frame.bytes().to_vec(), frame.offload)).collect();
    let counters = &director.all_counters()[0];
    let totals = [&counters.received, &counters.sent, &counters.host, &counters.shed];
    let reals = || (0..64).map(RealId);
    Seen {
        verdicts: verdicts.to_vec(),
        frames,
        outbox: net.outbox(),
        totals: totals.map(|total| total.load(Relaxed)),
        drops: DropReason::ALL.iter().map(|reason| counters.drops(*reason)).collect(),
        traffic: reals().map(|id| director.traffic(id)).collect(),
        loads: reals().map(|id| director.reals().load(id)).collect(),
        connections: director.connections().page(0, 1000, director.reals(), net.now).connections,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]
    #[test]
    fn both_paths_do_the_same_to_every_packet(steps in proptest::collection::vec(step(), 1..160)) {
        let mut story = Story::new();
        for step in &steps {
            story.tell(step);
        }
        story.end_batch();
    }
}

/// `VIADUCT_STORIES` sets how many stories are told (default 300).
fn cases() -> u32 {
    std::env::var("VIADUCT_STORIES").map_or(300, |text| text.parse().expect("a number"))
}

#[test]
fn ordinary_packets_of_every_kind_take_the_fast_path() {
    let calm = Shape { flags: 0x10, payload: 20, hop_limit: 64, oddity: 99, offload: 99 };
    let open = Shape { flags: 0x02, ..calm.clone() };
    // Segments of 500 bytes.
    let large = Shape { payload: 18_002, offload: 1, ..calm.clone() };
    // All but the announced client and FTP.
    for service in [0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14] {
        for v6 in [false, true] {
            let mut story = Story::new();
            let mut send = |shape: &Shape| {
                let shape = shape.clone();
                story.tell(&Step::Client { v6, client: 0, service, shape });
                story.tell(&Step::End);
                std::mem::take(&mut story.taken)
            };
            send(&open);
            send(&calm);
            assert_eq!(send(&calm), 1, "from the client, service {service}, IPv6 {v6}");
            // Tunnels cut what the network card cannot.
            let whole = usize::from(!matches!(service, 2 | 10..));
            assert_eq!(send(&large), whole, "a super-frame, service {service}, IPv6 {v6}");
            if matches!(service, 1 | 2 | 5 | 8 | 10..) {
                continue; // Replies pass by, or follow a MAC.
            }
            let mut answer = |shape: &Shape| {
                story.tell(&Step::Answer { which: 0, shape: shape.clone() });
                story.tell(&Step::End);
                std::mem::take(&mut story.taken)
            };
            answer(&calm);
            assert_eq!(answer(&calm), 1, "from the real server, service {service}, IPv6 {v6}");
            assert_eq!(answer(&large), 1, "a super-frame back, service {service}, IPv6 {v6}");
        }
    }
}
