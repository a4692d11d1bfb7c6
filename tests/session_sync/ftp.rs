//! An FTP client of few words, so that one control connection lives as long as the test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use harness::Host;
use harness::pair::VIP;

use super::load::LIMIT;

pub const SERVICE: &str = r#"
[[service]]
name = "files"
address = "192.0.2.10:21"
  [[service.real]]
  address = "10.0.0.11:21"
"#;

/// A control connection, logged in.
pub struct Session {
    client: Host,
    control: BufReader<TcpStream>,
}

impl Session {
    pub fn open(client: &Host) -> Result<Self> {
        let control = connect(client, SocketAddr::new(VIP.parse()?, 21))?;
        let mut session = Self { client: client.clone(), control: BufReader::new(control) };
        session.expect("220")?;
        // The server wants no password.
        session.ask("USER anonymous", "230")?;
        session.ask("TYPE I", "200")?;
        Ok(session)
    }

    pub fn say(&mut self, command: &str) -> Result<()> {
        Ok(self.control.get_mut().write_all(format!("{command}\r\n").as_bytes())?)
    }

    /// Waits for a reply with this code.
    pub fn expect(&mut self, code: &str) -> Result<()> {
        self.reply(code).map(drop)
    }

    fn ask(&mut self, command: &str, code: &str) -> Result<String> {
        self.say(command)?;
        self.reply(code).with_context(|| command.to_owned())
    }

    /// The last line of a reply with this code.
    fn reply(&mut self, code: &str) -> Result<String> {
        loop {
            let mut line = String::new();
            self.control.read_line(&mut line).context("a reply")?;
            ensure!(line.starts_with(code), "{line:?} is not {code}");
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }

    /// Opens a passive data connection.
    fn data(&mut self) -> Result<TcpStream> {
        let reply = self.ask("PASV", "227")?;
        let inside = reply.split(['(', ')']).nth(1).context("an address")?;
        let numbers: Result<Vec<u8>, _> = inside.split(',').map(str::parse).collect();
        let numbers = numbers.with_context(|| reply.clone())?;
        let [a, b, c, d, high, low] = numbers[..] else { anyhow::bail!("{reply:?}") };
        let address = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
        ensure!(address.ip().to_string() == VIP, "the reply names {address}");
        connect(&self.client, address)
    }

    /// A file's text.
    pub fn fetch(&mut self, file: &str) -> Result<String> {
        let mut data = self.data()?;
        self.ask(&format!("RETR {file}"), "150")?;
        let mut text = String::new();
        data.read_to_string(&mut text)?;
        self.expect("226")?;
        Ok(text)
    }

    /// Begins an upload; who closes it has to expect 226.
    pub fn store(&mut self, file: &str) -> Result<TcpStream> {
        let data = self.data()?;
        self.ask(&format!("STOR {file}"), "150")?;
        Ok(data)
    }
}

fn connect(client: &Host, address: SocketAddr) -> Result<TcpStream> {
    client.enter(|| {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(stream)
    })?
}
