//! Real programs to balance for and to load with: each starter waits until its program serves.

mod load;
mod servers;

pub use load::{Ab, Iperf3, Wrk, ab, iperf3, iperf3_report, wrk};
pub use servers::{dnsmasq, iperf3_server, nginx, vsftpd};
