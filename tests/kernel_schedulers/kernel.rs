//! The kernel's side: the guest is the director, this test is everybody else.

use super::book::{Book, State};
use super::frames::{self, DIRECTOR, ROUTER, ROUTER_MAC, Seen, Segment, server_mac};
use super::scenario::{Change, Choices, Corner, SERVICE_PORT, Scenario, Server, Traffic};
use anyhow::{Context, Result, bail, ensure};
use dataplane::table::{Family, Scheduler, SchedulerFlags};
use harness::guest::{Guest, IPVS, NFTABLES, Options, Wire};
use harness::host::written_mac;
use std::collections::BTreeMap;
use std::time::Duration;

/// Segments in flight: below the 256 places of the guest's receive queue.
const WINDOW: usize = 96;
/// Ends a hang; never reached by a guest that works.
const PATIENCE: Duration = Duration::from_secs(120);
/// Timeouts of TCP, TCP after FIN, and UDP that no test lives to see.
const LONG: &str = "7200 7200 7200";
const SHORT_FIN: &str = "7200 1 7200";

pub struct Kernel {
    guest: Guest,
    wire: Wire,
    books: Vec<Book>,
    /// What became of each SYN.
    seen: BTreeMap<Corner, Option<u8>>,
    in_flight: usize,
    barriers: u16,
}

impl Kernel {
    /// Boots the guest and sets up its network and services, without servers.
    pub fn start(scenarios: &[Scenario]) -> Result<Self> {
        let wire = Wire::new()?;
        let modules = [IPVS, NFTABLES].concat();
        let options = Options { nics: vec![wire.nic()], modules, ..Options::default() };
        let mut guest = Guest::boot(&options)?;
        let commands = network(scenarios);
        for (command, output) in commands.iter().zip(guest.run_all(&commands)?) {
            ensure!(output.code == 0, "`{command}`: {output:?}");
        }
        let books = scenarios.iter().map(|_| Book::default()).collect();
        let mut kernel =
            Self { guest, wire, books, seen: BTreeMap::new(), in_flight: 0, barriers: 0 };
        let services = scenarios.iter().map(|s| service_line("-A", s, s.scheduler, s.flags));
        kernel.ipvsadm(&services.collect::<Vec<_>>())?;
        Ok(kernel)
    }

    /// All scenarios beside each other: the first phase of each, then the second.
    pub fn run(&mut self, scenarios: &[Scenario]) -> Result<Vec<Choices>> {
        let phases = scenarios.iter().map(|s| s.phases.len()).max().unwrap_or(0);
        for phase in 0..phases {
            self.change(scenarios, phase)?;
            for (index, scenario) in scenarios.iter().enumerate() {
                self.traffic(index, scenario, phase)?;
            }
            self.expire(scenarios, phase)?;
        }
        let choices = |book: &Book| {
            let connections = (0..book.len()).filter_map(|number| book.connection(number));
            connections.map(|c| (c.state != State::Refused).then_some(c.server)).collect()
        };
        Ok(self.books.iter().map(choices).collect())
    }

    fn change(&mut self, scenarios: &[Scenario], phase: usize) -> Result<()> {
        let mut lines = Vec::new();
        for (scenario, book) in scenarios.iter().zip(&mut self.books) {
            for change in scenario.phases.get(phase).map_or(&[][..], |phase| &phase.changes) {
                book.change(*change);
                lines.push(change_line(scenario, *change));
            }
        }
        self.ipvsadm(&lines)
    }

    fn ipvsadm(&mut self, lines: &[String]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.guest.put_file("/tmp/rules", format!("{}\n", lines.join("\n")).as_bytes())?;
        let output = self.guest.run("ipvsadm -R </tmp/rules")?;
        let quiet = output.stderr.is_empty() && output.stdout.is_empty();
        ensure!(output.code == 0 && quiet, "ipvsadm -R: {output:?} for\n{}", lines.join("\n"));
        Ok(())
    }

    fn traffic(&mut self, index: usize, scenario: &Scenario, phase: usize) -> Result<()> {
        let Some(phase) = scenario.phases.get(phase) else { return Ok(()) };
        let corners = corners(scenario);
        let mut asked = self.books[index].len();
        let mut pending = Vec::new();
        for traffic in &phase.traffic {
            if let Traffic::Close(number) = traffic {
                pending.push(*traffic);
                self.send(&corners[*number], Segment::Fin)?;
            } else {
                pending.push(*traffic);
                self.send(&corners[asked], Segment::Syn)?;
                self.send(&corners[asked], Segment::Ack)?;
                asked += 1;
            }
        }
        self.barrier()?;
        let book = &mut self.books[index];
        for traffic in pending {
            match traffic {
                Traffic::Close(number) => _ = book.close(number),
                Traffic::Connect { .. } => {
                    let corner = &corners[book.len()];
                    let outcome = self.seen.remove(corner);
                    let lost = || format!("{}: the kernel swallowed {corner:?}", scenario.name);
                    book.connect(outcome.with_context(lost)?);
                }
            }
        }
        Ok(())
    }

    /// Closed connections get a short timeout with one more packet, and are waited for.
    fn expire(&mut self, scenarios: &[Scenario], phase: usize) -> Result<()> {
        let mut ended = Vec::new();
        for (scenario, book) in scenarios.iter().zip(&mut self.books) {
            if scenario.phases.get(phase).is_some_and(|phase| phase.expire) {
                let corners = corners(scenario);
                ended.extend(book.expire().into_iter().map(|number| corners[number]));
            }
        }
        if ended.is_empty() {
            return Ok(());
        }
        self.guest.sh(&format!("ipvsadm --set {SHORT_FIN}"))?;
        for corner in &ended {
            self.send(corner, Segment::Ack)?;
        }
        self.barrier()?;
        self.guest.sh(&format!("ipvsadm --set {LONG}"))?;
        self.await_counts()
    }

    /// Waits until the servers' counters say what the books say. The counters are exact, unlike a
    /// list of connections read while some of them end.
    fn await_counts(&mut self) -> Result<()> {
        let sum = |state| self.books.iter().map(|book| book.count_present(state)).sum::<u32>();
        let expected = format!("{} {}", sum(State::Active), sum(State::Closed));
        let count = "awk '/->/ { a += $(NF-1); i += $NF } END { print a, i }' /proc/net/ip_vs";
        let output = self.guest.run(&format!(
            "for try in $(seq 2000); do
                 counted=$({count}); [ \"$counted\" = '{expected}' ] && exit
                 usleep 20000
             done; cat /proc/net/ip_vs; exit 1"
        ))?;
        ensure!(output.code == 0, "not {expected} connections at last: {}", output.stdout);
        Ok(())
    }

    fn send(&mut self, corner: &Corner, segment: Segment) -> Result<()> {
        if self.in_flight >= WINDOW {
            self.barrier()?;
        }
        self.wire.send(&frames::segment(self.guest.mac(0), corner, segment)?)?;
        self.in_flight += 1;
        Ok(())
    }

    /// Waits until the kernel has handled all that was sent.
    fn barrier(&mut self) -> Result<()> {
        self.barriers = self.barriers.wrapping_add(1);
        self.wire.send(&frames::barrier(self.guest.mac(0), self.barriers)?)?;
        self.in_flight = 0;
        loop {
            let Some(frame) = self.wire.receive(PATIENCE)? else {
                bail!("no answer to a ping; console:\n{}", self.guest.console_tail());
            };
            match frames::read(frame)? {
                Seen::Barrier(number) if number == self.barriers => return Ok(()),
                Seen::Forwarded(corner, server) => _ = self.seen.insert(corner, Some(server)),
                Seen::Refused(corner) => _ = self.seen.insert(corner, None),
                Seen::Barrier(_) | Seen::Other => {}
            }
        }
    }
}

/// Every connection of a scenario, by number.
fn corners(scenario: &Scenario) -> Vec<Corner> {
    let connects = scenario.phases.iter().flat_map(|phase| &phase.traffic);
    let connects = connects.filter_map(|traffic| match traffic {
        Traffic::Connect { client, destination } => Some((*client, *destination)),
        Traffic::Close(_) => None,
    });
    connects.enumerate().map(|(n, (client, to))| scenario.corner(n, client, to)).collect()
}

/// Commands that make the guest a director which knows every server's Ethernet address.
fn network(scenarios: &[Scenario]) -> Vec<String> {
    let mut commands: Vec<String> = [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv6.conf.default.accept_dad=0",
        "net.ipv6.conf.eth0.accept_dad=0",
        // Each refusal is to be seen.
        "net.ipv4.icmp_ratelimit=0",
        "net.ipv4.icmp_msgs_per_sec=1000000",
        "net.ipv4.icmp_msgs_burst=1000000",
        "net.ipv6.icmp.ratelimit=0",
    ]
    .map(|setting| format!("sysctl -w {setting}"))
    .into();
    let lladdr = written_mac(ROUTER_MAC);
    commands.extend([
        "ip link set eth0 up".into(),
        format!("ip addr add {DIRECTOR}/16 dev eth0"),
        "ip -6 addr add 2001:db8:a::ff01/64 dev eth0 nodad".into(),
        format!("ip neigh replace {ROUTER} lladdr {lladdr} dev eth0 nud permanent"),
        format!("ip -6 neigh replace fe80::fe lladdr {lladdr} dev eth0 nud permanent"),
        format!("ip route add default via {ROUTER} dev eth0"),
        "ip -6 route add default via fe80::fe dev eth0".into(),
        "ip route add local 198.18.0.0/15 dev lo".into(),
        "ip -6 route add local 2001:db8:b::/48 dev lo".into(),
        format!("ipvsadm --set {LONG}"),
        "nft add table inet marks".into(),
        "nft 'add chain inet marks pre { type filter hook prerouting priority mangle; }'".into(),
    ]);
    commands.push(neighbours());
    for scenario in scenarios.iter().filter(|scenario| scenario.by_mark) {
        let (block, number) = (scenario.destination(0), scenario.number);
        let (family, length) = match scenario.family {
            Family::V4 => ("ip", 24),
            Family::V6 => ("ip6", 64),
        };
        let rule = format!("{family} daddr {block}/{length} meta mark set {}", mark(number));
        commands.push(format!("nft add rule inet marks pre {rule}"));
    }
    commands
}

fn neighbours() -> String {
    let mut batch = String::from("ip -force -batch - <<END\n");
    for number in 1..=64 {
        let mac = written_mac(server_mac(number));
        for family in [Family::V4, Family::V6] {
            let address = Server::address(number, family);
            batch += &format!("neigh replace {address} lladdr {mac} dev eth0 nud permanent\n");
        }
    }
    batch + "END"
}

/// Marks start at 1.
fn mark(number: u8) -> u32 {
    u32::from(number) + 1
}

/// How ipvsadm names the scenario's service.
fn service(scenario: &Scenario) -> String {
    match (scenario.by_mark, scenario.family) {
        (true, Family::V4) => format!("-f {}", mark(scenario.number)),
        (true, Family::V6) => format!("-f {} -6", mark(scenario.number)),
        (false, Family::V4) => format!("-t {}:{SERVICE_PORT}", scenario.destination(1)),
        (false, Family::V6) => format!("-t [{}]:{SERVICE_PORT}", scenario.destination(1)),
    }
}

fn service_line(
    verb: &str,
    scenario: &Scenario,
    scheduler: Scheduler,
    flags: SchedulerFlags,
) -> String {
    let name = format!("{scheduler:?}").to_lowercase();
    let flags = [(flags.flag_1, "flag-1"), (flags.flag_2, "flag-2"), (flags.flag_3, "flag-3")];
    let flags: Vec<_> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let flags = if flags.is_empty() { String::new() } else { format!(" -b {}", flags.join(",")) };
    format!("{verb} {} -s {name}{flags}", service(scenario))
}

fn change_line(scenario: &Scenario, change: Change) -> String {
    let real = |number| Server::address(number, scenario.family);
    let settings = |verb, server: Server| {
        let limits = format!("-x {} -y {}", server.upper, server.lower);
        let (real, weight) = (real(server.number), server.weight);
        format!("{verb} {} -r {real} -g -w {weight} {limits}", service(scenario))
    };
    match change {
        Change::Add(server) => settings("-a", server),
        Change::Edit(server) => settings("-e", server),
        Change::Delete(number) => format!("-d {} -r {}", service(scenario), real(number)),
        Change::EditService(scheduler, flags) => service_line("-E", scenario, scheduler, flags),
    }
}
