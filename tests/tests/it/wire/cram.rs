//! The recorded authenticatees' part: CRAM-MD5 answers, made here from the secrets that the recorded ones had.

use hmac::{Hmac, Mac};
use md5::Md5;

use super::script::Said;

/// The only field of a step: `data`, bytes, number 1.
pub(crate) fn data(step: &[u8]) -> Vec<u8> {
    match step {
        [0x0a, length, data @ ..] if usize::from(*length) == data.len() => data.to_vec(),
        _ => Vec::new(),
    }
}

/// The recorded answer, to another challenge.
pub(crate) fn answer(recorded: &Said, secret: &str, challenge: &[u8]) -> Vec<u8> {
    let recorded = String::from_utf8(data(&recorded.bytes)).expect("an answer is text");
    let (principal, _) = recorded.split_once(' ').expect("an answer has two words");
    let answer = format!("{principal} {}", digest(secret, challenge));
    let length = u8::try_from(answer.len()).expect("an answer is short");
    [&[0x0a, length][..], answer.as_bytes()].concat()
}

fn digest(secret: &str, challenge: &[u8]) -> String {
    let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(challenge);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_recorded_secrets_give_the_recorded_answers() {
    let lines = super::script::read("auth");
    let step = |number: usize| match &lines[number].what {
        super::script::What::Message(said) => said.clone(),
        other => panic!("{other:?}"),
    };
    for (challenge, answered, secret) in super::SECRETS {
        let challenge = data(&step(challenge).bytes);
        let answered = step(answered);
        assert_eq!(answer(&answered, secret, &challenge), answered.bytes);
    }
}
