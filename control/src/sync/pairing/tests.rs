use super::*;
use proptest::prelude::*;

const A: Fingerprint = Fingerprint([0xaa; 32]);
const B: Fingerprint = Fingerprint([0xbb; 32]);

fn code(text: &str) -> Code {
    text.parse().unwrap()
}

/// Runs a pairing in which `spoil` may change every frame. Which frame, counted from 0, and its bytes.
fn pair(
    typed: &Code,
    shown: &Code,
    mut spoil: impl FnMut(usize, &mut Vec<u8>),
) -> (Result<Fingerprint, PairingError>, Result<Fingerprint, PairingError>) {
    let mut frame = |number: usize, mut bytes: Vec<u8>| {
        spoil(number, &mut bytes);
        bytes
    };
    let (joining, hello) = Joining::start(typed, B);
    let hello = frame(0, hello).try_into().unwrap();
    let started = Inviting::start(shown, A, &hello);
    let (inviting, reply) = match started {
        Ok((inviting, reply)) => (Some(inviting), reply),
        Err(error) => (None, refusal(error, REPLY)),
    };
    let (proving, proof) = match joining.answered(&frame(1, reply).try_into().unwrap()) {
        Ok(proving) => proving,
        Err(error) => return (Err(error), Err(PairingError::Protocol)),
    };
    let Some(inviting) = inviting else { panic!("a refused pairing went on") };
    let (accepting, acceptance) = match inviting.proved(&frame(2, proof).try_into().unwrap()) {
        Ok((accepting, frame)) => (Ok(accepting), frame),
        Err(error) => (Err(error), refusal(error, ACCEPTANCE)),
    };
    match proving.accepted(&frame(3, acceptance).try_into().unwrap()) {
        Ok((peer, done)) => {
            let done = frame(4, done).try_into().unwrap();
            (Ok(peer), accepting.and_then(|accepting| accepting.done(&done)))
        }
        Err(error) => (Err(error), accepting.and(Err(PairingError::Protocol))),
    }
}

#[test]
fn the_right_code_makes_both_know_each_other() {
    let code = code("7K2M-PX4D");
    assert_eq!(pair(&code, &code, |_, _| {}), (Ok(A), Ok(B)));
}

#[test]
fn a_wrong_code_is_told_on_both_sides() {
    let (typed, shown) = (code("7K2M-PX4D"), code("7K2M-PX4E"));
    let wrong = (Err(PairingError::WrongCode), Err(PairingError::PeerWrongCode));
    assert_eq!(pair(&typed, &shown, |_, _| {}), wrong);
    assert!(PairingError::WrongCode.to_string().contains("the code is wrong"));
    assert!(PairingError::PeerWrongCode.to_string().contains("other node typed a wrong code"));
}

#[test]
fn no_changed_byte_makes_anybody_believe_a_wrong_key() {
    let code = code("00000000");
    for (number, len) in [HELLO, REPLY, PROOF, ACCEPTANCE, DONE].into_iter().enumerate() {
        for at in 0..len {
            let spoil = |frame: usize, bytes: &mut Vec<u8>| {
                if frame == number {
                    bytes[at] ^= 0x40;
                }
            };
            let (joined, invited) = pair(&code, &code, spoil);
            // The last frame is the only one that the joining side cannot see spoilt.
            assert_eq!(joined.is_ok(), number == 4, "frame {number}, byte {at}: {joined:?}");
            assert!(invited.is_err(), "frame {number}, byte {at}");
        }
    }
}

#[test]
fn proofs_of_another_pairing_are_worthless() {
    let code = code("ABCD-EFGH");
    let mut recorded = Vec::new();
    let both = pair(&code, &code, |_, bytes| recorded.push(bytes.clone()));
    assert_eq!(both, (Ok(A), Ok(B)));
    for number in [2, 3, 4] {
        let (joined, invited) = pair(&code, &code, |frame, bytes| {
            if frame == number {
                bytes.clone_from(&recorded[number]);
            }
        });
        assert!(joined.is_err() || invited.is_err(), "frame {number}");
    }
}

#[test]
fn who_is_not_pairing_says_so() {
    let (joining, _) = Joining::start(&code("ABCD-EFGH"), B);
    let refused = refusal(PairingError::NotPairing, REPLY).try_into().unwrap();
    let error = joining.answered(&refused).err().unwrap();
    assert_eq!(error, PairingError::NotPairing);
    assert!(error.to_string().contains("viaduct pair"));
}

#[test]
fn codes_are_forgiving_to_read_and_hard_to_mistake() {
    assert_eq!(code("o1il-abcd"), code("0111 ABCD"));
    assert_eq!(code("7K2M-PX4D").to_string(), "7K2M-PX4D");
    assert_eq!(format!("{:?}", code("7K2M-PX4D")), "Code(..)");
    for bad in ["", "7K2M-PX4", "7K2M-PX4DD", "7K2M-PX4U", "7K2M_PX4D", "\u{4e2d}\u{6587}"] {
        assert_eq!(bad.parse::<Code>(), Err(NoCode), "{bad}");
    }
}

proptest! {
    #[test]
    fn every_code_survives_its_text(bits: u64) {
        let made = Code::from_bits(bits);
        prop_assert_eq!(made.to_string().parse::<Code>(), Ok(made.clone()));
        prop_assert!(made != Code::from_bits(bits ^ 1 << 39));
    }

    #[test]
    fn arbitrary_frames_never_panic_and_never_pair(
        hello in prop::collection::vec(any::<u8>(), HELLO),
        reply in prop::collection::vec(any::<u8>(), REPLY),
        proof in prop::collection::vec(any::<u8>(), PROOF),
    ) {
        let code = code("ABCD-EFGH");
        let mut hello: [u8; HELLO] = hello.try_into().unwrap();
        let _ = Inviting::start(&code, A, &hello);
        hello[..8].copy_from_slice(&MAGIC);
        if let Ok((inviting, _)) = Inviting::start(&code, A, &hello) {
            prop_assert!(inviting.proved(&proof.try_into().unwrap()).is_err());
        }
        let (joining, _) = Joining::start(&code, B);
        let _ = joining.answered(&reply.try_into().unwrap());
    }
}
