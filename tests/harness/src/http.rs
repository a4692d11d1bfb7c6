//! A small HTTP/1.1 client, for asking servers of the lab who they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Everything after the header.
    pub body: String,
}

/// Fetches `path` over a new connection from the calling thread's namespace.
///
/// # Errors
/// When connecting, sending or receiving fails or takes longer than `limit` each.
pub fn get(server: SocketAddr, path: &str, limit: Duration) -> Result<Response> {
    let context = || format!("GET http://{server}{path}");
    let mut stream = TcpStream::connect_timeout(&server, limit).with_context(context)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(context)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(context)?;
    parse(&String::from_utf8_lossy(&answer)).with_context(context)
}

fn parse(answer: &str) -> Result<Response> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("no complete header in {answer:?}");
    };
    let status = head.split_ascii_whitespace().nth(1).context("no status")?;
    Ok(Response { status: status.parse()?, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_header_is_an_error_and_a_whole_answer_is_not() {
        assert!(parse("HTTP/1.1 200 OK\r\n").is_err());
        let answer = parse("HTTP/1.1 503 Busy\r\nX: y\r\n\r\nbody").unwrap();
        assert_eq!(answer, Response { status: 503, body: "body".to_owned() });
    }
}
