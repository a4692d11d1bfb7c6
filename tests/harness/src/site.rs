//! The site that most scenes play on: a client, a director with two interfaces, a router beside it,
//! and real servers on the inside and, behind the router, on another subnet.
//!
//! ```text
//!  client .100 --+-- outside 192.0.2.0/24 --+-- .254 director .254 --+-- inside 10.0.0.0/24 -- .11 .12 ...
//!                |                          |                        |
//!                |                          +-- .1     router   .1 --+
//!                |                                     router .1 ------ remote 10.9.0.0/24 -- .11 .12 ...
//! ```
//!
//! IPv6 likewise: 2001:db8::/64, 2001:db8:a::/64, 2001:db8:9::/64, with the same last numbers.
//! VIPs are taken from the outside subnet; nobody but the director answers for them. Inside real
//! servers have the director as gateway, remote ones the router.

use anyhow::Result;

use crate::backend::Backend;
use crate::host::{Host, Interface};
use crate::lab::{Lab, Network};
use crate::real_server;

/// The VIP of most scenes.
pub const VIP: &str = "192.0.2.10";
/// The IPv6 VIP of most scenes.
pub const VIP6: &str = "2001:db8::10";
/// The director's own address outside.
pub const DIRECTOR: &str = "192.0.2.254";
/// The router's address inside, the way out that bypasses the director.
const ROUTER_INSIDE: [&str; 2] = ["10.0.0.1", "2001:db8:a::1"];

/// Hosts of the site.
#[derive(Debug)]
pub struct Site {
    /// Where clients ask from.
    pub client: Host,
    /// Where `viaduct run` belongs; `eth0` is outside, `eth1` inside.
    pub director: Host,
    /// Passes packets between all three subnets.
    pub router: Host,
    /// Real servers inside, `real1` and so on.
    pub reals: Vec<Host>,
    /// Real servers behind the router, `remote1` and so on.
    pub remotes: Vec<Host>,
    /// The director's interfaces, outside then inside.
    pub director_interfaces: [Interface; 2],
    outside: Network,
    inside: Network,
    remote: Network,
    // Last, so that everything above is gone before the lab is.
    lab: Lab,
}

impl Site {
    /// Builds a site with so many real servers inside and behind the router.
    ///
    /// # Errors
    /// When the lab cannot be built.
    pub fn new(name: &str, reals: usize, remotes: usize) -> Result<Self> {
        let lab = Lab::new(name)?;
        let networks = [lab.network("outside")?, lab.network("inside")?, lab.network("remote")?];
        let [out_net, in_net, far_net] = &networks;
        let (client, router) = (lab.host("client")?, lab.host("router")?);
        let director = lab.host("director")?;
        client.attach(out_net, &["192.0.2.100/24", "2001:db8::100/64"])?;
        router.forward()?;
        router.attach(out_net, &["192.0.2.1/24", "2001:db8::1/64"])?;
        router.attach(in_net, &["10.0.0.1/24", "2001:db8:a::1/64"])?;
        router.attach(far_net, &["10.9.0.1/24", "2001:db8:9::1/64"])?;
        let director_interfaces = [
            director.attach(out_net, &["192.0.2.254/24", "2001:db8::254/64"])?,
            director.attach(in_net, &["10.0.0.254/24", "2001:db8:a::254/64"])?,
        ];
        director.route("10.9.0.0/24", ROUTER_INSIDE[0])?;
        director.route("2001:db8:9::/64", ROUTER_INSIDE[1])?;
        let row = |kind: &str,
                   count: usize,
                   network: &Network,
                   prefixes: [&str; 2],
                   gateway: &str| {
            (1..=count)
                .map(|number| {
                    let real = lab.host(&format!("{kind}{number}"))?;
                    let [v4, v6] = prefixes;
                    let last = 10 + number;
                    real.attach(network, &[&format!("{v4}{last}/24"), &format!("{v6}{last}/64")])?;
                    real.route("default", &format!("{v4}{gateway}"))?;
                    real.route("default", &format!("{v6}{gateway}"))?;
                    Ok(real)
                })
                .collect::<Result<Vec<Host>>>()
        };
        let reals = row("real", reals, in_net, ["10.0.0.", "2001:db8:a::"], "254")?;
        let remotes = row("remote", remotes, far_net, ["10.9.0.", "2001:db8:9::"], "1")?;
        let [outside, inside, remote] = networks;
        Ok(Self {
            client,
            director,
            router,
            reals,
            remotes,
            director_interfaces,
            outside,
            inside,
            remote,
            lab,
        })
    }

    /// The lab, for more hosts and networks.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The network of the client and the VIPs, for more of both.
    pub fn outside(&self) -> &Network {
        &self.outside
    }

    /// The network of the director and the real servers.
    pub fn inside(&self) -> &Network {
        &self.inside
    }

    /// The network of the real servers behind the router.
    pub fn remote(&self) -> &Network {
        &self.remote
    }

    /// Has every inside real server answer HTTP on port 80 with its name, `real1` and so on.
    ///
    /// # Errors
    /// When a server cannot listen.
    pub fn serve(&self) -> Result<Vec<Backend>> {
        self.reals.iter().map(|real| Backend::http(real, "[::]:80")).collect()
    }

    /// What the client gets from the VIP by HTTP, without the end of the line.
    ///
    /// # Errors
    /// When there is no answer within 5 s.
    pub fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{VIP}{path}");
        let answer = self.client.run_ok(&["curl", "-sS", "--max-time", "5", &url])?;
        Ok(answer.trim_end().to_owned())
    }

    /// Prepares an inside real server for direct routing or tunnelling: it takes packets for the
    /// VIP, and what it sends from the VIP leaves by the router, not by the director.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn answer_directly(&self, real: &Host, vip: &str) -> Result<()> {
        real_server::accept_vip(real, vip)?;
        let gateway = ROUTER_INSIDE[usize::from(vip.contains(':'))];
        real.route_from(vip, gateway)
    }
}

/// The address of the inside real server with this number, counted from 1.
pub fn real(number: usize) -> String {
    format!("10.0.0.{}", 10 + number)
}

/// The same for IPv6, without brackets.
pub fn real6(number: usize) -> String {
    format!("2001:db8:a::{}", 10 + number)
}

/// The address of the real server behind the router with this number, counted from 1.
pub fn remote(number: usize) -> String {
    format!("10.9.0.{}", 10 + number)
}

/// The same for IPv6, without brackets.
pub fn remote6(number: usize) -> String {
    format!("2001:db8:9::{}", 10 + number)
}
