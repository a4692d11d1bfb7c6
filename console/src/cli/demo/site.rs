//! The demonstration's site: three services, one for each forwarding method, over the same three
//! real servers.

use std::path::PathBuf;

use anyhow::{Context, Result};
use harness::backend::Backend;
use harness::decapsulator::{Decapsulator, Encapsulation};
use harness::listing::{Service, State};
use harness::{Director, Site};

/// How many real servers there are.
pub const REALS: usize = 3;

/// A virtual service of the demonstration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoService {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Its virtual address.
    pub vip: &'static str,
    /// Its forwarding method in the configuration.
    pub method: &'static str,
    /// The same in words.
    pub means: &'static str,
}

/// One service for each method; all listen on port 80.
pub const SERVICES: [DemoService; 3] = [
    DemoService {
        name: "nat",
        vip: "192.0.2.10",
        method: "nat",
        means: "address translation, replies through the director",
    },
    DemoService {
        name: "direct",
        vip: "192.0.2.20",
        method: "dr",
        means: "direct routing, replies straight to the client",
    },
    DemoService {
        name: "tunnel",
        vip: "192.0.2.30",
        method: "tun",
        means: "IP in IP, replies straight to the client",
    },
];

/// The running site.
pub struct DemoSite {
    // Programs before the hosts that they run on.
    director: Director,
    backends: Vec<Backend>,
    _decapsulators: Vec<Decapsulator>,
    /// The hosts.
    pub site: Site,
    binary: PathBuf,
}

impl DemoSite {
    /// Builds the hosts and starts the servers and, with this very program, the director.
    ///
    /// # Errors
    /// When the machine lacks what a lab needs, or the director does not start.
    pub fn build() -> Result<Self> {
        let site = Site::new("demo", REALS, 0)?;
        let (mut backends, mut decapsulators) = (Vec::new(), Vec::new());
        for real in &site.reals {
            for service in SERVICES.iter().filter(|service| service.method != "nat") {
                site.answer_directly(real, service.vip)?;
            }
            let tunnelled: Vec<&str> =
                SERVICES.iter().filter(|s| s.method == "tun").map(|s| s.vip).collect();
            decapsulators.push(Decapsulator::start(real, Encapsulation::Ipip, &tunnelled)?);
            backends.push(Backend::http(real, "[::]:80")?);
        }
        let binary = std::env::current_exe().context("the path of this program")?;
        let director = Director::start(&site.director, &binary, Some(&configuration()))
            .context("starting the director")?;
        Ok(Self { director, backends, _decapsulators: decapsulators, site, binary })
    }

    /// What the director says of weights and connections.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn states(&self) -> Result<Vec<Service<State>>> {
        self.director.states()
    }

    /// Kills the server program of a real server, counted from 0.
    pub fn kill(&mut self, real: usize) {
        if let Some(backend) = self.backends.get_mut(real) {
            backend.stop();
        }
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When its port cannot be bound again.
    pub fn revive(&mut self, real: usize) -> Result<()> {
        self.backends.get_mut(real).map_or(Ok(()), Backend::start)
    }

    /// Commands to try from another shell.
    pub fn hints(&self) -> Vec<String> {
        let client = self.site.client.namespace();
        let socket = self.director.socket();
        // Without root, names of namespaces are visible only from inside the user namespace.
        let enter = if harness::privilege::is_initial_user_namespace() {
            String::new()
        } else {
            format!("nsenter -t {} -U -m --preserve-credentials ", std::process::id())
        };
        let mut hints = vec!["Try from another shell:".to_owned()];
        for service in SERVICES {
            let DemoService { vip, means, .. } = service;
            hints.push(format!("  {enter}ip netns exec {client} curl http://{vip}/    # {means}"));
        }
        let viaduct = format!("VIADUCT_SOCKET={} {}", socket.display(), self.binary.display());
        hints.push(format!("  {viaduct} ipvsadm -L -n --stats"));
        hints.push(format!(
            "  {viaduct} ipvsadm -e -t 192.0.2.10:80 -r {}:80 -m -w 5",
            harness::site::real(1)
        ));
        hints
    }
}

/// The director's configuration file.
pub fn configuration() -> String {
    let mut text =
        String::from("[[interface]]\nname = \"eth0\"\n\n[[interface]]\nname = \"eth1\"\n");
    for DemoService { name, vip, method, .. } in SERVICES {
        text.push_str(&format!(
            "\n[[service]]\nname = \"{name}\"\naddress = \"{vip}:80\"\nprotocol = \"tcp\"\n\
             scheduler = \"rr\"\nmethod = \"{method}\"\n  [service.check]\n  type = \"http\"\n  \
             path = \"/\"\n  interval = \"1s\"\n  timeout = \"1s\"\n  rise = 1\n  fall = 1\n  \
             on_down = \"quiesce\"\n"
        ));
        for number in 1..=REALS {
            let real = harness::site::real(number);
            text.push_str(&format!(
                "  [[service.real]]\n  address = \"{real}:80\"\n  weight = 1\n"
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demonstrations_configuration_is_valid() {
        let document = control::model::Document::parse(&configuration(), "demo.toml");
        assert!(document.is_ok(), "{document:?}");
    }
}
