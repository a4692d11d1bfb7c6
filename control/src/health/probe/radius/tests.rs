use proptest::prelude::*;

use super::super::testing::*;
use super::*;
use crate::health::outcome::Failure;
use crate::health::probe::Probe;
use crate::model;

const SECRET: &[u8] = b"testing123";

fn radius(login: Option<(&str, &str)>) -> RadiusProbe {
    RadiusProbe {
        secret: "testing123".into(),
        login: login.map(|(user, password)| Login { user: user.into(), password: password.into() }),
    }
}

fn probe(login: Option<(&str, &str)>) -> Probe {
    prepare(model::Probe::Radius(radius(login)))
}

/// A server's reply to a request.
fn reply(request: &[u8], code: u8, signed: bool, secret: &[u8]) -> Vec<u8> {
    let authenticator: [u8; 16] = request[4..20].try_into().unwrap();
    let mut reply = vec![code, request[1], 0, 0];
    reply.extend_from_slice(&authenticator);
    attribute(&mut reply, 18, b"hello"); // Reply-Message
    let at = reply.len() + 2;
    if signed {
        attribute(&mut reply, MESSAGE_AUTHENTICATOR, &[0; 16]);
    }
    let length = (reply.len() as u16).to_be_bytes();
    reply[2..4].copy_from_slice(&length);
    if signed {
        let signature = sign(secret, &[&reply]);
        reply[at..at + 16].copy_from_slice(&signature);
    }
    let digest = Md5::new().chain_update(&reply).chain_update(secret).finalize();
    reply[4..20].copy_from_slice(&digest);
    reply
}

#[test]
fn the_example_of_rfc_2865_is_reproduced() {
    // Section 7.1: user nemo, password arctangent, secret xyzzy5461.
    let authenticator = [
        0x0f, 0x40, 0x3f, 0x94, 0x73, 0x97, 0x80, 0x57, 0xbd, 0x83, 0xd5, 0xcb, 0x98, 0xf4, 0x22,
        0x7a,
    ];
    let hidden = [
        0x0d, 0xbe, 0x70, 0x8d, 0x93, 0xd4, 0x13, 0xce, 0x31, 0x96, 0xe4, 0x3f, 0x78, 0x2a, 0x0a,
        0xee,
    ];
    assert_eq!(hide(b"arctangent", b"xyzzy5461", &authenticator), hidden);
    let accept = [
        0x02, 0x00, 0x00, 0x26, 0x86, 0xfe, 0x22, 0x0e, 0x76, 0x24, 0xba, 0x2a, 0x10, 0x05, 0xf6,
        0xbf, 0x9b, 0x55, 0xe0, 0xb2, 0x06, 0x06, 0x00, 0x00, 0x00, 0x01, 0x0f, 0x06, 0x00, 0x00,
        0x00, 0x00, 0x0e, 0x06, 0xc0, 0xa8, 0x01, 0x03,
    ];
    assert_eq!(genuine(&accept, 0, &authenticator, b"xyzzy5461"), Some(ACCESS_ACCEPT));
    assert_eq!(genuine(&accept, 1, &authenticator, b"xyzzy5461"), None);
    assert_eq!(genuine(&accept, 0, &authenticator, b"other"), None);
}

#[test]
fn long_passwords_are_hidden_block_by_block() {
    assert_eq!(hide(&[b'x'; 17], SECRET, &[7; 16]).len(), 32);
    assert_eq!(hide(&[], SECRET, &[7; 16]).len(), 16);
    assert_eq!(hide(&[b'x'; 500], SECRET, &[7; 16]).len(), PASSWORD_LIMIT);
}

#[test]
fn requests_are_signed() {
    let request = Radius::prepare(&radius(None), "lb1").request(9, [3; 16]);
    assert_eq!(request[0], STATUS_SERVER);
    assert_eq!(usize::from(u16::from_be_bytes([request[2], request[3]])), request.len());
    assert_eq!(request[20..22], [MESSAGE_AUTHENTICATOR, 18]);
    let mut unsigned = request.clone();
    unsigned[22..38].fill(0);
    assert_eq!(sign(SECRET, &[&unsigned]), request[22..38]);
}

#[tokio::test]
async fn a_login_is_accepted_or_rejected() {
    let server = answers_udp(|request| vec![reply(request, ACCESS_ACCEPT, true, SECRET)]).await;
    assert_eq!(passed(&probe(Some(("joe", "pw"))), server).await, "Access-Accept");
    assert_eq!(passed(&probe(None), server).await, "Access-Accept");
    let server = answers_udp(|request| vec![reply(request, ACCESS_REJECT, false, SECRET)]).await;
    let got = failed(&probe(Some(("joe", "pw"))), server).await;
    assert_eq!(got, Failure::unexpected("Access-Reject", "Access-Accept"));
}

#[tokio::test]
async fn forged_replies_count_for_nothing() {
    let server = answers_udp(|request| {
        let mut bad_signature = reply(request, ACCESS_ACCEPT, true, SECRET);
        let last = bad_signature.len() - 1;
        bad_signature[last] ^= 1;
        vec![
            reply(request, ACCESS_ACCEPT, true, b"guess"),
            bad_signature,
            reply(request, ACCESS_REJECT, true, SECRET),
        ]
    });
    let got = failed(&probe(Some(("joe", "pw"))), server.await).await;
    assert_eq!(got, Failure::unexpected("Access-Reject", "Access-Accept"));
    let quiet = answers_udp(|_| vec![]).await;
    times_out_waiting_for("RADIUS reply", &probe(None), quiet).await;
}

proptest! {
    #[test]
    fn arbitrary_replies_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        length in 0u16..90,
    ) {
        prop_assert_eq!(genuine(&bytes, 1, &[0; 16], SECRET), None);
        // With a plausible length and a right digest, to reach the attributes.
        if bytes.len() >= 20 {
            let mut reply = bytes.clone();
            reply[1] = 1;
            reply[2..4].copy_from_slice(&length.to_be_bytes());
            let covered = usize::from(length).clamp(20, reply.len());
            let digest = Md5::new().chain_update(&reply[..4]).chain_update([0; 16])
                .chain_update(&reply[20..covered]).chain_update(SECRET).finalize();
            reply[4..20].copy_from_slice(&digest);
            let _ = genuine(&reply, 1, &[0; 16], SECRET);
        }
    }

    #[test]
    fn a_truncated_reply_is_refused(cut in 0usize..45) {
        let request = Radius::prepare(&radius(None), "lb1").request(9, [3; 16]);
        let whole = reply(&request, ACCESS_ACCEPT, true, SECRET);
        prop_assume!(cut < whole.len());
        prop_assert_eq!(genuine(&whole[..cut], 9, &[3; 16], SECRET), None);
        prop_assert_eq!(genuine(&whole, 9, &[3; 16], SECRET), Some(ACCESS_ACCEPT));
    }
}
