//! Viaduct is one half of an old LVS pair whose other half is the kernel's IPVS: an open connection
//! moves from the kernel to Viaduct, and another one from Viaduct to the kernel.

use crate::prelude::director_on;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::guest::{Guest, Options};
use harness::{Director, Host, Site, wait};

/// Far more than anything here takes; reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(60);

const VIP: &str = "192.0.2.20";

/// A connection that is asked something again and again.
struct Talk {
    reader: BufReader<TcpStream>,
    port: u16,
}

impl Talk {
    fn open(client: &Host) -> Result<Self> {
        let address: SocketAddr = format!("{VIP}:80").parse()?;
        let socket = client.enter(|| TcpStream::connect_timeout(&address, LIMIT))??;
        socket.set_read_timeout(Some(LIMIT))?;
        let port = socket.local_addr()?.port();
        let mut talk = Self { reader: BufReader::new(socket), port };
        ensure!(talk.line()? == "real1 ready");
        talk.go_on()?;
        Ok(talk)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Several requests, each answered.
    fn go_on(&mut self) -> Result<()> {
        for number in 0..5 {
            writeln!(self.reader.get_mut(), "{number}")?;
            let answer = self.line()?;
            ensure!(answer == number.to_string(), "{answer:?}");
        }
        Ok(())
    }
}

/// The real server's way back to the client.
fn way_back(site: &Site, gateway: &str) -> Result<()> {
    let route = ["ip", "route", "replace", "192.0.2.100/32", "via", gateway];
    site.reals[0].run_ok(&route)?;
    site.client.run(&["ip", "neigh", "flush", "dev", "eth0"])?;
    Ok(())
}

fn mastership(director: &Director, state: &str) -> Result<()> {
    wait::until(&format!("Viaduct to be {state}"), LIMIT, || {
        let shown = director.viaduct(&["show", "vrrp", "--json"]).ok()?;
        shown.contains(&format!("\"state\": \"{state}\"")).then_some(())
    })
}

#[test]
fn open_connections_move_between_the_kernel_and_viaduct() -> Result<()> {
    let site = Site::new("kernelpair", 1, 0)?;
    let _server = Backend::lines(&site.reals[0], "[::]:80")?;
    let options = Options { name: "kernel".into(), ..Options::default() };
    let mut kernel = Guest::boot_in(site.lab(), &[site.outside(), site.inside()], options)?;
    kernel.sh("set -e; sysctl -w net.ipv4.ip_forward=1; ip addr add 192.0.2.253/24 dev eth0; \
         ip addr add 192.0.2.20/32 dev eth0; ip addr add 10.0.0.253/24 dev eth1; \
         ip link set eth0 up; ip link set eth1 up; \
         ipvsadm -A -t 192.0.2.20:80 -s rr; ipvsadm -a -t 192.0.2.20:80 -r 10.0.0.11:80 -m; \
         ipvsadm --start-daemon master --mcast-interface eth1 --syncid 9")?;
    // Viaduct is in fault, and so silent, while this file is missing.
    let flag = site.director.directory().join("master");
    let config = format!(
        "[[service]]\nname = \"web\"\naddress = \"{VIP}:80\"\n  [[service.real]]\n  \
         address = \"10.0.0.11:80\"\n[[track_script]]\nname = \"turn\"\n\
         command = [\"/usr/bin/test\", \"-e\", \"{}\"]\ninterval = \"100ms\"\ntimeout = \"5s\"\n\
         [[vrrp]]\nname = \"outside\"\ninterface = \"eth0\"\nid = 51\nadvert_interval = \"100ms\"\n\
         addresses = [\"{VIP}\"]\ntrack = [{{ script = \"turn\" }}]\n",
        flag.display()
    );
    let director = director_on(&site.director, &config)?;
    mastership(&director, "fault")?;
    director.ipvsadm(&[
        "--start-daemon",
        "backup",
        "--mcast-interface",
        "eth1",
        "--syncid",
        "9",
    ])?;
    ensure!(director.ipvsadm(&["-L", "--daemon"])?.contains("backup sync daemon"));

    way_back(&site, "10.0.0.253")?;
    let mut first = Talk::open(&site.client)?;
    let entry = format!("192.0.2.100:{}", first.port);
    wait::until("the kernel's connection in Viaduct", LIMIT, || {
        // The kernel tells a connection at its third packet and then at each fiftieth.
        first.go_on().ok()?;
        let list = director.ipvsadm(&["-L", "-n", "-c"]).ok()?;
        list.lines().any(|l| l.contains("ESTABLISHED") && l.contains(&entry)).then_some(())
    })?;
    kernel.sh("ip addr del 192.0.2.20/32 dev eth0; ipvsadm --stop-daemon master")?;
    std::fs::write(&flag, "")?;
    mastership(&director, "master")?;
    way_back(&site, "10.0.0.254")?;
    first.go_on().context("through Viaduct after the kernel")?;

    director.ipvsadm(&["--stop-daemon", "backup"])?;
    kernel.sh("ipvsadm -C; ipvsadm -A -t 192.0.2.20:80 -s rr; \
               ipvsadm -a -t 192.0.2.20:80 -r 10.0.0.11:80 -m; \
               ipvsadm --start-daemon backup --mcast-interface eth1 --syncid 7")?;
    director.ipvsadm(&[
        "--start-daemon",
        "master",
        "--mcast-interface",
        "eth1",
        "--syncid",
        "7",
    ])?;
    let mut second = Talk::open(&site.client)?;
    let entry = format!("C0000264 {:04X} C0000214 0050 0A00000B 0050 ESTABLISHED", second.port);
    wait::until("Viaduct's connection in the kernel", LIMIT, || {
        second.go_on().ok()?;
        let list = kernel.sh("cat /proc/net/ip_vs_conn_sync").ok()?;
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        list.lines().any(|line| words(line).contains(&entry)).then_some(())
    })?;
    std::fs::remove_file(&flag)?;
    mastership(&director, "fault")?;
    kernel.sh("ip addr add 192.0.2.20/32 dev eth0")?;
    way_back(&site, "10.0.0.253")?;
    second.go_on().context("through the kernel after Viaduct")
}
