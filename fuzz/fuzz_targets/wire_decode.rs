//! Protobuf bytes of any message: peers' messages decode or fail, and what decodes survives being
//! written as protobuf and as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tepui_protocol::{
    json::{self, Names},
    peer::PeerMessage,
    wire,
};

static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| wire::message_names().collect());

fuzz_target!(|data: &[u8]| {
    let [choice, low, bytes @ ..] = data else {
        return;
    };
    let choice = usize::from(u16::from_le_bytes([*choice, *low]));

    let name = PeerMessage::NAMES[choice % PeerMessage::NAMES.len()];
    if let Ok(message) = PeerMessage::decode(name, bytes.to_vec().into()) {
        let again = PeerMessage::decode(name, message.encode().into());
        // Compared as text: a NaN is not equal to itself.
        assert_eq!(
            format!("{:?}", again.expect("our own bytes")),
            format!("{message:?}")
        );
    }

    let name = NAMES[choice % NAMES.len()];
    let names = if choice % 2 == 0 {
        Names::V1
    } else {
        Names::V0
    };
    let mut text = String::new();
    if json::encode_bytes(name, bytes, names, &mut text).is_ok()
        && wire::check_required(name, bytes, names).is_ok()
        && !text.contains("NaN")
    {
        let again = json::decode_bytes(name, text.as_bytes(), names).expect("our own JSON");
        let mut second = String::new();
        json::encode_bytes(name, &again, names, &mut second).expect("our own bytes");
        assert_eq!(second, text);
    }
});
