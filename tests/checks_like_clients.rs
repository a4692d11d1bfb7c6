//! Claim: a check is no stricter than the clients of the service. Servers that clients are content with are
//! up, and a server that the check cannot speak to is told from a broken one.

use crate::prelude::director_on;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Director, Host, Process, Site, host::command, wait};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

/// One service with one real server on this port.
fn service(port: u16, keys: &str, check: &str) -> String {
    format!(
        "[[service]]\nname = \"s{port}\"\naddress = \"192.0.2.10:{port}\"\n{keys}\
         [service.check]\n{check}\ninterval = \"500ms\"\ntimeout = \"2s\"\nfall = 2\nrise = 1\n\
         [[service.real]]\naddress = \"10.0.0.11:{port}\"\n"
    )
}

/// Waits until the service's real server has this state by a check, and gives the reason.
fn until(director: &Director, port: u16, state: &str) -> Result<String> {
    let name = format!("s{port}");
    wait::until_ok(&format!("{name} to be {state}"), LIMIT, || {
        let json = director.viaduct(&["show", "health", "--json"])?;
        let services: Vec<Value> = serde_json::from_str(&json)?;
        let service = services.iter().find(|service| service["name"] == name.as_str());
        let real = &service.context("no such service")?["reals"][0];
        let reason = real["reason"].as_str().filter(|_| real["state"] == state);
        Ok(reason.with_context(|| format!("{real:#}"))?.to_owned())
    })
}

fn openssl(host: &Host, arguments: &str) -> Result<()> {
    let words: Vec<&str> = ["openssl"].into_iter().chain(arguments.split(' ')).collect();
    host.run_ok(&words)?;
    Ok(())
}

/// `openssl s_server -www` with a key and a certificate of its own.
fn tls_server(host: &Host, port: u16, certificate: &str, options: &str) -> Result<Process> {
    let file = |name: &str| host.directory().join(format!("{port}.{name}")).display().to_string();
    let (key, request, crt) = (file("key"), file("csr"), file("crt"));
    openssl(
        host,
        &format!("req -new {certificate} -nodes -keyout {key} -subj /CN=app -out {request}"),
    )?;
    // Without extensions OpenSSL 3.0 makes a certificate of version 1.
    openssl(host, &format!("x509 -req -days 9 -in {request} -signkey {key} -out {crt}"))?;
    let words =
        format!("openssl s_server -accept {port} -www -quiet -key {key} -cert {crt} {options}");
    let words: Vec<&str> = words.split_whitespace().collect();
    host.spawn(command(&words)?)
}

#[test]
fn without_verification_any_certificate_will_do_and_foreign_tls_is_named() -> Result<()> {
    let site = Site::new("tlsclients", 1, 0)?;
    let real = &site.reals[0];
    let https = |port| service(port, "", "type = \"https\"");
    let p521 = "-newkey ec -pkeyopt ec_paramgen_curve:secp521r1";
    let _servers = [
        tls_server(real, 4432, "-newkey rsa:2048", "")?,
        tls_server(real, 4438, p521, "")?,
        tls_server(real, 4433, "-newkey rsa:2048", "-tls1_2 -cipher AES128-SHA256")?,
        tls_server(real, 4434, "-newkey rsa:2048", "-tls1_1 -cipher ALL:@SECLEVEL=0")?,
    ];
    let config: String = [4432, 4438, 4433, 4434].map(https).concat();
    let director = director_on(&site.director, &config)?;
    for port in [4432, 4438] {
        until(&director, port, "up")?;
    }
    for port in [4433, 4434] {
        let reason = until(&director, port, "down")?;
        anyhow::ensure!(reason.contains("may speak only TLS that checks do not"), "{reason}");
    }
    Ok(())
}

#[test]
fn a_server_behind_the_proxy_protocol_is_checked_with_a_header() -> Result<()> {
    let site = Site::new("proxychecks", 1, 0)?;
    let real = &site.reals[0];
    let file = |name: &str| real.directory().join(name).display().to_string();
    let (conf, pid, log) = (file("nginx.conf"), file("nginx.pid"), file("nginx.log"));
    std::fs::write(
        &conf,
        format!(
            "daemon off;\nmaster_process off;\npid {pid};\nerror_log {log};\nevents {{}}\n\
             http {{ access_log off; server {{ listen 80 proxy_protocol; location / {{ return 200; }} }} }}\n"
        ),
    )?;
    let _nginx = real.spawn(command(&["nginx", "-c", &conf])?)?;
    let keys = "method = \"fullnat\"\nclient_address = \"proxy-protocol\"\n";
    let config = service(80, keys, "type = \"http\"");
    let director = director_on(&site.director, &config)?;
    let reason = until(&director, 80, "up")?;
    anyhow::ensure!(reason.starts_with("HTTP 200"), "{reason}");
    Ok(())
}
