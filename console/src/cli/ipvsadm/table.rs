//! Lists of services and real servers.

use super::command::{Style, View};
use super::names::Names;
use super::text::{Endpoints, cut, flags, large, port_protocol};
use control::ipvs::{Counters, Rates, ServerEntry, ServiceEntry, ServiceSpec};
use control::model::{Family, GueChecksum, Method, Netmask, Tunnel, VirtualAddress};
use std::net::Ipv4Addr;

/// What a service's name may take of a line, unless its addresses are IPv6.
const SERVICE_WIDTH: usize = 33;
/// What a real server's name may take of a line, unless its address is IPv6.
const SERVER_WIDTH: usize = 28;

/// Writes lists of one kind.
pub(super) struct Table<'a> {
    view: View,
    exact: bool,
    endpoints: Endpoints<'a>,
}

impl<'a> Table<'a> {
    pub fn new(view: View, style: Style, names: &'a dyn Names) -> Self {
        let names = (!style.numeric).then_some(names);
        Self { view, exact: style.exact, endpoints: Endpoints { names } }
    }

    /// The two lines above the columns.
    pub fn title(&self) -> String {
        let address = "Prot LocalAddress:Port";
        let first = match self.view {
            View::Normal => {
                return "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           \
                        Forward Weight ActiveConn InActConn\n"
                    .into();
            }
            View::Tunnels => {
                return "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           \
                        Forward TunnelInfo    Weight ActiveConn InActConn\n"
                    .into();
            }
            View::Stats => format!(
                "{address:<33} {:>8} {:>8} {:>8} {:>8} {:>8}",
                "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"
            ),
            View::Rates => format!(
                "{address:<33} {:>8} {:>8} {:>8} {:>8} {:>8}",
                "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"
            ),
            View::Thresholds => format!(
                "{address:<33} {:<10} {:<10} {:<10} {:<10}",
                "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
            ),
            View::Persistent => format!(
                "{address:<33} {:<9} {:<11} {:<10} {:<10}",
                "Weight", "PersistConn", "ActiveConn", "InActConn"
            ),
        };
        format!("{first}\n  -> RemoteAddress:Port\n")
    }

    /// A service's line and those of its real servers.
    pub fn service(&self, entry: &ServiceEntry) -> String {
        let name = self.service_name(&entry.service);
        let mut lines = match self.view {
            View::Stats => format!("{name:<33}{}\n", self.counters(&entry.counters)),
            View::Rates => {
                let Rates { cps, in_pps, out_pps, in_bps, out_bps } = entry.rates;
                let numbers = [cps, in_pps, out_pps, in_bps, out_bps];
                format!("{name:<33}{}\n", self.numbers(&numbers))
            }
            View::Normal | View::Tunnels | View::Thresholds | View::Persistent => {
                format!("{name} {}\n", properties(&entry.spec))
            }
        };
        for server in &entry.servers {
            lines.push_str(&self.server(&entry.service, server));
        }
        lines
    }

    fn service_name(&self, service: &VirtualAddress) -> String {
        match service {
            // The mark is a signed number to `ipvsadm`.
            VirtualAddress::Mark { family: Family::V4, mark } => format!("FWM  {}", *mark as i32),
            VirtualAddress::Mark { family: Family::V6, mark } => {
                format!("FWM  {} IPv6", *mark as i32)
            }
            VirtualAddress::Socket { protocol, address } => {
                let shown = self.endpoints.show(address, port_protocol(service));
                let protocol = super::draft::protocol_name(*protocol).to_uppercase();
                let name = format!("{protocol:<4} {shown}");
                if address.is_ipv4() { cut(name, SERVICE_WIDTH) } else { name }
            }
        }
    }

    fn server(&self, service: &VirtualAddress, server: &ServerEntry) -> String {
        let shown = self.endpoints.show(&server.server, port_protocol(service));
        let name = if server.server.is_ipv4() { cut(shown, SERVER_WIDTH) } else { shown };
        let ServerEntry { weight, upper, lower, active, inactive, persistent, .. } = *server;
        let method = method_name(server.method);
        let columns = match self.view {
            View::Normal => format!(" {method:<7} {weight:<6} {active:<10} {inactive:<10}"),
            View::Tunnels => {
                let tunnel = tunnel_info(server.method);
                format!(" {method:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}")
            }
            View::Thresholds => format!(" {upper:<10} {lower:<10} {active:<10} {inactive:<10}"),
            View::Persistent => {
                format!(" {weight:<9} {persistent:<11} {active:<10} {inactive:<10}")
            }
            View::Stats => self.counters(&narrow_counters(&server.counters)),
            View::Rates => {
                let rates = narrow_rates(&server.rates);
                let Rates { cps, in_pps, out_pps, in_bps, out_bps } = rates;
                let bytes = self.numbers(&[in_bps, out_bps]);
                format!(" {cps:>8} {in_pps:>8} {out_pps:>8}{bytes}")
            }
        };
        format!("  -> {name:<28}{columns}\n")
    }

    fn counters(&self, counters: &Counters) -> String {
        let Counters { conns, in_pkts, out_pkts, in_bytes, out_bytes } = *counters;
        self.numbers(&[conns, in_pkts, out_pkts, in_bytes, out_bytes])
    }

    fn numbers(&self, numbers: &[u64]) -> String {
        numbers.iter().map(|number| large(*number, self.exact)).collect()
    }
}

/// `ipvsadm` reads the counters of real servers, though not their bytes, as 32-bit numbers. Scripts
/// compare outputs, so the same is shown here.
const fn narrow_counters(counters: &Counters) -> Counters {
    Counters {
        conns: low(counters.conns),
        in_pkts: low(counters.in_pkts),
        out_pkts: low(counters.out_pkts),
        in_bytes: counters.in_bytes,
        out_bytes: counters.out_bytes,
    }
}

/// The same for all rates.
const fn narrow_rates(rates: &Rates) -> Rates {
    Rates {
        cps: low(rates.cps),
        in_pps: low(rates.in_pps),
        out_pps: low(rates.out_pps),
        in_bps: low(rates.in_bps),
        out_bps: low(rates.out_bps),
    }
}

const fn low(number: u64) -> u64 {
    number & 0xffff_ffff
}

/// Scheduler, flags and persistence of a service, as they follow its name.
fn properties(spec: &ServiceSpec) -> String {
    let mut text = spec.scheduler.clone();
    if let Some(flags) = flags(spec.flags, &spec.scheduler) {
        text.push_str(&format!(" ({flags})"));
    }
    if let Some(persistence) = spec.persistence {
        text.push_str(&format!(" persistent {}", persistence.seconds));
        match persistence.netmask {
            Netmask::V4(Ipv4Addr::BROADCAST) | Netmask::V6(128) => {}
            Netmask::V4(mask) => text.push_str(&format!(" mask {mask}")),
            Netmask::V6(prefix) => text.push_str(&format!(" mask {prefix}")),
        }
        if let Some(engine) = &spec.engine {
            text.push_str(&format!(" pe {engine}"));
        }
    }
    if spec.one_packet {
        text.push_str(" ops");
    }
    text
}

const fn method_name(method: Method) -> &'static str {
    match method {
        Method::Nat => "Masq",
        Method::DirectRouting => "Route",
        Method::Tunnel(_) => "Tunnel",
        Method::Local => "Local",
        // IPVS has no such method; this is what its forks with one print.
        Method::FullNat => "FullNat",
    }
}

fn tunnel_info(method: Method) -> String {
    match method {
        Method::Tunnel(Tunnel::Ipip) => "ipip".into(),
        Method::Tunnel(Tunnel::Gre { checksum }) => {
            (if checksum { "gre:+c" } else { "gre:-c" }).into()
        }
        Method::Tunnel(Tunnel::Gue { port, checksum }) => {
            let checksum = match checksum {
                GueChecksum::None => "-c",
                GueChecksum::Full => "+c",
                GueChecksum::Remote => "r+c",
            };
            format!("gue:{port}:{checksum}")
        }
        Method::Nat | Method::DirectRouting | Method::FullNat | Method::Local => "n/a".into(),
    }
}
