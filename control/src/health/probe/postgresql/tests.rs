use std::net::SocketAddr;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::super::testing::*;
use super::*;
use crate::health::outcome::Failure;
use crate::health::probe::Probe;
use crate::model::{self, Expectation};

fn auth(kind: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes(), rest].concat())
}

fn error(state: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{state}\0M{text}\0\0").as_bytes())
}

fn row(cell: &str) -> Vec<u8> {
    let length = (cell.len() as u32).to_be_bytes();
    message(b'D', &[&[0, 1], length.as_slice(), cell.as_bytes()].concat())
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// Answers each request with the next bytes.
async fn answers(answers: Vec<Vec<u8>>) -> SocketAddr {
    serve(move |mut stream| {
        let answers = answers.clone();
        async move {
            let mut request = [0; 1024];
            for answer in answers {
                if stream.read(&mut request).await.unwrap_or(0) == 0 {
                    return;
                }
                let _ = stream.write_all(&answer).await;
            }
            let _ = stream.read(&mut request).await;
        }
    })
    .await
}

fn pgsql(login: bool, query: Option<&str>) -> Probe {
    prepare(model::Probe::Postgresql(QueryProbe {
        tls: None,
        login: login.then(|| Login { user: "check".into(), password: "pw".into() }),
        database: Some("shop".into()),
        query: query.map(str::to_owned),
        expect: Expectation { regex: Some("^1$".into()), ..Expectation::default() },
    }))
}

#[test]
fn the_md5_answer_is_what_the_server_computes() {
    let login = Login { user: "joe".into(), password: "secret".into() };
    // SELECT md5(md5('secretjoe') || E'\x01\x02\x03\x04')
    let inner = format!("{:x}", Md5::digest("secretjoe"));
    let outer = format!("{:x}", Md5::digest([inner.as_bytes(), &[1, 2, 3, 4]].concat()));
    assert_eq!(md5_answer(&login, [1, 2, 3, 4]), format!("md5{outer}"));
}

#[tokio::test]
async fn a_server_that_asks_for_a_password_is_ready() {
    let ready = pgsql(false, None);
    for reply in [auth(10, b"SCRAM-SHA-256\0\0"), auth(0, b""), error("28000", "no such role")] {
        assert_eq!(passed(&ready, answers(vec![reply]).await).await, "accepting connections");
    }
    let starting = error("57P03", "the database system is starting up");
    assert_eq!(
        failed(&ready, answers(vec![starting]).await).await,
        Failure::unexpected(
            "error 57P03 (the database system is starting up)",
            "a server that accepts connections"
        )
    );
    let full = failed(&ready, answers(vec![error("53300", "too many")]).await).await;
    assert!(matches!(full, Failure::Unexpected { .. }));
}

#[tokio::test]
async fn a_login_and_a_query_go_through() {
    let ok = [auth(0, b""), message(b'S', b"server_version\x0016\0"), ready()].concat();
    let result = [message(b'T', b"\0\0"), row("1"), message(b'C', b"SELECT 1\0"), ready()].concat();
    for first in [auth(3, b""), auth(5, &[1, 2, 3, 4])] {
        let server = answers(vec![first, ok.clone(), result.clone()]).await;
        assert_eq!(passed(&pgsql(true, Some("SELECT 1")), server).await, "row \"1\"");
    }
}

#[tokio::test]
async fn wrong_passwords_empty_results_and_wrong_rows_fail() {
    let refusal = vec![auth(3, b""), error("28P01", "password authentication failed")];
    let got = failed(&pgsql(true, None), answers(refusal).await).await;
    assert_eq!(got, Failure::unexpected("error 28P01 (password authentication failed)", "login"));
    let run = |result: Vec<u8>| async move {
        let ok = [auth(0, b""), ready()].concat();
        failed(&pgsql(true, Some("SELECT 1")), answers(vec![ok, result]).await).await
    };
    let empty = [message(b'C', b"SELECT 0\0"), ready()].concat();
    assert_eq!(run(empty).await, Failure::unexpected("no row", "at least one row"));
    assert_eq!(run(row("2")).await, Failure::unexpected("row \"2\"", "/^1$/"));
    let bad = run(error("42P01", "no table")).await;
    assert_eq!(bad, Failure::unexpected("error 42P01 (no table)", "query"));
}

#[tokio::test]
async fn a_server_that_cannot_prove_itself_is_refused() {
    let server = answers(vec![
        auth(10, b"SCRAM-SHA-256\0\0"),
        // No server can know our nonce beforehand.
        auth(11, b"r=guessed,s=AAAA,i=4096"),
    ])
    .await;
    let got = failed(&pgsql(true, None), server).await;
    assert_eq!(got, Failure::Malformed("a bad SCRAM challenge".into()));
    let server = answers(vec![[auth(12, b"v=forged"), ready()].concat()]).await;
    let got = failed(&pgsql(true, None), server).await;
    assert_eq!(got, Failure::unexpected("a wrong SCRAM signature", "the server's own"));
}

#[tokio::test]
async fn other_protocols_and_silence_fail() {
    let got = failed(&pgsql(false, None), says(&[b"SSH-2.0-OpenSSH\r\n"]).await).await;
    assert_eq!(got, Failure::unexpected("\"SSH-2\"", "a PostgreSQL message"));
    times_out_waiting_for("start-up reply", &pgsql(false, None), silent().await).await;
    let cut = says(&[&error("57P03", "x")[..9]]).await;
    assert_eq!(failed(&pgsql(false, None), cut).await, Failure::Closed("start-up reply"));
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(
        kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let _ = first_cell(&body);
        let _ = asks(&body);
        let _ = ServerError::parse(&Message { kind, body });
    }

    #[test]
    fn a_truncated_row_has_no_cell(cut in 0usize..10) {
        let whole = row("abcd");
        let body = &whole[5..];
        prop_assert!(first_cell(&body[..cut.min(body.len() - 1)]).is_none());
    }
}
