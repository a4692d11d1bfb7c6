//! The lab: hosts as network namespaces, joined by veth pairs and bridges, on one machine.
//!
//! A [`Lab`] owns everything it makes (namespaces, links, processes, scratch files) and removes all
//! of it when dropped; what a killed run left behind is removed by the next [`Lab::new`]. Every
//! wait has a deadline, and its error says what was awaited.
//!
//! It works as root and, where the kernel allows, as root of a user namespace (see [`privilege`]);
//! there, only programs that change their user (tcpdump, dnsmasq, vsftpd) are refused.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let lab = harness::Lab::new("hello")?;
//! let wire = lab.network("wire")?;
//! let client = lab.host("client")?;
//! let server = lab.host("server")?;
//! client.attach(&wire, &["192.0.2.1/24"])?;
//! server.attach(&wire, &["192.0.2.2/24"])?;
//! client.run_ok(&["ping", "-c1", "192.0.2.2"])?;
//! # Ok(())
//! # }
//! ```

pub mod backend;
pub mod bad_cable;
pub mod capture;
pub mod cidr;
pub mod craft;
pub mod decapsulator;
pub mod director;
pub mod guest;
pub mod host;
pub mod http;
pub mod lab;
mod leftovers;
pub mod listing;
pub mod namespace;
mod netlink;
pub mod pair;
pub mod peers;
pub mod privilege;
pub mod process;
pub mod real_server;
pub mod site;
pub mod turn;
pub mod wait;

pub use bad_cable::BadCable;
pub use cidr::Cidr;
pub use director::Director;
pub use host::{Host, Interface};
pub use lab::{Lab, Network};
pub use pair::Pair;
pub use process::{Finished, Process};
pub use site::Site;
pub use turn::alone;
