//! JSON of any message: it is read or refused, and what was read shows the same when written twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tepui_protocol::{
    json::{self, Names},
    wire,
};

static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| wire::message_names().collect());

fuzz_target!(|data: &[u8]| {
    let [choice, low, text @ ..] = data else {
        return;
    };
    let choice = usize::from(u16::from_le_bytes([*choice, *low]));
    let name = NAMES[choice % NAMES.len()];
    let names = if choice % 2 == 0 {
        Names::V1
    } else {
        Names::V0
    };
    if let Ok(bytes) = json::decode_bytes(name, text, names) {
        let mut shown = String::new();
        json::encode_bytes(name, &bytes, names, &mut shown).expect("our own bytes");
        let again = json::decode_bytes(name, shown.as_bytes(), names).expect("our own JSON");
        let mut second = String::new();
        json::encode_bytes(name, &again, names, &mut second).expect("our own bytes");
        assert_eq!(second, shown);
    }
});
