//! Connections of libprocess peers: any bytes, cut anywhere, give the same messages, and what is
//! read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tepui_protocol::{
    libprocess::{
        self,
        frame::{Frame, FrameLimits, FrameParser, Parsed},
    },
    peer::Pid,
};

const LIMITS: FrameLimits = FrameLimits {
    head_bytes_max: 2048,
    body_bytes_max: 4096,
};

/// The messages, and how it ended: `None` if all was consumed or more is expected.
fn feed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<String>) {
    let mut parser = FrameParser::new(LIMITS);
    let (mut frames, mut waiting) = (Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        while !waiting.is_empty() {
            match parser.advance(&waiting) {
                Ok(Parsed::Message(frame)) => {
                    waiting.drain(..frame.length);
                    frames.push(frame);
                }
                Ok(Parsed::Partial) => break,
                Ok(Parsed::Other) => return (frames, Some("other".to_owned())),
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }
    (frames, None)
}

fn heads(path: &str, agent: Option<&str>, from: Option<&str>, body: &[u8]) {
    if let Ok(Some(envelope)) = libprocess::recognise("POST", path, agent, from) {
        round_trip(&envelope, body);
    }
}

fn round_trip(envelope: &libprocess::Envelope, body: &[u8]) {
    let text = envelope.from.to_string();
    assert_eq!(text.parse(), Ok(envelope.from.clone()));
    let to = Pid {
        name: envelope.process.clone(),
        address: envelope.from.address,
    };
    let request = libprocess::request(&envelope.from, &to, &envelope.message, body);
    assert!(request.starts_with(b"POST "));
}

fuzz_target!(|input: (&str, Option<&str>, Option<&str>, u8, &[u8])| {
    let (path, agent, from, cut, bytes) = input;
    heads(path, agent, from, bytes);
    let whole = feed(std::iter::once(bytes));
    let cut = feed(bytes.chunks(usize::from(cut).max(1)));
    assert_eq!(whole, cut);
    for frame in &whole.0 {
        assert!(frame.body.len() <= LIMITS.body_bytes_max);
        if let Ok(envelope) = &frame.envelope {
            round_trip(envelope, &frame.body);
        }
    }
});
