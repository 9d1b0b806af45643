//! Messages in the bytes of a connection, however these arrive.

use super::{body_bytes, lines};
use proptest::prelude::*;
use serde_json::Value;
use std::fmt::Write;
use tepui_protocol::libprocess::{
    self, EnvelopeError,
    frame::{Frame, FrameError, FrameLimits, FrameParser, Parsed, Stage},
};

const LIMITS: FrameLimits = FrameLimits {
    head_bytes_max: 1024,
    body_bytes_max: 4096,
};
const HEAD: &str = "POST /master/M HTTP/1.1\r\nUser-Agent: libprocess/a@127.0.0.1:1\r\n";

/// What came of a connection's bytes.
#[derive(Debug, PartialEq)]
enum End {
    /// All consumed.
    Empty,
    /// The beginning of something was left.
    Partial,
    /// Something else was left, this many bytes.
    Other(usize),
    Error(FrameError),
}

/// Feeds pieces to a parser like a connection does.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, End) {
    let mut parser = FrameParser::new(LIMITS);
    let (mut frames, mut waiting) = (Vec::new(), Vec::new());
    let mut other = false;
    for piece in pieces {
        waiting.extend_from_slice(piece);
        while !other && !waiting.is_empty() {
            match parser.advance(&waiting) {
                Ok(Parsed::Message(frame)) => {
                    waiting.drain(..frame.length);
                    assert_eq!(parser.stage(), Stage::Start);
                    frames.push(frame);
                }
                Ok(Parsed::Partial) => break,
                Ok(Parsed::Other) => other = true,
                Err(error) => return (frames, End::Error(error)),
            }
        }
    }
    let end = match other {
        true => End::Other(waiting.len()),
        false if waiting.is_empty() => End::Empty,
        false => End::Partial,
    };
    (frames, end)
}

fn whole(bytes: impl AsRef<[u8]>) -> (Vec<Frame>, End) {
    feed([bytes.as_ref()])
}

fn only(bytes: impl AsRef<[u8]>) -> Frame {
    let (mut frames, end) = whole(bytes);
    assert_eq!((frames.len(), end), (1, End::Empty));
    frames.remove(0)
}

/// Their order on the wire, which the recordings do not keep.
const HEADERS: [&str; 5] = [
    "User-Agent",
    "Libprocess-From",
    "Connection",
    "Host",
    "Transfer-Encoding",
];

#[test]
fn every_recorded_message_is_read_and_written_byte_for_byte() {
    let mut count = 0;
    let recorded = ["basic", "auth", "ha", "operator"]
        .iter()
        .flat_map(|scenario| lines(&format!("{scenario}.wire.jsonl")))
        .filter(|line| line["kind"] == "libprocess");
    for line in recorded {
        let body = body_bytes(&line);
        let mut bytes = format!("{}\r\n", line["head"].as_str().expect("a head"));
        let headers = line["headers"].as_object().expect("headers");
        assert!(headers.keys().all(|name| HEADERS.contains(&name.as_str())));
        for name in HEADERS {
            if let Some(value) = headers.get(name).and_then(Value::as_str) {
                write!(bytes, "{name}: {value}\r\n").expect("memory");
            }
        }
        let mut bytes = bytes.into_bytes();
        match body.is_empty() {
            true => bytes.extend_from_slice(b"\r\n"),
            false => {
                bytes.extend_from_slice(format!("\r\n{:x}\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(&body);
                bytes.extend_from_slice(b"\r\n0\r\n\r\n");
            }
        }
        let mut parser = FrameParser::new(FrameLimits {
            head_bytes_max: 64 << 10,
            body_bytes_max: 8 << 20,
        });
        let Ok(Parsed::Message(frame)) = parser.advance(&bytes) else {
            panic!("no message: {line}");
        };
        assert_eq!((frame.length, &frame.body[..]), (bytes.len(), &body[..]));
        let envelope = frame.envelope.expect("an envelope");
        assert_eq!(
            envelope.from.to_string(),
            line["frm"].as_str().expect("a sender")
        );
        assert_eq!(envelope.message, line["message"].as_str().expect("a name"));
        let host = line["headers"]["Host"].as_str().expect("a host");
        let to = format!("{}@{host}", envelope.process)
            .parse()
            .expect("a process");
        let written = libprocess::request(&envelope.from, &to, &envelope.message, &body);
        assert_eq!(written, bytes);
        count += 1;
    }
    assert!(count > 400, "{count}");
}

#[test]
fn bodies_come_in_all_shapes() {
    for (rest, body) in [
        ("\r\n", ""),
        ("Content-Length: 0\r\n\r\n", ""),
        ("Content-Length: 5\r\n\r\nhello", "hello"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""),
        (
            "Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n3;a=\"b\"\r\nhel\r\n02 \t\r\nlo\r\n00\r\n\r\n",
            "hello",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nX: y\r\nZ: z\r\n\r\n",
            "0123456789",
        ),
        ("Connection: keep-alive\r\nHost: x\r\n\r\n", ""),
    ] {
        let frame = only(format!("{HEAD}{rest}"));
        assert_eq!(frame.body, body, "{rest}");
        let envelope = frame.envelope.expect("an envelope");
        assert_eq!(
            (envelope.process.as_str(), envelope.message.as_str()),
            ("master", "M")
        );
    }
}

#[test]
fn lines_may_end_in_one_byte_and_be_preceded_by_empty_ones() {
    let bytes = "\r\n\nPOST /a/M HTTP/1.1\nLibprocess-From: x@[::1]:5050\n\n";
    let frame = only(bytes);
    assert_eq!(
        frame.envelope.expect("an envelope").from.to_string(),
        "x@[::1]:5050"
    );
}

#[test]
fn a_kept_connection_of_http_1_0_is_read_with_its_chunks() {
    let bytes = "POST /master/M HTTP/1.0\r\nUser-Agent: libprocess/scheduler@10.0.0.1:8080\r\n\
        Connection: Keep-Alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let frame = only(bytes);
    assert_eq!(&frame.body[..], b"hi");
    let from = frame.envelope.expect("an envelope").from;
    assert_eq!(from.to_string(), "scheduler@10.0.0.1:8080");
}

#[test]
fn what_can_be_read_in_two_ways_or_is_no_message_is_left_to_others() {
    let head = HEAD;
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "PO\r\n".to_owned(),
        "POST /api/v1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /m/M HTTP/1.1\r\nUser-Agent: curl/8 libprocess/\r\n\r\n".to_owned(),
        "POST /m/M HTTP/1.0\r\nLibprocess-From: a@1.1.1.1:1\r\n\r\n".to_owned(),
        "POST /m/M?q HTTP/1.1\r\nLibprocess-From: a@1.1.1.1:1\r\n\r\n".to_owned(),
        "POST http://x/m/M HTTP/1.1\r\nLibprocess-From: a@1.1.1.1:1\r\n\r\n".to_owned(),
        format!("{head}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        format!("{head}Content-Length: +1\r\n\r\nx"),
        format!("{head}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Connection: close\r\n\r\n"),
        format!("{head}Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
        format!("{head}Upgrade: h2c\r\n\r\n"),
        format!("{head}bad header\r\n\r\n"),
        format!("{head}{}\r\n", "X: y\r\n".repeat(101)),
        format!("{head}X: {}\r\n\r\n", "x".repeat(1024)),
        format!("{head}X: {}", "x".repeat(1024)),
        "\r\n".repeat(20),
    ] {
        let (frames, end) = whole(&bytes);
        assert_eq!((frames.len(), end), (0, End::Other(bytes.len())), "{bytes}");
    }
}

#[test]
fn a_bad_envelope_costs_its_message_only() {
    let bad = "POST /m HTTP/1.1\r\nLibprocess-From: a@1.1.1.1:1\r\nContent-Length: 2\r\n\r\nhi";
    let worse = "POST /m/M HTTP/1.1\r\nUser-Agent: libprocess/nobody\r\n\r\n";
    let (frames, end) = whole(format!("{bad}{worse}{HEAD}\r\n"));
    assert_eq!(end, End::Empty);
    assert!(matches!(frames[0].envelope, Err(EnvelopeError::Path(_))));
    assert!(matches!(frames[1].envelope, Err(EnvelopeError::Sender(_))));
    assert!(frames[2].envelope.is_ok());
}

#[test]
fn bodies_that_are_wrong_or_too_large_are_errors() {
    let large = FrameError::TooLarge { max: 4096 };
    let endless = "1\r\nx\r\n".repeat(3000);
    let extension = "x".repeat(20_000);
    for (rest, error) in [
        ("Content-Length: 4097\r\n\r\n".to_owned(), large),
        (
            "Content-Length: 99999999999999999999999\r\n\r\n".to_owned(),
            large,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n1001\r\n".to_owned(),
            large,
        ),
        (
            format!(
                "Transfer-Encoding: chunked\r\n\r\nffe\r\n{}\r\n3\r\n",
                "x".repeat(4094)
            ),
            large,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n\r\n".to_owned(),
            FrameError::ChunkSize,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n-1\r\n".to_owned(),
            FrameError::ChunkSize,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n0x1\r\n".to_owned(),
            FrameError::ChunkSize,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n1 1\r\n".to_owned(),
            FrameError::ChunkSize,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n1\n".to_owned(),
            FrameError::ChunkSize,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n1\rx".to_owned(),
            FrameError::ChunkSize,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n".to_owned(),
            FrameError::ChunkSize,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n1\r\nxy".to_owned(),
            FrameError::ChunkEnd,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n1;a\nb".to_owned(),
            FrameError::ChunkExtras,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n".to_owned(),
            FrameError::ChunkExtras,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\rx".to_owned(),
            FrameError::ChunkExtras,
        ),
        (
            format!("Transfer-Encoding: chunked\r\n\r\n1;{extension}"),
            FrameError::ChunkExtras,
        ),
        (
            format!(
                "Transfer-Encoding: chunked\r\n\r\n0\r\n{}",
                "T: t\r\n".repeat(500)
            ),
            FrameError::ChunkExtras,
        ),
        (
            format!("Transfer-Encoding: chunked\r\n\r\n{endless}"),
            FrameError::ChunkExtras,
        ),
    ] {
        let (frames, end) = whole(format!("{HEAD}{rest}"));
        assert_eq!((frames.len(), end), (0, End::Error(error)), "{rest}");
    }
}

/// One message, in one of its shapes.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..200);
    let cuts = proptest::collection::vec(1..60_usize, 1..5);
    (body, cuts, 0..4_u8, any::<bool>()).prop_map(|(body, cuts, shape, trailer)| {
        let mut bytes = HEAD.as_bytes().to_vec();
        match shape {
            0 => bytes.extend_from_slice(b"\r\n"),
            1 => {
                let length = format!("Content-Length: {}\r\n\r\n", body.len());
                bytes.extend_from_slice(length.as_bytes());
                bytes.extend_from_slice(&body);
            }
            2 => {
                let pid = "a@127.0.0.1:1".parse().expect("a process");
                return libprocess::request(&pid, &pid, "M", &body);
            }
            _ => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                let (mut rest, mut cuts) = (&body[..], cuts.iter().cycle());
                while !rest.is_empty() {
                    let cut = cuts.next().copied().unwrap_or(1).min(rest.len());
                    let line = format!("{cut:X};n={cut}\r\n");
                    bytes.extend_from_slice(line.as_bytes());
                    bytes.extend_from_slice(&rest[..cut]);
                    bytes.extend_from_slice(b"\r\n");
                    rest = &rest[cut..];
                }
                let trailers: &[u8] = if trailer { b"T: t\r\n" } else { b"" };
                bytes.extend_from_slice(b"0\r\n");
                bytes.extend_from_slice(trailers);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        bytes
    })
}

/// Messages, garbage between them or not, and where to cut.
fn connection() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let part = prop_oneof![8 => message(), 1 => proptest::collection::vec(any::<u8>(), 0..40)];
    let bytes = proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat());
    let damage = proptest::option::weighted(0.3, (any::<proptest::sample::Index>(), any::<u8>()));
    let bytes = (bytes, damage).prop_map(|(mut bytes, damage)| {
        if let (Some((at, byte)), false) = (damage, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    (bytes, proptest::collection::vec(1..400_usize, 1..8))
}

proptest! {
    #[test]
    fn how_bytes_are_cut_makes_no_difference((bytes, cuts) in connection()) {
        let expected = whole(&bytes);
        let byte_by_byte = feed(bytes.chunks(1));
        prop_assert_eq!(&byte_by_byte.0, &expected.0);
        let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let cut = feed(pieces);
        prop_assert_eq!(&cut.0, &expected.0);
        prop_assert_eq!(&cut.1, &expected.1);
        prop_assert_eq!(&byte_by_byte.1, &expected.1);
    }
}

#[test]
fn many_bytes_one_by_one_are_looked_at_once() {
    // Quadratic work would take minutes here.
    let body = "x".repeat(1 << 20);
    let bytes = format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len());
    let limits = FrameLimits {
        head_bytes_max: 64 << 10,
        body_bytes_max: 1 << 20,
    };
    let mut parser = FrameParser::new(limits);
    for end in 1..bytes.len() {
        assert_eq!(
            parser.advance(&bytes.as_bytes()[..end]),
            Ok(Parsed::Partial)
        );
    }
    assert!(matches!(
        parser.advance(bytes.as_bytes()),
        Ok(Parsed::Message(_))
    ));
}
