//! Alerts reach people: mail over TLS with a login at a real mail server, a signed webhook; a burst
//! is one message, and a receiver that is away for a while gets what it missed.

use crate::prelude::BINARY;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::backend::Backend;
use harness::peers::MailServer;
use harness::{Director, Host, Site, wait};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(40);

const SERVICE: &str = r#"
[node]
name = "lb1"

[[service]]
name = "web"
address = "192.0.2.10:80"
  [service.check]
  type = "http"
  interval = "300ms"
  rise = 1
  fall = 1
  [[service.real]]
  address = "10.0.0.11:80"
  [[service.real]]
  address = "10.0.0.12:80"
"#;

/// The program as it runs where the system trusts a certificate.
fn trusting(host: &Host, certificate: &std::path::Path) -> Result<PathBuf> {
    let path = host.directory().join("viaduct-trusting");
    let text =
        format!("#!/bin/sh\nSSL_CERT_FILE='{}' exec '{BINARY}' \"$@\"\n", certificate.display());
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn backends(site: &Site) -> Result<Vec<Backend>> {
    site.reals[..2].iter().map(|real| Backend::http(real, "[::]:80")).collect()
}

fn until_up(director: &Director) -> Result<()> {
    wait::until_ok("both servers to be up", LIMIT, || {
        let health = director.viaduct(&["show", "health"])?;
        ensure!(health.matches("  up").count() == 2, "{health}");
        Ok(())
    })
}

#[test]
fn mail_arrives_over_tls_with_a_login_and_a_burst_is_one_message() -> Result<()> {
    let site = Site::new("mail", 3, 0)?;
    let mut servers = backends(&site)?;
    let mail = MailServer::start(&site.reals[2], "10.0.0.13")?;
    let config = format!(
        "{SERVICE}
[[alert]]
name = \"operators\"
type = \"mail\"
to = [\"ops@example.org\"]
from = \"lb1@example.org\"
server = \"10.0.0.13:587\"
security = \"starttls\"
user = \"lb1\"
password = \"secret\"
digest = \"2s\"
events = [\"real_down\", \"service_down\"]
"
    );
    let program = trusting(&site.director, &mail.certificate())?;
    let director = Director::start(&site.director, &program, Some(&config))?;
    until_up(&director)?;
    servers.iter_mut().for_each(Backend::stop);
    let text = wait::until_ok("the mail", LIMIT, || {
        let text = mail.mail()?;
        let events = director.viaduct(&["show", "events"])?;
        ensure!(text.contains("Subject:"), "{text}\n{}\n{events}", mail.log());
        Ok(text)
    })?;
    for wanted in [
        "Subject: lb1: 3 alerts",
        "From: lb1@example.org",
        "To: ops@example.org",
        "web: 10.0.0.11:80 is down: ",
        "web: 10.0.0.12:80 is down: ",
        "web: too few real servers are left",
    ] {
        ensure!(text.contains(wanted), "{wanted:?} is not in {text}");
    }
    ensure!(text.matches("Subject:").count() == 1, "{text}");
    ensure!(mail.log().contains("A=plain:lb1") && mail.log().contains("X=TLS1"), "{}", mail.log());
    Ok(())
}

#[test]
fn a_mail_server_with_a_certificate_that_nobody_vouches_for_gets_nothing() -> Result<()> {
    let site = Site::new("mailbad", 3, 0)?;
    let mut servers = backends(&site)?;
    let mail = MailServer::start(&site.reals[2], "10.0.0.13")?;
    let config = format!(
        "{SERVICE}
[[alert]]
name = \"operators\"
type = \"mail\"
to = [\"ops@example.org\"]
from = \"lb1@example.org\"
server = \"10.0.0.13:587\"
user = \"lb1\"
password = \"secret\"
"
    );
    let director = Director::start(&site.director, std::path::Path::new(BINARY), Some(&config))?;
    until_up(&director)?;
    servers[0].stop();
    wait::until_ok("the trouble to be recorded", LIMIT, || {
        let events = director.viaduct(&["show", "events"])?;
        ensure!(events.contains("alert to operators failed"), "{events}");
        Ok(())
    })?;
    ensure!(mail.mail()?.is_empty() && !mail.log().contains("A=plain"), "{}", mail.log());
    Ok(())
}

/// One request of a webhook: its head, in lower case, and its body.
type Heard = (String, Vec<u8>);

/// Takes requests on a host's address; the first `failures` are answered with 503.
fn listener(host: &Host, address: &str, failures: usize) -> Result<Receiver<Heard>> {
    let listener = host.enter(|| TcpListener::bind(address))??;
    let (heard, hears) = channel();
    host.thread("webhook", move || {
        for (number, stream) in listener.incoming().enumerate() {
            let status = if number < failures { 503 } else { 200 };
            if !serve(stream?, status, &heard)? {
                break;
            }
        }
        Ok(())
    })?;
    Ok(hears)
}

fn serve(mut stream: TcpStream, status: u16, heard: &Sender<Heard>) -> Result<bool> {
    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut chunk)?;
        ensure!(length > 0, "the request ends early");
        request.extend_from_slice(&chunk[..length]);
        let Some(end) = request.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let (_, after) = head.split_once("content-length: ").context("no length")?;
        let length: usize = after.lines().next().context("no length")?.trim().parse()?;
        if request.len() >= end + 4 + length {
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")?;
            let good = status == 200;
            return Ok(!good || heard.send((head, request[end + 4..].to_vec())).is_ok());
        }
    }
}

#[test]
fn a_webhook_that_fails_at_first_gets_its_signed_message_later() -> Result<()> {
    let site = Site::new("webhook", 3, 0)?;
    let mut servers = backends(&site)?;
    let hears = listener(&site.reals[2], "10.0.0.13:8080", 1)?;
    let config = format!(
        "{SERVICE}
[[alert]]
name = \"hook\"
type = \"webhook\"
url = \"http://10.0.0.13:8080/alerts\"
secret = \"Jefe\"
events = [\"real_down\"]
"
    );
    let director = Director::start(&site.director, std::path::Path::new(BINARY), Some(&config))?;
    until_up(&director)?;
    servers[0].stop();
    let (head, body) = hears.recv_timeout(LIMIT)?;
    let json: Value = serde_json::from_slice(&body)?;
    ensure!(json["node"] == "lb1" && json["receiver"] == "hook", "{json}");
    ensure!(json["alerts"][0]["event"] == "real_down", "{json}");
    ensure!(json["alerts"][0]["real"] == "10.0.0.11:80", "{json}");
    let signature = site.reals[2].run_with_input(
        harness::host::command(&["openssl", "dgst", "-sha256", "-hmac", "Jefe", "-r"])?,
        &String::from_utf8(body)?,
    )?;
    let signature = signature.ok()?;
    let signature = signature.split_whitespace().next().context("no digest")?;
    ensure!(head.contains(&format!("x-viaduct-signature: sha256={signature}")), "{head}");
    Ok(())
}
