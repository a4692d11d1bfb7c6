use super::*;
use crate::sync::lineage::Change;
use proptest::prelude::*;

fn round_trip(message: &Message) -> Result<Message, Malformed> {
    let frame = message.encode().unwrap();
    let (head, body) = frame.split_at(HEADER);
    let (kind, len) = header(head.try_into().unwrap())?;
    assert_eq!(len, body.len());
    Message::decode(kind, body)
}

fn real() -> SocketAddr {
    "[2001:db8::2]:80".parse().unwrap()
}

fn lineage(text: String) -> Lineage {
    let digest = crate::model::SharedPart::default().digest();
    let id = ChangeId { writer: u64::MAX, number: 7 };
    Lineage::starting(Change {
        id,
        node: text.clone(),
        author: text.clone(),
        comment: text,
        time: 1_795_000_000,
        digest,
    })
}

fn samples() -> Vec<Message> {
    let text = || "text with \"quotes\" and \u{4e2d}".to_owned();
    let step = |body| Message::Step(Step { epoch: 7, sequence: u64::MAX, body });
    vec![
        Message::Hello(Hello { versions: (1, 9), node: text(), boot: u64::MAX, program: text() }),
        Message::Bye(Bye { reason: text() }),
        step(Body::Begin),
        step(Body::Changes(vec![])),
        step(Body::Changes(vec![1, 2, 3])),
        step(Body::End),
        Message::Ack { epoch: 1, sequence: 2 },
        Message::Resync { epoch: u32::MAX },
        Message::Ping(Ping { sent: i64::MIN }),
        Message::Pong(Pong { sent: 1, received: 2, answered: i64::MAX }),
        Message::Roles(vec![Role {
            instance: text(),
            master: true,
            priority: 255,
            virtual_mac: Some(false),
        }]),
        Message::Heads(Heads { lineage: lineage(text()) }),
        Message::Want(Want { id: ChangeId { writer: u64::MAX, number: u64::MAX } }),
        Message::Revision(Revision {
            id: ChangeId { writer: u64::MAX, number: 1 },
            part: SharedText {
                document: text().repeat(10_000),
                addresses: [(text(), vec!["2001:db8::1".parse().unwrap()])].into(),
            },
        }),
        Message::Declined(Declined { id: ChangeId::NOTHING, why: text() }),
        Message::Verdicts(Verdicts {
            whole: true,
            verdicts: vec![Verdict { service: text(), real: real(), up: true, reason: text() }],
        }),
        Message::Drains(vec![
            DrainOrder { service: text(), real: real(), stamp: u64::MAX, drain: None },
            DrainOrder {
                service: text(),
                real: real(),
                stamp: 0,
                drain: Some(Drained {
                    author: text(),
                    reason: text(),
                    since: 1,
                    deadline: Some(u64::MAX),
                    persistent: crate::model::PersistentClients::Keep,
                }),
            },
        ]),
    ]
}

#[test]
fn every_message_survives_the_round_trip() {
    for message in samples() {
        assert_eq!(round_trip(&message).as_ref(), Ok(&message));
    }
}

#[test]
fn a_cut_body_is_refused() {
    for message in samples() {
        let frame = message.encode().unwrap();
        let body = &frame[HEADER..];
        // Changes may end anywhere; their records are checked by the reader.
        let least = if matches!(message, Message::Step(Step { body: Body::Changes(_), .. })) {
            12
        } else {
            body.len()
        };
        for len in (0..least).step_by(1 + least / 500) {
            let read = Message::decode(frame[0], &body[..len]);
            assert_eq!(read, Err(Malformed::Body(frame[0])), "{message:?} cut to {len}");
        }
    }
}

#[test]
fn unknown_kinds_and_long_bodies_are_refused_before_they_are_read() {
    assert_eq!(header([0, 0, 0, 0]), Err(Malformed::Kind(0)));
    assert_eq!(header([10, 0, 0, 0]), Err(Malformed::Kind(10)));
    assert_eq!(header([22, 0, 0, 0]), Err(Malformed::Kind(22)));
    assert_eq!(header([ACK, 0, 0, 13]), Err(Malformed::TooLong(ACK)));
    assert_eq!(header([HELLO, 0, 0x10, 1]), Err(Malformed::TooLong(HELLO)));
    assert_eq!(header([REVISION, 0xff, 0xff, 0xff]), Ok((REVISION, LONGEST)));
    let endless = Message::Bye(Bye { reason: "x".repeat(5000) });
    assert_eq!(endless.encode(), None);
}

#[test]
fn what_is_longer_than_a_frame_is_known_before_it_is_sent() {
    let revision = |bytes| Revision {
        id: ChangeId::NOTHING,
        part: SharedText { document: "x".repeat(bytes), addresses: [].into() },
    };
    let around = LONGEST - length(&revision(0));
    for (bytes, fits) in [(0, true), (around, true), (around + 1, false), (2 * LONGEST, false)] {
        let revision = revision(bytes);
        assert_eq!(revision.too_long().is_none(), fits, "{bytes}");
        assert_eq!(Message::Revision(revision).encode().is_some(), fits, "{bytes}");
    }
    let why = revision(around + 1).too_long().unwrap();
    assert!(why.contains("16777216 bytes") && why.contains("16777215"), "{why}");
}

#[test]
fn texts_of_people_never_make_a_message_too_long() {
    let long = "\u{1}".repeat(1 << 20);
    let declined = Declined { id: ChangeId::NOTHING, why: brief(&long) };
    assert!(Message::Declined(declined).encode().is_some());
    assert!(Message::Heads(Heads { lineage: lineage(brief(&long)) }).encode().is_some());
    assert_eq!(brief("as it is"), "as it is");
}

#[test]
fn new_fields_of_later_versions_are_ignored() {
    let later = br#"{"sent":5,"flavour":"new"}"#;
    assert_eq!(Message::decode(PING, later), Ok(Message::Ping(Ping { sent: 5 })));
}

#[test]
fn versions_agree_on_the_highest_or_refuse_with_a_sentence() {
    let hello = |least, most| Hello {
        versions: (least, most),
        node: "lb2".into(),
        boot: 0,
        program: "0.9".into(),
    };
    assert_eq!(hello(1, 1).agree(), Ok(1));
    assert_eq!(hello(0, 7).agree(), Ok(2));
    assert_eq!(hello(2, 3).agree(), Ok(2));
    let refusal = hello(3, 4).agree().unwrap_err();
    assert!(refusal.contains("lb2 (0.9) speaks versions 3 to 4"), "{refusal}");
    assert!(hello(0, 0).agree().is_err());
}

proptest! {
    #[test]
    fn arbitrary_frames_never_panic(kind: u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = header([kind, 0, 0, body.len() as u8]);
        let _ = Message::decode(kind, &body);
    }
}
