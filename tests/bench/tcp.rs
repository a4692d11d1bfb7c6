//! TCP through NAT with everybody's offloads as they are: bulk data, small requests, connections.
//!
//! Client, director and real servers share the machine's processors, so this is the cost of the
//! whole way, not of the director alone. The two proxies end connections instead of translating
//! them.

mod translator;

use crate::report::{Measure, Report};
use crate::{BINARY, Plan};
use anyhow::{Result, ensure};
use dataplane::io::Backend;
use harness::host::command;
use harness::peers::{iperf3, wrk, wrk_closing};
use harness::{Director, Process, Site, peers, site};
use std::fs;
use std::path::Path;
use std::time::Duration;
use translator::Translator;

const CONNECTIONS: u32 = 32;

const WAYS: [(&str, Way); 7] = [
    ("nftables DNAT", Way::Dnat),
    ("bare packet ring translator", Way::Bare(Backend::Ring)),
    ("viaduct, packet ring (auto)", Way::Viaduct("auto")),
    ("bare XDP socket translator", Way::Bare(Backend::Xdp)),
    ("viaduct, XDP sockets", Way::Viaduct("xdp")),
    ("haproxy, tcp mode", Way::Haproxy),
    ("nginx, stream", Way::Nginx),
];

const MEASURES: &[Measure] = &[
    Measure { name: "1 stream", unit: "Gbit/s" },
    Measure { name: "8 streams", unit: "Gbit/s" },
    Measure { name: "kept connections", unit: "thousand requests/s" },
    Measure { name: "new connections", unit: "thousand/s" },
];

#[derive(Clone, Copy)]
enum Way {
    Dnat,
    /// A program that translates addresses and does nothing else.
    Bare(Backend),
    Viaduct(&'static str),
    Haproxy,
    Nginx,
}

/// Whoever balances now.
enum Balancer {
    Kernel,
    Bare(Box<Translator>),
    Viaduct(Director),
    Proxy(Process),
}

pub fn measure(plan: &Plan) -> Result<Report> {
    let mut report = Report::new("TCP through NAT", MEASURES, WAYS[0].0);
    let site = Site::new("tcp", 2, 0)?;
    site.client.sysctl("net.ipv4.ip_local_port_range", "1024 65000")?;
    site.director.sysctl("net.ipv4.ip_local_port_range", "1024 65000")?;
    let _bulk = peers::iperf3_server(&site.reals[0], 5201)?;
    let _web = [peers::nginx(&site.reals[0], "80")?, peers::nginx(&site.reals[1], "80")?];
    let seconds = u32::try_from(plan.seconds)?;
    for _ in 0..plan.rounds {
        for (name, way) in WAYS {
            let balancer = start(way, &site)?;
            let url = "http://192.0.2.10/";
            let kept = wrk(&site.client, url, CONNECTIONS, seconds)?;
            let new = wrk_closing(&site.client, url, CONNECTIONS, seconds)?;
            ensure!(kept.errors + new.errors == 0, "{name}: {kept:?} {new:?}");
            report.add(name, "kept connections", kept.rate / 1e3);
            report.add(name, "new connections", new.rate / 1e3);
            // Last, as bulk data makes Viaduct's workers go before everyday threads for seconds.
            for (measure, streams) in [("1 stream", 1), ("8 streams", 8)] {
                let bulk = iperf3(&site.client, site::VIP, 5201, streams, seconds)?;
                report.add(name, measure, bulk.bits_per_second / 1e9);
            }
            stop(balancer, &site)?;
        }
    }
    Ok(report)
}

fn start(way: Way, site: &Site) -> Result<Balancer> {
    let host = &site.director;
    if !matches!(way, Way::Viaduct(_) | Way::Bare(_)) {
        host.add_address("eth0", site::VIP)?;
    }
    match way {
        Way::Dnat => {
            host.forward()?;
            let web = "tcp dport 80 dnat to numgen inc mod 2 map { 0 : 10.0.0.11, 1 : 10.0.0.12 }";
            let table = format!(
                "table ip bench {{ chain pre {{ type nat hook prerouting priority -100; \
                 ip daddr 192.0.2.10 {web}; \
                 ip daddr 192.0.2.10 tcp dport 5201 dnat to 10.0.0.11; }}; }}"
            );
            host.run_ok(&["nft", &table])?;
            Ok(Balancer::Kernel)
        }
        Way::Bare(backend) => Ok(Balancer::Bare(Box::new(Translator::start(backend, site)?))),
        Way::Viaduct(backend) => {
            let director = Director::start(host, Path::new(BINARY), Some(&config(backend)))?;
            let shown = director.viaduct(&["show", "interfaces"])?;
            let expected = if backend == "xdp" { "XDP" } else { "ring" };
            ensure!(shown.matches(expected).count() >= 2, "{backend}:\n{shown}");
            Ok(Balancer::Viaduct(director))
        }
        Way::Haproxy => {
            let file = host.directory().join("haproxy.cfg");
            fs::write(&file, HAPROXY)?;
            let file = file.to_string_lossy();
            proxy(site, &["haproxy", "-db", "-f", &file])
        }
        Way::Nginx => {
            let file = host.directory().join("stream.conf");
            let pid = host.directory().join("stream.pid").display().to_string();
            fs::write(&file, format!("pid {pid};\n{NGINX}"))?;
            let file = file.to_string_lossy();
            proxy(site, &["nginx", "-e", "stderr", "-c", &file])
        }
    }
}

fn config(backend: &str) -> String {
    let mut text = String::new();
    for interface in ["eth0", "eth1"] {
        text += &format!("[[interface]]\nname = \"{interface}\"\nbackend = \"{backend}\"\n");
    }
    for (name, port, reals) in [("web", 80, &[11, 12][..]), ("bulk", 5201, &[11])] {
        text += &format!(
            "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.10:{port}\"\n\
             protocol = \"tcp\"\nscheduler = \"rr\"\nmethod = \"nat\"\n"
        );
        for real in reals {
            text += &format!("[[service.real]]\naddress = \"10.0.0.{real}:{port}\"\n");
        }
    }
    text
}

const HAPROXY: &str = "global
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen web
  bind 192.0.2.10:80
  balance roundrobin
  server a 10.0.0.11:80
  server b 10.0.0.12:80
listen bulk
  bind 192.0.2.10:5201
  server a 10.0.0.11:5201
";

const NGINX: &str = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; user root; worker_processes auto; error_log stderr;
events { worker_connections 16384; }
stream {
  upstream web { server 10.0.0.11:80; server 10.0.0.12:80; }
  server { listen 192.0.2.10:80 reuseport backlog=4096; proxy_pass web; }
  server { listen 192.0.2.10:5201 reuseport; proxy_pass 10.0.0.11:5201; }
}
";

fn proxy(site: &Site, words: &[&str]) -> Result<Balancer> {
    let process = site.director.spawn(command(words)?)?;
    let url = "http://192.0.2.10/";
    harness::wait::until_ok("the proxy to serve", Duration::from_secs(20), || {
        site.client.run_ok(&["curl", "-sS", "--max-time", "2", url]).map(drop)
    })?;
    Ok(Balancer::Proxy(process))
}

fn stop(balancer: Balancer, site: &Site) -> Result<()> {
    match balancer {
        Balancer::Bare(translator) => return translator.stop(site),
        Balancer::Viaduct(mut director) => return director.shut_down(),
        Balancer::Proxy(mut process) => process.kill(),
        Balancer::Kernel => {
            site.director.run_ok(&["nft", "delete table ip bench"])?;
        }
    }
    site.director.remove_address("eth0", "192.0.2.10/32")
}
