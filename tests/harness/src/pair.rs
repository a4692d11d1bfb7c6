//! Two directors that stand in for each other, between a client and real servers.
//!
//! ```text
//!  client .100 --+-- outside 192.0.2.0/24 --+-- .251 director1 .251 --+-- inside 10.0.0.0/24 -- .11 .12 ...
//!                |                          |      | link 10.8.0.0/24 |
//!                |                          +-- .252 director2 .252 --+
//!                +-- .1                      router .1 ---------------+
//! ```
//!
//! VIPs are taken from the outside subnet. Real servers have 10.0.0.254 as gateway, which belongs to
//! the master. The router is the way out for servers that answer directly.

use anyhow::Result;

use crate::bad_cable::BadCable;
use crate::host::{Host, Interface};
use crate::lab::{Lab, Network};
use crate::real_server;

/// The VIP of most scenes.
pub const VIP: &str = "192.0.2.10";
/// The inside gateway that moves with the VIP.
pub const GATEWAY: &str = "10.0.0.254";
/// The way out that bypasses the directors.
const ROUTER: &str = "10.0.0.1";
/// The peer link's port.
const PEER_PORT: u16 = 9850;

/// A director's cables.
#[derive(Debug)]
pub struct Cables {
    /// Towards clients: `eth0`.
    pub outside: Interface,
    /// Towards real servers: `eth1`.
    pub inside: Interface,
    /// Towards the other director: `eth2`.
    pub link: Interface,
}

/// A configuration of [`Pair::config`] in which the VRRP instances use the interfaces' own MACs.
pub fn own_macs(config: String) -> String {
    config.replace("\ninterface = ", "\nvirtual_mac = false\ninterface = ")
}

/// Hosts of the scene.
#[derive(Debug)]
pub struct Pair {
    /// Where clients ask from.
    pub client: Host,
    /// Where `viaduct run` belongs, twice.
    pub directors: [Host; 2],
    /// Their cables.
    pub cables: [Cables; 2],
    /// Real servers, `real1` and so on.
    pub reals: Vec<Host>,
    /// The networks of the clients, of the real servers, and between the directors.
    pub networks: [Network; 3],
    // Last, so that everything above is gone before the lab is.
    lab: Lab,
}

impl Pair {
    /// Builds the scene.
    ///
    /// # Errors
    /// When the lab cannot be built.
    pub fn new(name: &str, reals: usize) -> Result<Self> {
        let lab = Lab::new(name)?;
        let (outside, inside) = (lab.network("outside")?, lab.network("inside")?);
        let link = lab.network("link")?;
        let (client, router) = (lab.host("client")?, lab.host("router")?);
        client.attach(&outside, &["192.0.2.100/24"])?;
        router.forward()?;
        router.attach(&outside, &["192.0.2.1/24"])?;
        router.attach(&inside, &[&format!("{ROUTER}/24")])?;
        let directors = [lab.host("director1")?, lab.host("director2")?];
        let plug = |host: &Host, last: u8| -> Result<Cables> {
            Ok(Cables {
                outside: host.attach(&outside, &[&format!("192.0.2.{last}/24")])?,
                inside: host.attach(&inside, &[&format!("10.0.0.{last}/24")])?,
                link: host.attach(&link, &[&format!("10.8.0.{last}/24")])?,
            })
        };
        let cables = [plug(&directors[0], 251)?, plug(&directors[1], 252)?];
        let mut row = Vec::new();
        for number in 1..=reals {
            let real = lab.host(&format!("real{number}"))?;
            real.attach(&inside, &[&format!("10.0.0.{}/24", 10 + number)])?;
            real.route("default", GATEWAY)?;
            row.push(real);
        }
        let networks = [outside, inside, link];
        Ok(Self { client, directors, cables, reals: row, networks, lab })
    }

    /// The lab, for more hosts and networks.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Puts a cable with flaws, good at first, into the link between the directors.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bad_link(&self, seed: u64) -> Result<BadCable> {
        let beyond = self.lab.network("beyond")?;
        for (host, cables) in self.directors.iter().zip(&self.cables) {
            host.send_plain_frames(&cables.link.name)?;
        }
        let cable = BadCable::between(&self.lab, "cable", [&self.networks[2], &beyond], seed)?;
        self.directors[1].reconnect(&self.cables[1].link, &beyond)?;
        Ok(cable)
    }

    /// The configuration of director 0 or 1: VRRP version 3 with adverts each 100 ms on both sides,
    /// moving together, the first director preferred; then `more`.
    pub fn config(&self, director: usize, more: &str) -> String {
        let priority = [150, 100][director];
        let name = &self.directors[director].name();
        format!(
            "[node]\nname = \"{name}\"\n\
             [[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n\
             [[vrrp]]\nname = \"outside\"\ninterface = \"eth0\"\nid = 51\ngroup = \"lb\"\n\
             priority = {priority}\nadvert_interval = \"100ms\"\naddresses = [\"{VIP}\"]\n\
             [[vrrp]]\nname = \"inside\"\ninterface = \"eth1\"\nid = 52\ngroup = \"lb\"\n\
             priority = {priority}\nadvert_interval = \"100ms\"\naddresses = [\"{GATEWAY}\"]\n{more}"
        )
    }

    /// The part of a configuration that joins the two directors by their own link.
    pub fn peer(director: usize) -> String {
        let [own, other] = if director == 0 { [251, 252] } else { [252, 251] };
        format!(
            "[peer]\naddress = \"10.8.0.{other}:{PEER_PORT}\"\nlisten = \"10.8.0.{own}:{PEER_PORT}\"\n"
        )
    }

    /// Prepares a real server for direct routing or tunnelling: it takes packets for the VIP, and
    /// what it sends from the VIP leaves by the router.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn answer_directly(&self, real: &Host, vip: &str) -> Result<()> {
        real_server::accept_vip(real, vip)?;
        real.route_from(vip, ROUTER)
    }
}
