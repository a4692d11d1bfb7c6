//! MySQL and MariaDB: greeting, TLS and login, and a query when asked for.
//!
//! Without a login the check still sends one, with an empty name: a server counts connections that
//! end before the handshake does, and after `max_connect_errors` (100) of them it locks the host
//! out. "Access denied" ends the handshake properly, and shows a server that works.

mod packet;

use tokio::io::AsyncReadExt;

use self::packet::{Greeting, Login as LoginPacket, Reader, ServerError};
use super::expect::Expect;
use super::stream::{self, Stream};
use super::tls::Tls;
use super::{Attempt, Exchange, Fault, PrepareError, excerpt};
use crate::model::QueryProbe;

/// Longest packet taken.
const PACKET_LIMIT: usize = 1 << 20;

/// Most packets read for one result.
const PACKETS_LIMIT: usize = 4096;

/// "Access denied", in its forms.
const DENIED: [u16; 4] = [1044, 1045, 1698, 3118];

/// A handshake, and a query.
pub(super) struct Mysql {
    tls: Option<Tls>,
    user: String,
    password: String,
    anonymous: bool,
    database: Option<String>,
    query: Option<String>,
    expect: Expect,
}

/// A connection that counts its packets.
struct Packets {
    stream: Stream,
    sequence: u8,
}

impl Mysql {
    pub fn prepare(wanted: &QueryProbe) -> Result<Self, PrepareError> {
        let (user, password) = match &wanted.login {
            Some(login) => (login.user.clone(), login.password.clone()),
            None => (String::new(), String::new()),
        };
        Ok(Self {
            tls: wanted.tls.as_ref().map(|tls| Tls::load(tls, None, &[])).transpose()?,
            user,
            password,
            anonymous: wanted.login.is_none(),
            database: wanted.database.clone(),
            query: wanted.query.clone(),
            expect: Expect::new(&wanted.expect)?,
        })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let stream = stream::open(attempt, None).await?;
        let mut packets = Packets { stream, sequence: 0 };
        let first = packets.read(attempt, "MySQL greeting").await?;
        if let Some(error) = ServerError::parse(&first) {
            return Err(refused(&error, "a greeting"));
        }
        let greeting = Greeting::parse(&first)
            .ok_or_else(|| Fault::unexpected(format!("{:?}", excerpt(&first)), "MySQL greeting"))?;
        let version = format!("MySQL {}", excerpt(greeting.version.as_bytes()));
        let mut login = LoginPacket {
            user: &self.user,
            database: self.database.as_deref(),
            plugin: &greeting.plugin,
            answer: self.answer(&greeting.plugin, &greeting.scramble, false),
            tls: self.tls.is_some(),
        };
        if let Some(tls) = &self.tls {
            if !greeting.offers_tls() {
                return Err(Fault::unexpected("no TLS offered", "TLS"));
            }
            packets.write(&login.tls_request(), "TLS handshake").await?;
            packets.stream = packets.stream.upgrade(attempt, tls).await?;
            login.answer = self.answer(&greeting.plugin, &greeting.scramble, true);
        }
        packets.write(&login.to_bytes(), "login reply").await?;
        match self.log_in(attempt, &mut packets, &greeting).await? {
            Some(error) if self.anonymous && DENIED.contains(&error.code) => return Ok(version),
            Some(error) => return Err(refused(&error, "login")),
            None => {}
        }
        let said = match &self.query {
            Some(query) => self.ask(attempt, &mut packets, query).await?,
            None => version,
        };
        packets.sequence = 0;
        let _ = packets.write(&[packet::COM_QUIT], "end").await;
        Ok(said)
    }

    /// Carries the login on until the server agrees (`None`) or refuses.
    async fn log_in(
        &self,
        attempt: &mut Attempt<'_>,
        packets: &mut Packets,
        greeting: &Greeting,
    ) -> Result<Option<ServerError>, Fault> {
        let mut plugin = greeting.plugin.clone();
        for _ in 0..5 {
            let reply = packets.read(attempt, "login reply").await?;
            if let Some(error) = ServerError::parse(&reply) {
                return Ok(Some(error));
            }
            match reply.split_first() {
                Some((0x00, _)) => return Ok(None),
                Some((0xfe, rest)) => {
                    let (name, scramble) = packet::auth_switch(rest)
                        .ok_or_else(|| Fault::malformed("a bad authentication switch"))?;
                    let answer = self.answer(&name, &scramble, self.tls.is_some());
                    if answer.is_none() && !self.password.is_empty() {
                        let got = format!("authentication plugin {}", excerpt(name.as_bytes()));
                        return Err(Fault::unexpected(got, "one that this check knows"));
                    }
                    plugin = name;
                    packets.write(&answer.unwrap_or_default(), "login reply").await?;
                }
                // caching_sha2_password: 3 goes on, 4 wants the password itself.
                Some((0x01, [3])) => {}
                Some((0x01, [4])) if self.tls.is_some() => {
                    let mut clear = self.password.clone().into_bytes();
                    clear.push(0);
                    packets.write(&clear, "login reply").await?;
                }
                Some((0x01, [4])) => {
                    let got = format!("{plugin} that wants the password in clear");
                    return Err(Fault::unexpected(got, "tls = true in the check"));
                }
                Some(_) | None => return Err(Fault::malformed("a bad login reply")),
            }
        }
        Err(Fault::malformed("a login that does not end"))
    }

    /// The answer to a plugin's challenge; `None` when the plugin is unknown.
    fn answer(&self, plugin: &str, scramble: &[u8], secure: bool) -> Option<Vec<u8>> {
        match plugin {
            "mysql_native_password" => Some(packet::native(&self.password, scramble)),
            "caching_sha2_password" => Some(packet::caching_sha2(&self.password, scramble)),
            "mysql_clear_password" if secure => Some([self.password.as_bytes(), &[0]].concat()),
            _ => None,
        }
    }

    /// Sends a query and reads its first row.
    async fn ask(&self, attempt: &mut Attempt<'_>, packets: &mut Packets, query: &str) -> Exchange {
        packets.sequence = 0;
        let command = [&[packet::COM_QUERY], query.as_bytes()].concat();
        packets.write(&command, "query result").await?;
        let head = packets.read(attempt, "query result").await?;
        if let Some(error) = ServerError::parse(&head) {
            return Err(refused(&error, "query"));
        }
        let columns = Reader(&head).length().unwrap_or(0);
        if columns == 0 {
            return Err(Fault::unexpected("no result", "at least one row"));
        }
        let mut ends = 0;
        for _ in 0..PACKETS_LIMIT {
            let reply = packets.read(attempt, "query result").await?;
            if let Some(error) = ServerError::parse(&reply) {
                return Err(refused(&error, "query"));
            }
            // The first end follows the columns, the second the rows.
            if packet::is_end(&reply) {
                ends += 1;
                if ends == 2 {
                    return Err(Fault::unexpected("no row", "at least one row"));
                }
            } else if ends == 1 {
                let cell = Reader(&reply).text().unwrap_or_default();
                self.expect.judge("row", cell)?;
                return Ok(format!("row {:?}", excerpt(cell)));
            }
        }
        Err(Fault::malformed("a result that does not end"))
    }
}

impl Packets {
    async fn read(
        &mut self,
        attempt: &mut Attempt<'_>,
        expected: &'static str,
    ) -> Result<Vec<u8>, Fault> {
        attempt.waiting_for = expected;
        let mut head = [0; 4];
        let fault = |error| Fault::from_io(error, expected);
        self.stream.read_exact(&mut head).await.map_err(fault)?;
        let [a, b, c, sequence] = head;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        if length > PACKET_LIMIT || sequence != self.sequence {
            let got = format!("{:?}", excerpt(&head));
            return Err(Fault::unexpected(got, "a MySQL packet"));
        }
        self.sequence = sequence.wrapping_add(1);
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.map_err(fault)?;
        Ok(body)
    }

    async fn write(&mut self, body: &[u8], expected: &'static str) -> Result<(), Fault> {
        let framed = packet::framed(body, self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        stream::send(&mut self.stream, &framed, expected).await
    }
}

fn refused(error: &ServerError, what: &str) -> Fault {
    let text = excerpt(error.message.as_bytes());
    Fault::unexpected(format!("error {} ({text})", error.code), what)
}

#[cfg(test)]
mod tests;
