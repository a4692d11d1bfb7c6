//! Real programs to balance for and to load with: each starter waits until its program serves.

mod clocks;
mod load;
mod mail;
mod servers;

pub use clocks::{TimeServer, chronyd};
pub use load::{
    Ab, Iperf3, Wrk, ab, ab_report, ab_running, iperf3, iperf3_report, wrk, wrk_closing,
};
pub use mail::MailServer;
pub use servers::{dnsmasq, iperf3_server, nginx, nginx_with, vsftpd};
