//! Finds libprocess messages in the bytes of a connection, as they arrive.
//!
//! [`FrameParser::advance`] is called with everything that was received and not yet consumed, as
//! often as bytes are added. It remembers how far it has looked: a message that comes byte by byte
//! costs no more work than one that comes at once, and nothing is allocated until it is whole.
//!
//! The parser takes only what leaves no room for two readings: a POST of HTTP/1.1 to a plain path,
//! with at most one length or the single coding `chunked`. So it is with HTTP/1.0 where the sender
//! says that it keeps the connection: drivers written from scratch do (pymesos 0.1), chunks included,
//! and the reference reads them. Everything else is
//! [`Parsed::Other`] and left to a full HTTP implementation, which may well find a message in it
//! too. So the two can never disagree about where a message ends, and requests that are no
//! messages have one place that answers them.

use super::{Envelope, EnvelopeError, chunked::Chunked, is_token_path, recognise};
use bytes::Bytes;
use std::ops::Range;

/// As many headers as hyper takes.
const HEADERS_MAX: usize = 100;
/// Of empty lines before a request. Nobody sends more than one.
const EMPTY_BYTES_MAX: usize = 16;
const METHOD: &[u8] = b"POST ";

/// What one message may cost its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes of the request line and the headers.
    pub head_bytes_max: usize,
    /// Bytes of the body.
    pub body_bytes_max: usize,
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Bytes it took: the next one begins after them.
    pub length: usize,
    /// What its head says, or why it is nobody's message. The connection is in order either way.
    pub envelope: Result<Envelope, EnvelopeError>,
    /// Its body.
    pub body: Bytes,
}

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of something.
    Partial,
    /// Not a message, or one that this parser leaves to others. Nothing of it is consumed.
    Other,
    /// A message.
    Message(Frame),
}

/// The body of a message cannot be read: the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More bytes than allowed.
    #[error("the body is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The size of a chunk is not a hexadecimal number of up to 64 bits.
    #[error("the size of a chunk is not a number")]
    ChunkSize,
    /// A chunk does not end where its size says.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// Extensions of chunks, or trailers, are malformed or too long.
    #[error("what accompanies the chunks is malformed or too long")]
    ChunkExtras,
}

/// Where a parser is in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing of a message has been seen.
    Start,
    /// Some of its head.
    Head,
    /// All of its head.
    Body,
}

/// Finds one message after the other.
#[derive(Debug, Clone)]
pub struct FrameParser {
    limits: FrameLimits,
    /// Everything before was looked at.
    at: usize,
    /// What the head said, once it is complete.
    head: Option<Box<Head>>,
}

#[derive(Debug, Clone)]
struct Head {
    length: usize,
    path: Range<usize>,
    agent: Option<Range<usize>>,
    from: Option<Range<usize>>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Length(usize),
    Chunked(Chunked),
}

impl FrameParser {
    /// At the start of a message.
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            at: 0,
            head: None,
        }
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        match (&self.head, self.at) {
            (Some(_), _) => Stage::Body,
            (None, 0) => Stage::Start,
            (None, _) => Stage::Head,
        }
    }

    /// Looks at what was added to `received`, which begins where the last message ended.
    ///
    /// After [`Parsed::Other`] and errors the parser is of no use for this connection.
    pub fn advance(&mut self, received: &[u8]) -> Result<Parsed, FrameError> {
        if self.head.is_none() {
            match self.head(received) {
                Found::Partial => return Ok(Parsed::Partial),
                Found::Other => return Ok(Parsed::Other),
                Found::Head(head) => self.head = Some(Box::new(head)),
            }
        }
        let Some(head) = &mut self.head else {
            return Ok(Parsed::Partial);
        };
        let body_bytes_max = self.limits.body_bytes_max;
        let too_large = FrameError::TooLarge {
            max: body_bytes_max,
        };
        let rest = received.get(head.length..).unwrap_or_default();
        let (length, body) = match &mut head.body {
            Body::Length(length) if *length > body_bytes_max => return Err(too_large),
            Body::Length(length) => match rest.get(..*length) {
                Some(body) => (*length, Bytes::copy_from_slice(body)),
                None => return Ok(Parsed::Partial),
            },
            Body::Chunked(chunked) => {
                let extra = self.limits.head_bytes_max;
                match chunked.advance(rest, body_bytes_max, extra)? {
                    Some(length) => (length, chunked.body(&rest[..length])),
                    None => return Ok(Parsed::Partial),
                }
            }
        };
        let frame = Frame {
            length: head.length + length,
            envelope: head.envelope(received),
            body,
        };
        self.head = None;
        self.at = 0;
        Ok(Parsed::Message(frame))
    }

    fn head(&mut self, received: &[u8]) -> Found {
        // Empty lines before a request are forgiven.
        let start = received
            .iter()
            .position(|byte| !matches!(byte, b'\r' | b'\n'))
            .unwrap_or(received.len());
        if start > EMPTY_BYTES_MAX {
            return Found::Other;
        }
        let method = &received[start..];
        let known = method.len().min(METHOD.len());
        if method[..known] != METHOD[..known] {
            return Found::Other;
        }
        let from = self.at.max(start);
        match head_end(received, from) {
            Some(end) if end > self.limits.head_bytes_max => Found::Other,
            Some(end) => read_head(&received[..end]).map_or(Found::Other, Found::Head),
            None if received.len() >= self.limits.head_bytes_max => Found::Other,
            None => {
                // A line end at the end of what is here may be the first half of an empty line.
                self.at = received.len().saturating_sub(2).max(from);
                self.at = self.at.max(usize::from(!received.is_empty()));
                Found::Partial
            }
        }
    }
}

enum Found {
    Partial,
    Other,
    Head(Head),
}

/// Where the empty line after the headers ends.
fn head_end(received: &[u8], from: usize) -> Option<usize> {
    let mut from = from;
    loop {
        let line_end = from + memchr::memchr(b'\n', received.get(from..)?)?;
        match (received.get(line_end + 1), received.get(line_end + 2)) {
            (Some(b'\n'), _) => return Some(line_end + 2),
            (Some(b'\r'), Some(b'\n')) => return Some(line_end + 3),
            _ => from = line_end + 1,
        }
    }
}

/// `None`: not a message, or not plain enough.
fn read_head(head: &[u8]) -> Option<Head> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        _ => return None,
    }
    let path = request.path.filter(|path| is_token_path(path))?;
    if request.method != Some("POST") {
        return None;
    }
    let mut kept = request.version == Some(1);
    let (mut agent, mut from, mut length, mut chunked) = (None, None, None, false);
    for header in request.headers.iter() {
        let name = header.name;
        let value = header.value;
        if name.eq_ignore_ascii_case("user-agent") {
            first(&mut agent, head, value);
        } else if name.eq_ignore_ascii_case("libprocess-from") {
            first(&mut from, head, value);
        } else if name.eq_ignore_ascii_case("content-length") {
            if length.replace(decimal(value)?).is_some() {
                return None;
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return None;
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            if !value.eq_ignore_ascii_case(b"keep-alive") {
                return None;
            }
            kept = true;
        } else if name.eq_ignore_ascii_case("expect") || name.eq_ignore_ascii_case("upgrade") {
            return None;
        }
    }
    // Only text can name anybody; the first header of a name counts.
    let text = |range: Option<Range<usize>>| range.filter(|range| is_text(&head[range.clone()]));
    let (agent, from) = (text(agent), text(from));
    let named = agent
        .as_ref()
        .is_some_and(|agent| head[agent.clone()].starts_with(super::AGENT_PREFIX.as_bytes()));
    if !kept || (from.is_none() && !named) {
        return None;
    }
    let body = match (length, chunked) {
        (Some(_), true) => return None,
        (_, true) => Body::Chunked(Chunked::default()),
        (length, false) => Body::Length(length.unwrap_or(0)),
    };
    Some(Head {
        length: head.len(),
        path: range(head, path.as_bytes()),
        agent,
        from,
        body,
    })
}

impl Head {
    fn envelope(&self, received: &[u8]) -> Result<Envelope, EnvelopeError> {
        let text = |range: &Range<usize>| std::str::from_utf8(&received[range.clone()]).ok();
        let path = text(&self.path).unwrap_or_default();
        let agent = self.agent.as_ref().and_then(text);
        let from = self.from.as_ref().and_then(text);
        match recognise("POST", path, agent, from) {
            Ok(Some(envelope)) => Ok(envelope),
            // A head without a sender was not taken for a message.
            Ok(None) => Err(EnvelopeError::Path(path.to_owned())),
            Err(error) => Err(error),
        }
    }
}

fn first(slot: &mut Option<Range<usize>>, head: &[u8], value: &[u8]) {
    slot.get_or_insert_with(|| range(head, value));
}

/// Where a part of `whole` lies in it. An empty part may lie anywhere.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    match start + part.len() <= whole.len() {
        true => start..start + part.len(),
        false => 0..0,
    }
}

/// What `http::HeaderValue::to_str` takes.
fn is_text(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// A number in digits only.
fn decimal(value: &[u8]) -> Option<usize> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Longer than any memory: as good as the largest number, which no limit allows.
    let text = std::str::from_utf8(value).ok()?;
    Some(text.parse().unwrap_or(usize::MAX))
}
