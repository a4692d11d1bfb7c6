//! What both worlds are made to do.

use dataplane::table::{Family, Scheduler, SchedulerFlags};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One service's life. Scenarios share nothing, so many run beside each other.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    /// Different for all scenarios that run together: it makes the VIP or the mark.
    pub number: u8,
    pub family: Family,
    /// A mark service, whose clients ask for many addresses; else one VIP, port 80.
    pub by_mark: bool,
    pub scheduler: Scheduler,
    pub flags: SchedulerFlags,
    pub phases: Vec<Phase>,
}

/// First the operator's changes, then traffic, then the end of what was closed.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    pub changes: Vec<Change>,
    pub traffic: Vec<Traffic>,
    /// Whether all closed connections end after the traffic.
    pub expire: bool,
}

/// One real server's settings; `number` makes its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Server {
    pub number: u8,
    pub weight: u32,
    pub upper: u32,
    pub lower: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Change {
    Add(Server),
    Edit(Server),
    Delete(u8),
    EditService(Scheduler, SchedulerFlags),
}

#[derive(Clone, Copy, Debug)]
pub enum Traffic {
    /// A new connection. Its port follows from its place among the scenario's connections.
    Connect { client: u8, destination: u8 },
    /// The client of the n-th connection sends FIN.
    Close(usize),
}

/// The server that each connection got, in order; `None` when none would take it.
pub type Choices = Vec<Option<u8>>;

/// The four corners of a connection, as seen in its packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Corner {
    pub client: IpAddr,
    pub port: u16,
    pub destination: IpAddr,
}

pub const SERVICE_PORT: u16 = 80;
const FIRST_CLIENT_PORT: u16 = 1024;

impl Server {
    pub const fn new(number: u8, weight: u32) -> Self {
        Self { number, weight, upper: 0, lower: 0 }
    }

    pub const fn limits(self, upper: u32, lower: u32) -> Self {
        Self { upper, lower, ..self }
    }

    pub fn address(number: u8, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 0, 0, number).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, number.into()).into(),
        }
    }
}

impl Scenario {
    /// The n-th address that clients of this scenario ask for; an address service has the first
    /// alone.
    pub fn destination(&self, number: u8) -> IpAddr {
        let low = if self.by_mark { number } else { 1 };
        match self.family {
            Family::V4 => Ipv4Addr::new(198, 18, self.number, low).into(),
            Family::V6 => {
                let scenario = u16::from(self.number);
                Ipv6Addr::new(0x2001, 0xdb8, 0xb, scenario, 0, 0, 0, low.into()).into()
            }
        }
    }

    /// Clients are spread over their network, so that hashes see more than the last byte.
    fn client(&self, number: u8) -> IpAddr {
        let spread = u32::from(number).wrapping_mul(0x9e37_79b1);
        let [a, b, _, _] = spread.to_be_bytes();
        match self.family {
            Family::V4 => Ipv4Addr::new(100, 64 | (a & 63), b, number).into(),
            Family::V6 => {
                let (a, b) = (u16::from(a) << 8, u16::from(b) << 8);
                Ipv6Addr::new(0x2001, 0xdb8, 0xc, a, b, 0, 0x10, number.into()).into()
            }
        }
    }

    pub fn corner(&self, connection: usize, client: u8, destination: u8) -> Corner {
        Corner {
            client: self.client(client),
            port: FIRST_CLIENT_PORT + connection as u16,
            destination: self.destination(destination),
        }
    }

    pub fn method_port(&self) -> u16 {
        if self.by_mark { 0 } else { SERVICE_PORT }
    }

    /// The first difference, with everything that led there.
    pub fn describe_difference(&self, kernel: &Choices, ours: &Choices) -> String {
        let first = kernel.iter().zip(ours).position(|(kernel, ours)| kernel != ours);
        let first = first.unwrap_or(kernel.len().min(ours.len()));
        let mut text = format!(
            "\n{} ({:?} {:?}, {:?}): connection {first} went to {:?} in the kernel and to {:?} here\n",
            self.name,
            self.scheduler,
            self.flags,
            self.family,
            kernel.get(first),
            ours.get(first),
        );
        let mut connection = 0;
        for (number, phase) in self.phases.iter().enumerate() {
            let _ = writeln!(text, " phase {number}: {:?}", phase.changes);
            for traffic in &phase.traffic {
                match traffic {
                    Traffic::Close(closed) => {
                        let _ = write!(text, " close:{closed}");
                    }
                    Traffic::Connect { client, destination } => {
                        let server = kernel.get(connection).copied().flatten();
                        let corner = self.corner(connection, *client, *destination);
                        let _ = write!(text, " {connection}:{}", server.unwrap_or(0));
                        if connection == first {
                            let _ = writeln!(text, " <- {corner:?}");
                            return text;
                        }
                        connection += 1;
                    }
                }
            }
            let _ = writeln!(text, "{}", if phase.expire { " expire" } else { "" });
        }
        text
    }
}
