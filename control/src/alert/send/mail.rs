//! Mail by SMTP, with TLS and a login as the operator asks.

use std::time::Duration;

use lettre::message::{Mailbox, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::text;
use crate::alert::policy::Message;
use crate::model::{Login, MailSecurity};

/// How long one step of the conversation may take.
const STEP: Duration = Duration::from_secs(20);

/// How the mail server is reached.
pub(super) struct Way<'a> {
    pub server: &'a str,
    pub security: MailSecurity,
    pub login: Option<&'a Login>,
}

pub(super) async fn send(
    node: &str,
    to: &[String],
    from: &str,
    way: Way<'_>,
    message: &Message,
) -> Result<(), String> {
    let mail = compose(node, to, from, message)?;
    let transport = transport(&way)?;
    transport.send(mail).await.map(|_| ()).map_err(|error| error.to_string())
}

fn compose(
    node: &str,
    to: &[String],
    from: &str,
    message: &Message,
) -> Result<lettre::Message, String> {
    let mailbox =
        |text: &str| text.parse::<Mailbox>().map_err(|error| format!("address {text:?}: {error}"));
    let mut mail = lettre::Message::builder()
        .from(mailbox(from)?)
        .subject(text::subject(node, message))
        .header(header::ContentType::TEXT_PLAIN);
    for receiver in to {
        mail = mail.to(mailbox(receiver)?);
    }
    mail.body(text::body(node, message)).map_err(|error| error.to_string())
}

fn transport(way: &Way<'_>) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let usual = match way.security {
        MailSecurity::Off => 25,
        MailSecurity::StartTls => 587,
        MailSecurity::Tls => 465,
    };
    let (host, port) = split(way.server, usual);
    let parameters = || TlsParameters::new(host.clone()).map_err(|error| error.to_string());
    let tls = match way.security {
        MailSecurity::Off => Tls::None,
        MailSecurity::StartTls => Tls::Required(parameters()?),
        MailSecurity::Tls => Tls::Wrapper(parameters()?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.clone())
        .port(port)
        .tls(tls)
        .timeout(Some(STEP));
    if let Some(login) = way.login {
        let credentials = Credentials::new(login.user.clone(), login.password.clone());
        builder = builder.credentials(credentials);
    }
    Ok(builder.build())
}

/// A server's name or address, and its port.
fn split(server: &str, usual: u16) -> (String, u16) {
    if let Ok(address) = server.parse::<std::net::SocketAddr>() {
        return (address.ip().to_string(), address.port());
    }
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return (bare.to_owned(), usual);
    }
    match server.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host.to_owned(), port),
        Some((_, Err(_))) | None => (server.to_owned(), usual),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::alert::policy::Item;

    fn message() -> Message {
        let item = Item {
            event: "real_down",
            good: false,
            repeated: false,
            service: Some("web".into()),
            real: None,
            text: "10.0.0.11:80 is down: connection refused".into(),
            time: 0,
        };
        Message { receiver: "admin".into(), items: vec![item], omitted: 0 }
    }

    #[test]
    fn servers_come_with_or_without_a_port() {
        let split = |text| split(text, 25);
        assert_eq!(split("mail.example.org"), ("mail.example.org".into(), 25));
        assert_eq!(split("mail.example.org:2525"), ("mail.example.org".into(), 2525));
        assert_eq!(split("192.0.2.1:2525"), ("192.0.2.1".into(), 2525));
        assert_eq!(split("[2001:db8::1]:2525"), ("2001:db8::1".into(), 2525));
        assert_eq!(split("2001:db8::1"), ("2001:db8::1".into(), 25));
    }

    /// Takes one mail and returns everything the client said; refuses the recipient on request.
    async fn server(refuse: bool) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            stream.write_all(b"220 test\r\n").await.unwrap();
            let (mut heard, mut in_data) = (String::new(), false);
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
                let word = line.get(..4).unwrap_or("").to_owned();
                let answer = match (in_data, word.as_str()) {
                    (true, _) if line == ".\r\n" => "250 taken\r\n",
                    (true, _) => "",
                    (false, "EHLO") => "250-test\r\n250 AUTH PLAIN\r\n",
                    (false, "AUTH") => "235 in\r\n",
                    (false, "RCPT") if refuse => "550 nobody here\r\n",
                    (false, "DATA") => "354 go\r\n",
                    (false, "QUIT") => "221 bye\r\n",
                    (false, _) => "250 ok\r\n",
                };
                in_data = word == "DATA" || (in_data && line != ".\r\n");
                heard.push_str(&line);
                line.clear();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            let _ = stream.read(&mut [0; 1]).await;
            heard
        });
        (address, heard)
    }

    #[tokio::test]
    async fn a_mail_arrives_with_its_login() {
        let (address, heard) = server(false).await;
        let login = Login { user: "joe".into(), password: "pw".into() };
        let way = Way { server: &address, security: MailSecurity::Off, login: Some(&login) };
        let to = ["ops@example.org".to_owned(), "Chief <chief@example.org>".to_owned()];
        send("lb1", &to, "lb1@example.org", way, &message()).await.unwrap();
        let heard = heard.await.unwrap();
        for wanted in [
            "AUTH PLAIN AGpvZQBwdw==",
            "MAIL FROM:<lb1@example.org>",
            "RCPT TO:<ops@example.org>",
            "RCPT TO:<chief@example.org>",
            "Subject: lb1: web: 10.0.0.11:80 is down: connection refused",
            "1970-01-01T00:00:00Z  web: 10.0.0.11:80 is down",
        ] {
            assert!(heard.contains(wanted), "{wanted:?} is not in {heard}");
        }
    }

    #[tokio::test]
    async fn a_refusal_and_a_bad_address_are_errors() {
        let (address, _heard) = server(true).await;
        let way = |server| Way { server, security: MailSecurity::Off, login: None };
        let to = ["ops@example.org".to_owned()];
        let refused = send("lb1", &to, "lb1@example.org", way(&address), &message()).await;
        assert!(refused.unwrap_err().contains("nobody here"));
        let bad = send("lb1", &to, "not an address", way(&address), &message()).await;
        assert!(bad.unwrap_err().starts_with("address \"not an address\""));
    }
}
