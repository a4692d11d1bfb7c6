//! PostgreSQL (protocol 3.0): start-up, TLS and login, and a query when asked for.
//!
//! Without a login it asks as `pg_isready` does: any answer to a start-up message but "cannot
//! connect now" shows a server that takes connections.

use md5::{Digest, Md5};
use tokio::io::AsyncReadExt;

use super::expect::Expect;
use super::scram::Scram;
use super::stream::{self, Stream};
use super::tls::Tls;
use super::{Attempt, Exchange, Fault, PrepareError, excerpt, random};
use crate::model::{Login, QueryProbe};

/// Longest message taken.
const MESSAGE_LIMIT: usize = 1 << 20;

/// Most messages read in one exchange.
const MESSAGES_LIMIT: usize = 4096;

const SSL_REQUEST: u32 = 80_877_103;
const PROTOCOL: u32 = 3 << 16;

/// Answers that end a start-up without a login although the server works: bad authorization, bad
/// password, no such database.
const ALIVE: [&str; 3] = ["28000", "28P01", "3D000"];

/// A start-up, and a query.
pub(super) struct Postgresql {
    tls: Option<Tls>,
    login: Option<Login>,
    database: Option<String>,
    query: Option<String>,
    expect: Expect,
}

/// One message of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Message {
    kind: u8,
    body: Vec<u8>,
}

/// An ErrorResponse: its SQLSTATE and text.
#[derive(Clone, PartialEq, Eq, Debug)]
struct ServerError {
    state: String,
    text: String,
}

/// What an Authentication message asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Asks {
    Nothing,
    Clear,
    Md5([u8; 4]),
    Scram,
    ScramGoOn(String),
    ScramEnd(String),
    Other(u32),
}

impl Postgresql {
    pub fn prepare(wanted: &QueryProbe) -> Result<Self, PrepareError> {
        Ok(Self {
            tls: wanted
                .tls
                .as_ref()
                .map(|tls| Tls::load(tls, None, &[b"postgresql"]))
                .transpose()?,
            login: wanted.login.clone(),
            database: wanted.database.clone(),
            query: wanted.query.clone(),
            expect: Expect::new(&wanted.expect)?,
        })
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let mut stream = stream::open(attempt, None).await?;
        if let Some(tls) = &self.tls {
            stream = start_tls(attempt, stream, tls).await?;
        }
        let user = self.login.as_ref().map_or("viaduct", |login| login.user.as_str());
        let database = self.database.as_deref().unwrap_or(user);
        let startup = startup(user, database);
        stream::send(&mut stream, &startup, "start-up reply").await?;
        let Some(login) = &self.login else {
            return self.is_ready(attempt, &mut stream).await;
        };
        log_in(attempt, &mut stream, login).await?;
        let said = match &self.query {
            Some(query) => self.ask(attempt, &mut stream, query).await?,
            None => "login accepted".into(),
        };
        let _ = stream::send(&mut stream, &message(b'X', &[]), "end").await;
        Ok(said)
    }

    async fn is_ready(&self, attempt: &mut Attempt<'_>, stream: &mut Stream) -> Exchange {
        let reply = receive(attempt, stream, "start-up reply").await?;
        match (reply.kind, ServerError::parse(&reply)) {
            (b'R', _) => Ok("accepting connections".into()),
            (_, Some(error)) if ALIVE.contains(&error.state.as_str()) => {
                Ok("accepting connections".into())
            }
            (_, Some(error)) => Err(error.refusal("a server that accepts connections")),
            (_, None) => Err(not_postgresql(&reply)),
        }
    }

    /// Sends a query and reads its first row.
    async fn ask(&self, attempt: &mut Attempt<'_>, stream: &mut Stream, query: &str) -> Exchange {
        let body = [query.as_bytes(), &[0]].concat();
        stream::send(stream, &message(b'Q', &body), "query result").await?;
        for _ in 0..MESSAGES_LIMIT {
            let reply = receive(attempt, stream, "query result").await?;
            if let Some(error) = ServerError::parse(&reply) {
                return Err(error.refusal("query"));
            }
            match reply.kind {
                b'D' => {
                    let cell = first_cell(&reply.body)
                        .ok_or_else(|| Fault::malformed("a row that is cut off"))?;
                    self.expect.judge("row", cell)?;
                    return Ok(format!("row {:?}", excerpt(cell)));
                }
                b'Z' => return Err(Fault::unexpected("no row", "at least one row")),
                _ => {} // row description, command complete, notices
            }
        }
        Err(Fault::malformed("a result that does not end"))
    }
}

async fn start_tls(
    attempt: &mut Attempt<'_>,
    mut stream: Stream,
    tls: &Tls,
) -> Result<Stream, Fault> {
    let request = [8u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat();
    stream::send(&mut stream, &request, "TLS reply").await?;
    attempt.waiting_for = "TLS reply";
    let mut reply = [0; 1];
    let read = stream.read_exact(&mut reply).await;
    read.map_err(|error| Fault::from_io(error, "TLS reply"))?;
    match reply[0] {
        b'S' => stream.upgrade(attempt, tls).await,
        b'N' => Err(Fault::unexpected("no TLS offered", "TLS")),
        other => Err(Fault::unexpected(format!("{:?}", excerpt(&[other])), "PostgreSQL")),
    }
}

/// Answers the server's questions until it is ready for queries.
async fn log_in(
    attempt: &mut Attempt<'_>,
    stream: &mut Stream,
    login: &Login,
) -> Result<(), Fault> {
    const WHAT: &str = "login reply";
    let scram = Scram::new(&random::<18>());
    let mut server_must_say = None;
    for _ in 0..MESSAGES_LIMIT {
        let reply = receive(attempt, stream, WHAT).await?;
        if let Some(error) = ServerError::parse(&reply) {
            return Err(error.refusal("login"));
        }
        if reply.kind == b'Z' {
            return Ok(());
        }
        if reply.kind != b'R' {
            continue; // parameters, the cancel key, notices
        }
        let answer = match asks(&reply.body).ok_or_else(|| not_postgresql(&reply))? {
            Asks::Nothing => continue,
            Asks::Clear => zero_ended(login.password.as_bytes()),
            Asks::Md5(salt) => zero_ended(md5_answer(login, salt).as_bytes()),
            Asks::Scram => {
                let first = scram.first();
                let length = (first.len() as u32).to_be_bytes();
                [b"SCRAM-SHA-256\0", length.as_slice(), first.as_bytes()].concat()
            }
            Asks::ScramGoOn(text) => {
                let last = scram
                    .answer(&login.password, &text)
                    .ok_or_else(|| Fault::malformed("a bad SCRAM challenge"))?;
                server_must_say = Some(last.server_says);
                last.message.into_bytes()
            }
            Asks::ScramEnd(text) => {
                if server_must_say.as_deref() != Some(text.as_str()) {
                    return Err(Fault::unexpected("a wrong SCRAM signature", "the server's own"));
                }
                continue;
            }
            Asks::Other(kind) => {
                let got = format!("authentication method {kind}");
                return Err(Fault::unexpected(got, "one that this check knows"));
            }
        };
        stream::send(stream, &message(b'p', &answer), WHAT).await?;
    }
    Err(Fault::malformed("a login that does not end"))
}

/// Reads one message.
async fn receive(
    attempt: &mut Attempt<'_>,
    stream: &mut Stream,
    expected: &'static str,
) -> Result<Message, Fault> {
    attempt.waiting_for = expected;
    let fault = |error| Fault::from_io(error, expected);
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.map_err(fault)?;
    let [kind, a, b, c, d] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if !(4..=MESSAGE_LIMIT).contains(&length) || !kind.is_ascii_alphanumeric() {
        let got = format!("{:?}", excerpt(&head));
        return Err(Fault::unexpected(got, "a PostgreSQL message"));
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await.map_err(fault)?;
    Ok(Message { kind, body })
}

fn not_postgresql(reply: &Message) -> Fault {
    let got = format!("message {:?}", char::from(reply.kind));
    Fault::unexpected(got, "a PostgreSQL message")
}

impl ServerError {
    /// Fields are a letter and a text each; C is the SQLSTATE, M the message.
    fn parse(reply: &Message) -> Option<Self> {
        if reply.kind != b'E' {
            return None;
        }
        let field = |letter: u8| {
            let fields = reply.body.split(|byte| *byte == 0);
            let text = fields.filter_map(|field| field.strip_prefix(&[letter])).next();
            text.map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
        };
        Some(Self { state: field(b'C'), text: field(b'M') })
    }

    fn refusal(&self, expected: &str) -> Fault {
        let state = excerpt(self.state.as_bytes());
        Fault::unexpected(format!("error {state} ({})", excerpt(self.text.as_bytes())), expected)
    }
}

fn asks(body: &[u8]) -> Option<Asks> {
    let (kind, rest) = body.split_first_chunk::<4>()?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    Some(match u32::from_be_bytes(*kind) {
        0 => Asks::Nothing,
        3 => Asks::Clear,
        5 => Asks::Md5(*rest.first_chunk::<4>()?),
        10 if rest.split(|byte| *byte == 0).any(|name| name == b"SCRAM-SHA-256") => Asks::Scram,
        11 => Asks::ScramGoOn(text()),
        12 => Asks::ScramEnd(text()),
        other => Asks::Other(other),
    })
}

/// The first cell of a DataRow; empty for NULL.
fn first_cell(body: &[u8]) -> Option<&[u8]> {
    let (columns, rest) = body.split_first_chunk::<2>()?;
    if u16::from_be_bytes(*columns) == 0 {
        return Some(&[]);
    }
    let (length, rest) = rest.split_first_chunk::<4>()?;
    match i32::from_be_bytes(*length) {
        -1 => Some(&[]),
        length => rest.get(..usize::try_from(length).ok()?),
    }
}

/// `md5` and the hex of `MD5(MD5(password, user), salt)`.
fn md5_answer(login: &Login, salt: [u8; 4]) -> String {
    let hex = |digest: &[u8]| digest.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let inner = hex(&Md5::digest(format!("{}{}", login.password, login.user)));
    format!("md5{}", hex(&Md5::new().chain_update(inner).chain_update(salt).finalize()))
}

fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    let fields = ["user", user, "database", database, "application_name", "viaduct health check"];
    for field in fields {
        body.extend(zero_ended(field.as_bytes()));
    }
    body.push(0);
    let mut out = (body.len() as u32 + 4).to_be_bytes().to_vec();
    out.extend(body);
    out
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn zero_ended(text: &[u8]) -> Vec<u8> {
    [text, &[0]].concat()
}

#[cfg(test)]
mod tests;
