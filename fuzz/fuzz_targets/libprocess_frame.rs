//! Heads of libprocess requests: any path and sender is recognised or refused, and what is
//! recognised can be addressed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tepui_protocol::{libprocess, peer::Pid};

fuzz_target!(|parts: (&str, Option<&str>, Option<&str>, &[u8])| {
    let (path, agent, from, body) = parts;
    if let Ok(Some(envelope)) = libprocess::recognise("POST", path, agent, from) {
        let text = envelope.from.to_string();
        assert_eq!(text.parse(), Ok(envelope.from.clone()));
        let to = Pid {
            name: envelope.process,
            address: envelope.from.address,
        };
        let request = libprocess::request(&envelope.from, &to, &envelope.message, body);
        assert!(request.starts_with(b"POST "));
    }
});
