//! Every end-to-end test in one binary, which is linked once. Each file is one claim and one module
//! here; `README.md` beside this file says how to add one.

#![allow(missing_docs)]

mod alerts;
mod capabilities;
mod checks_like_clients;
mod checks_without_answer;
mod clients_everywhere;
mod clocks;
mod configuration;
mod configuration_file;
mod console;
mod direct_routing;
mod failover;
mod first_answer;
mod full_nat;
mod health_ldirectord;
mod health_mon;
mod host_routes;
mod host_untouched;
mod hostile_packets;
mod ipvs_sync;
mod ipvsadm_differential;
mod ipvsadm_scripts;
mod kernel_pair;
mod kernel_schedulers;
mod kernel_tunnel;
mod kernel_zero_copy;
mod nat_walkthrough;
mod pair_faults;
mod prelude;
mod protocols;
mod readme;
mod real_down;
mod real_server_setup;
mod restart;
mod scale;
mod session_sync;
mod shared_configuration;
mod stacked_interfaces;
mod syn_flood;
mod throughput;
mod tunnel;
mod vrrp_commands;
mod vrrp_keepalived;
mod vrrp_mastership;
mod wrong_setups;
mod xdp;
