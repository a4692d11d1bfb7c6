//! exim as a mail server that takes mail only over TLS and after a login, and keeps it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::host::{Host, command};
use crate::process::Process;
use crate::wait;

/// The account that exim runs as on Debian; it refuses to deliver as root.
const ACCOUNT: &str = "Debian-exim";

/// A running mail server; it and its mail are gone on drop.
#[derive(Debug)]
pub struct MailServer {
    directory: PathBuf,
    _exim: Process,
}

impl MailServer {
    /// Takes mail on port 587 of the host's address `ip` from the user `lb1` with the password
    /// `secret`, after STARTTLS.
    ///
    /// # Errors
    /// When exim or openssl is not installed, or it does not serve in time.
    pub fn start(host: &Host, ip: &str) -> Result<Self> {
        // The account may not enter the lab's own directory.
        let name = format!("viaduct-mail-{}-{}", std::process::id(), host.namespace());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(directory.join("spool"))?;
        certificate(host, &directory, ip)?;
        let config = directory.join("exim.conf");
        fs::write(&config, configuration(&directory, ip))?;
        let path = directory.to_string_lossy().into_owned();
        host.run_ok(&["chown", "-R", &format!("{ACCOUNT}:{ACCOUNT}"), &path])?;
        // exim reads its configuration as root, and only root's.
        host.run_ok(&["chown", "root:root", &config.to_string_lossy()])?;
        let arguments = ["exim4", "-bdf", "-odf", "-C", &config.to_string_lossy()];
        let exim = host.spawn(command(&arguments)?)?;
        let address = format!("{ip}:587").parse().context("address")?;
        wait::until_ok("exim to serve", Duration::from_secs(20), || {
            let limit = Duration::from_secs(1);
            host.enter(|| std::net::TcpStream::connect_timeout(&address, limit))??;
            Ok(())
        })
        .with_context(|| exim.stderr())?;
        Ok(Self { directory, _exim: exim })
    }

    /// The certificate that a client has to trust, as a PEM file.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("cert.pem")
    }

    /// All mail that has arrived, in one text.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn mail(&self) -> Result<String> {
        let file = self.directory.join("mbox");
        if !file.exists() {
            return Ok(String::new());
        }
        Ok(fs::read_to_string(file)?)
    }

    /// What the server noted about what it took and refused.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        read("mainlog") + &read("rejectlog") + &read("paniclog")
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn certificate(host: &Host, directory: &Path, ip: &str) -> Result<()> {
    let (key, certificate) = (directory.join("key.pem"), directory.join("cert.pem"));
    let alternative = format!("subjectAltName=IP:{ip},DNS:mail.lab");
    let made = host.run(&[
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=mail.lab",
        "-addext",
        &alternative,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        &key.to_string_lossy(),
        "-out",
        &certificate.to_string_lossy(),
    ])?;
    ensure!(made.status.success(), "{made}");
    Ok(())
}

fn configuration(directory: &Path, ip: &str) -> String {
    let path = directory.display();
    format!(
        "primary_hostname = mail.lab\ndaemon_smtp_ports = 587\nlocal_interfaces = {ip}\n\
         spool_directory = {path}/spool\nlog_file_path = {path}/%slog\nkeep_environment =\n\
         tls_certificate = {path}/cert.pem\ntls_privatekey = {path}/key.pem\n\
         tls_advertise_hosts = *\nauth_advertise_hosts = ${{if def:tls_in_cipher {{*}}{{}}}}\n\
         acl_smtp_rcpt = rcpt\nhost_lookup =\nrfc1413_query_timeout = 0s\n\
         pid_file_path = {path}/pid\n\
         begin acl\nrcpt:\n  require authenticated = *\n  accept\n\
         begin routers\nall:\n  driver = accept\n  transport = file\n\
         begin transports\nfile:\n  driver = appendfile\n  file = {path}/mbox\n  user = {ACCOUNT}\n\
         begin authenticators\nplain:\n  driver = plaintext\n  public_name = PLAIN\n\
         \x20 server_condition = ${{if and{{{{eq{{$auth2}}{{lb1}}}}{{eq{{$auth3}}{{secret}}}}}}}}\n\
         \x20 server_set_id = $auth2\n"
    )
}
