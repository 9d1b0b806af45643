//! Every message that libprocess peers exchange: any bytes decode or fail, and what decodes is
//! written and read again without a change.
//!
//! The first byte chooses the message, so that each one has its share of the inputs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tepui_protocol::peer::PeerMessage;

fuzz_target!(|data: &[u8]| {
    let [choice, bytes @ ..] = data else {
        return;
    };
    let name = PeerMessage::NAMES[usize::from(*choice) % PeerMessage::NAMES.len()];
    let Ok(message) = PeerMessage::decode(name, bytes.to_vec().into()) else {
        return;
    };
    assert_eq!(message.name(), name);
    let written = message.encode();
    let again = PeerMessage::decode(name, written.clone().into()).expect("our own bytes");
    assert_eq!(again.encode(), written);
});
