use std::net::SocketAddr;

use proptest::prelude::*;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::testing::*;
use super::packet::*;
use crate::health::outcome::Failure;
use crate::health::probe::Probe;
use crate::model::{self, Expectation, Login as ModelLogin, QueryProbe};

const SCRAMBLE: &[u8; 20] = b"01234567890123456789";

fn greeting(plugin: &str) -> Vec<u8> {
    let mut out = vec![10];
    out.extend_from_slice(b"8.0.36\0");
    out.extend_from_slice(&[1, 0, 0, 0]);
    out.extend_from_slice(&SCRAMBLE[..8]);
    out.push(0);
    out.extend_from_slice(&[0x00, 0x82]); // protocol 4.1 and secure connection
    out.extend_from_slice(&[45, 2, 0]);
    out.extend_from_slice(&[0x08, 0x00]); // plugin auth
    out.push(21);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(&SCRAMBLE[8..]);
    out.push(0);
    out.extend_from_slice(plugin.as_bytes());
    out.push(0);
    out
}

fn error(code: u16, text: &str) -> Vec<u8> {
    let mut out = vec![0xff];
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(b"#28000");
    out.extend_from_slice(text.as_bytes());
    out
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const END: &[u8] = &[0xfe, 0, 0, 2, 0];

/// Greets, then answers each packet with the next list of packets.
async fn answers(greeting: Vec<u8>, answers: Vec<Vec<Vec<u8>>>) -> SocketAddr {
    serve(move |mut stream| {
        let (greeting, answers) = (greeting.clone(), answers.clone());
        async move {
            let _ = stream.write_all(&framed(&greeting, 0)).await;
            for answer in answers {
                let mut head = [0; 4];
                if stream.read_exact(&mut head).await.is_err() {
                    return;
                }
                let mut body = vec![0; usize::from(head[0]) + usize::from(head[1]) * 256];
                let _ = stream.read_exact(&mut body).await;
                for (i, packet) in answer.iter().enumerate() {
                    let framed = framed(packet, head[3].wrapping_add(1 + i as u8));
                    let _ = stream.write_all(&framed).await;
                }
            }
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await
}

fn mysql(login: bool, query: Option<&str>) -> Probe {
    prepare(model::Probe::Mysql(QueryProbe {
        tls: None,
        login: login.then(|| ModelLogin { user: "check".into(), password: "pw".into() }),
        database: None,
        query: query.map(str::to_owned),
        expect: Expectation { regex: Some("^1$".into()), ..Expectation::default() },
    }))
}

#[test]
fn a_greeting_is_read() {
    let parsed = Greeting::parse(&greeting("caching_sha2_password")).unwrap();
    assert_eq!(parsed.version, "8.0.36");
    assert_eq!(parsed.scramble, SCRAMBLE);
    assert_eq!(parsed.plugin, "caching_sha2_password");
    assert!(!parsed.offers_tls());
}

#[test]
fn a_server_that_knows_the_double_hash_accepts_the_native_answer() {
    // What a server does: it knows only SHA1(SHA1(password)).
    let known = Sha1::digest(Sha1::digest("secret"));
    let mask = Sha1::new().chain_update(SCRAMBLE).chain_update(known).finalize();
    let once: Vec<u8> = native("secret", SCRAMBLE).iter().zip(mask).map(|(a, b)| a ^ b).collect();
    assert_eq!(Sha1::digest(once), known);
    assert!(native("", SCRAMBLE).is_empty());
}

#[tokio::test]
async fn access_denied_without_a_login_shows_a_server_that_works() {
    let denied = error(1045, "Access denied for user ''@'x'");
    let server = answers(greeting("mysql_native_password"), vec![vec![denied.clone()]]).await;
    assert_eq!(passed(&mysql(false, None), server).await, "MySQL 8.0.36");
    let got = failed(&mysql(true, None), server).await;
    assert_eq!(got, Failure::unexpected("error 1045 (Access denied for user ''@'x')", "login"));
}

#[tokio::test]
async fn a_login_and_a_query_go_through() {
    let result = vec![vec![1], b"\x03def".to_vec(), END.to_vec(), b"\x011".to_vec(), END.to_vec()];
    let server = answers(greeting("mysql_native_password"), vec![vec![OK.to_vec()], result]).await;
    assert_eq!(passed(&mysql(true, Some("SELECT 1")), server).await, "row \"1\"");
}

#[tokio::test]
async fn the_server_may_switch_plugins_and_ask_for_more() {
    let mut switch = vec![0xfe];
    switch.extend_from_slice(b"caching_sha2_password\0");
    switch.extend_from_slice(SCRAMBLE);
    switch.push(0);
    let fast = vec![vec![1, 3], OK.to_vec()];
    let server = answers(greeting("mysql_native_password"), vec![vec![switch.clone()], fast]).await;
    assert_eq!(passed(&mysql(true, None), server).await, "MySQL 8.0.36");
    let full = vec![vec![1, 4]];
    let server = answers(greeting("mysql_native_password"), vec![vec![switch], full]).await;
    let got = failed(&mysql(true, None), server).await;
    assert_eq!(
        got,
        Failure::unexpected(
            "caching_sha2_password that wants the password in clear",
            "tls = true in the check"
        )
    );
}

#[tokio::test]
async fn empty_results_wrong_rows_and_errors_fail() {
    let login = || vec![OK.to_vec()];
    let run = |result: Vec<Vec<u8>>| async {
        let server = answers(greeting("mysql_native_password"), vec![login(), result]).await;
        failed(&mysql(true, Some("SELECT 1")), server).await
    };
    let columns = || vec![vec![1], b"\x03def".to_vec(), END.to_vec()];
    let mut empty = columns();
    empty.push(END.to_vec());
    assert_eq!(run(empty).await, Failure::unexpected("no row", "at least one row"));
    let mut two = columns();
    two.push(b"\x012".to_vec());
    assert_eq!(run(two).await, Failure::unexpected("row \"2\"", "/^1$/"));
    let broken = run(vec![error(1146, "no such table")]).await;
    assert_eq!(broken, Failure::unexpected("error 1146 (no such table)", "query"));
}

#[tokio::test]
async fn a_locked_out_host_other_protocols_and_silence_fail() {
    let mut blocked = vec![0xff];
    blocked.extend_from_slice(&1129u16.to_le_bytes());
    blocked.extend_from_slice(b"Host is blocked");
    let got = failed(&mysql(false, None), answers(blocked, vec![]).await).await;
    assert_eq!(got, Failure::unexpected("error 1129 (Host is blocked)", "a greeting"));
    let got = failed(&mysql(false, None), says(&[b"SSH-2.0-x\r\n"]).await).await;
    assert_eq!(got, Failure::unexpected("\"SSH-\"", "a MySQL packet"));
    times_out_waiting_for("MySQL greeting", &mysql(false, None), silent().await).await;
    let cut = says(&[&[40, 0, 0, 0, 10, b'8']]).await;
    assert_eq!(failed(&mysql(false, None), cut).await, Failure::Closed("MySQL greeting"));
}

proptest! {
    #[test]
    fn arbitrary_packets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Greeting::parse(&bytes);
        let _ = ServerError::parse(&bytes);
        let _ = auth_switch(&bytes);
        let _ = Reader(&bytes).text();
        let mut ten = vec![10];
        ten.extend(bytes);
        let _ = Greeting::parse(&ten);
    }

    #[test]
    fn a_truncated_greeting_is_refused_or_shorter(cut in 0usize..70) {
        let whole = greeting("mysql_native_password");
        prop_assume!(cut < whole.len());
        if let Some(short) = Greeting::parse(&whole[..cut]) {
            prop_assert!(SCRAMBLE.starts_with(&short.scramble));
            prop_assert!("mysql_native_password".starts_with(&short.plugin));
        }
    }
}
