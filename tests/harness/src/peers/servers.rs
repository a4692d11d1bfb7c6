//! nginx, dnsmasq, vsftpd and iperf3 as servers, with configurations of the lab's own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::{Host, command};
use crate::process::Process;
use crate::wait;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);

/// Serves HTTP by nginx on `listen` (as in its `listen` directive); every page is the host's name.
///
/// # Errors
/// When nginx is not installed or does not serve in time.
pub fn nginx(host: &Host, listen: &str) -> Result<Process> {
    let name = host.name();
    let page = format!("location / {{ default_type text/plain; return 200 \"{name}\\n\"; }}");
    nginx_with(host, listen, &page)
}

/// Serves HTTP by nginx on `listen`, with these lines in its `server` block.
///
/// # Errors
/// As [`nginx`].
pub fn nginx_with(host: &Host, listen: &str, server: &str) -> Result<Process> {
    let directory = host.directory().join("nginx");
    fs::create_dir_all(&directory)?;
    let directory = directory.to_string_lossy().into_owned();
    // One that was killed leaves its mark behind.
    let _ = fs::remove_file(Path::new(&directory).join("pid"));
    // Without `user`, the worker would be nobody, who may not enter the lab's directory.
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {directory}/pid; error_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log off; keepalive_requests 1000000;\n\
           client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;\n\
           fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;\n\
           scgi_temp_path {directory}/scgi;\n\
           server {{ listen {listen} backlog=4096; {server} }}\n\
         }}\n"
    );
    let file = Path::new(&directory).join("nginx.conf");
    fs::write(&file, config)?;
    let file = file.to_string_lossy();
    let server = host.spawn(command(&["nginx", "-e", "stderr", "-p", &directory, "-c", &file])?)?;
    serving(host, server, &Path::new(&directory).join("pid"))
}

/// Waits for the pid file, which nginx writes after it listens.
fn serving(host: &Host, mut server: Process, pid: &Path) -> Result<Process> {
    let what = format!("nginx on {} to serve", host.name());
    let up = wait::until(&what, START, || {
        if let Ok(Some(status)) = server.status() {
            return Some(Err(anyhow::anyhow!("nginx ended with {status}")));
        }
        pid.exists().then_some(Ok(()))
    });
    up.and_then(|result| result).with_context(|| server.stderr())?;
    Ok(server)
}

/// Serves DNS by dnsmasq on port 53 of every address; the TXT record `who.lab` is the host's name.
///
/// # Errors
/// When dnsmasq is not installed or does not start in time.
pub fn dnsmasq(host: &Host) -> Result<Process> {
    let record = format!("--txt-record=who.lab,{}", host.name());
    let arguments = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--log-facility=-",
        "--port=53",
        &record,
    ];
    let mut server = host.spawn(command(&arguments)?)?;
    server.wait_for_output("started", START)?;
    Ok(server)
}

/// Serves anonymous FTP by vsftpd on port 21 of every address, IPv4 and IPv6, active and passive,
/// with one file `who` that holds the host's name, and the directory `in` for uploads.
///
/// # Errors
/// When vsftpd is not installed or does not start in time.
pub fn vsftpd(host: &Host) -> Result<Process> {
    let directory = host.directory().join("ftp");
    let (root, empty) = (directory.join("root"), directory.join("empty"));
    fs::create_dir_all(root.join("in"))?;
    fs::create_dir_all(&empty)?;
    fs::write(root.join("who"), format!("{}\n", host.name()))?;
    fs::set_permissions(root.join("in"), fs::Permissions::from_mode(0o777))?;
    let config = format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\n\
         anon_root={}\nsecure_chroot_dir={}\nanon_upload_enable=YES\nwrite_enable=YES\n\
         pasv_enable=YES\nport_enable=YES\nconnect_from_port_20=YES\nseccomp_sandbox=NO\n\
         ftp_username=ftp\nno_anon_password=YES\nxferlog_enable=NO\n",
        root.display(),
        empty.display()
    );
    let file = directory.join("vsftpd.conf");
    fs::write(&file, config)?;
    let server = host.spawn(command(&["vsftpd", &file.to_string_lossy()])?)?;
    listening(host, server, 21)
}

/// An iperf3 server on a port of every address.
///
/// # Errors
/// When iperf3 is not installed or does not start in time.
pub fn iperf3_server(host: &Host, port: u16) -> Result<Process> {
    let port_text = port.to_string();
    let server = host.spawn(command(&["iperf3", "--server", "--port", &port_text])?)?;
    listening(host, server, port)
}

/// Waits until something accepts on the port of the host's own loopback address.
fn listening(host: &Host, mut server: Process, port: u16) -> Result<Process> {
    let what = format!("port {port} on {} to accept", host.name());
    let own = SocketAddr::from(([127, 0, 0, 1], port));
    let up = wait::until(&what, START, || {
        if let Ok(Some(status)) = server.status() {
            return Some(Err(anyhow::anyhow!("it ended with {status}")));
        }
        let accepted = host.enter(|| std::net::TcpStream::connect_timeout(&own, START));
        accepted.is_ok_and(|connected| connected.is_ok()).then_some(Ok(()))
    });
    let said = || format!("{}{}", server.stdout(), server.stderr());
    up.and_then(|result| result).with_context(said)?;
    Ok(server)
}
