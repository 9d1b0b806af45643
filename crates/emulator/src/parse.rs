//! Reads libprocess messages from a connection, piece by piece.
//!
//! Only what a leader sends is understood: POSTs with a length or chunks, in any division into reads.
//! Anything else ends the connection.

use tepui_protocol::libprocess::{Envelope, recognise};

/// Bytes that a head may have.
const HEAD_MAX: usize = 16 << 10;
/// Bytes that a body may have: a task with everything that a framework may put into it.
const BODY_MAX: usize = 16 << 20;

/// What has arrived and is not a whole message yet. Empty (and without memory of its own) between messages.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    bytes: Vec<u8>,
}

/// The bytes are not messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a libprocess message")]
pub(crate) struct NotAMessage;

impl Parser {
    /// Takes bytes in; whole messages go to `message`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut message: impl FnMut(Envelope, Vec<u8>),
    ) -> Result<(), NotAMessage> {
        self.bytes.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some((envelope, body, length)) = one(&self.bytes[taken..])? {
            message(envelope, body);
            taken += length;
        }
        if taken == self.bytes.len() {
            // An idle connection should cost nothing.
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..taken);
        }
        Ok(())
    }
}

type Whole = (Envelope, Vec<u8>, usize);

/// The first message, if it is whole, and its length on the wire.
fn one(bytes: &[u8]) -> Result<Option<Whole>, NotAMessage> {
    let Some(head_end) = find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > HEAD_MAX {
            Err(NotAMessage)
        } else {
            Ok(None)
        };
    };
    let head = std::str::from_utf8(&bytes[..head_end]).map_err(|_| NotAMessage)?;
    let (request, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut words = request.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(NotAMessage);
    };
    let header = |wanted: &str| {
        headers.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then_some(value.trim())
        })
    };
    let envelope = recognise(
        method,
        path,
        header("user-agent"),
        header("libprocess-from"),
    );
    let envelope = envelope.ok().flatten().ok_or(NotAMessage)?;
    let after = &bytes[head_end + 4..];
    let chunked =
        header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let body = if chunked {
        chunks(after)?
    } else {
        let length = header("content-length").map_or(Ok(0), str::parse::<usize>);
        let length = length.map_err(|_| NotAMessage)?;
        if length > BODY_MAX {
            return Err(NotAMessage);
        }
        after.get(..length).map(|body| (body.to_vec(), length))
    };
    Ok(body.map(|(body, length)| (envelope, body, head_end + 4 + length)))
}

/// A whole chunked body and its length on the wire.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, NotAMessage> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let Some(line_end) = find(&rest[..rest.len().min(32)], b"\r\n") else {
            return if rest.len() >= 32 {
                Err(NotAMessage)
            } else {
                Ok(None)
            };
        };
        let size = std::str::from_utf8(&rest[..line_end]).map_err(|_| NotAMessage)?;
        let size = usize::from_str_radix(size, 16).map_err(|_| NotAMessage)?;
        if size > BODY_MAX || body.len() + size > BODY_MAX {
            return Err(NotAMessage);
        }
        let (from, to) = (line_end + 2, line_end + 2 + size);
        let Some(chunk) = rest.get(from..to + 2) else {
            return Ok(None);
        };
        if !chunk.ends_with(b"\r\n") {
            return Err(NotAMessage);
        }
        at += to + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_protocol::libprocess::request;

    fn message(body: &[u8]) -> Vec<u8> {
        let (from, to) = ("slave-observer(3)@10.0.0.1:5050", "slave(1)@127.0.0.1:5051");
        request(
            &from.parse().unwrap(),
            &to.parse().unwrap(),
            "mesos.internal.PingSlaveMessage",
            body,
        )
    }

    #[test]
    fn messages_are_read_in_any_division() {
        let with_length = b"POST /slave(1)/M HTTP/1.1\r\nlibprocess-from: a@1.2.3.4:5\r\nContent-Length: 3\r\n\r\nabc";
        let all = [
            message(b"\x08\x01"),
            message(b""),
            with_length.to_vec(),
            message(&[7; 300]),
        ]
        .concat();
        for size in [1, 2, 7, 64, all.len()] {
            let (mut parser, mut read) = (Parser::default(), Vec::new());
            for piece in all.chunks(size) {
                parser
                    .feed(piece, |envelope, body| read.push((envelope, body)))
                    .unwrap();
            }
            let bodies: Vec<&[u8]> = read.iter().map(|(_, body)| &body[..]).collect();
            assert_eq!(
                bodies,
                [b"\x08\x01", &b""[..], b"abc", &[7; 300]],
                "in pieces of {size}"
            );
            assert_eq!(read[0].0.process, "slave(1)");
            assert_eq!(read[0].0.from.name, "slave-observer(3)");
            assert_eq!(
                parser.bytes.capacity(),
                0,
                "nothing is kept between messages"
            );
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let chunked = "POST /a/M HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nTransfer-Encoding: chunked\r\n\r\n";
        for text in [
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            "\r\n\r\n".to_owned(),
            "POST /a/M HTTP/1.1\r\nLibprocess-From: nobody\r\n\r\n".to_owned(),
            "POST /a/M HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nContent-Length: x\r\n\r\n"
                .to_owned(),
            format!(
                "POST /a/M HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\nContent-Length: {}\r\n\r\n",
                BODY_MAX + 1
            ),
            format!("{chunked}zz\r\n"),
            format!("{chunked}ffffffffffffffff\r\n"),
            format!("{chunked}1\r\nabc\r\n"),
            format!("{chunked}{}", "0".repeat(40)),
            "x".repeat(HEAD_MAX + 1),
        ] {
            let result = Parser::default().feed(text.as_bytes(), |_, _| {});
            assert_eq!(result, Err(NotAMessage), "{text:.80}");
        }
    }
}
