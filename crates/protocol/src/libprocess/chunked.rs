//! Bodies in chunks (RFC 9112, section 7.1), found without copying: first where the body ends, then,
//! once it is whole, what it holds.

use super::frame::FrameError;
use bytes::{Bytes, BytesMut};

const TRAILERS_MAX: usize = 100;
/// hyper's limit.
const EXTENSION_BYTES_MAX: usize = 16 << 10;

/// How far a body has been looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunked {
    at: usize,
    state: State,
    /// Bytes of the chunk that are still to come; while its size is read, the size so far.
    chunk: usize,
    decoded: usize,
    extension_bytes: usize,
    /// The one chunk of the body, which is what peers send.
    only: Option<(usize, usize)>,
    chunks: usize,
    trailers: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Size,
    SizeSpace,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// After the last chunk, or after a trailer.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
}

impl Chunked {
    /// Goes on in `body`, which may end anywhere. Its length once it is whole.
    pub(super) fn advance(
        &mut self,
        body: &[u8],
        decoded_max: usize,
        extra_max: usize,
    ) -> Result<Option<usize>, FrameError> {
        use State::*;
        while let Some(&byte) = body.get(self.at) {
            // The framing of many tiny chunks must not cost more than what it frames.
            if self.at - self.decoded > self.decoded + extra_max {
                return Err(FrameError::ChunkExtras);
            }
            if self.state == Data {
                let taken = self.chunk.min(body.len() - self.at);
                self.at += taken;
                self.chunk -= taken;
                self.decoded += taken;
                if self.chunk == 0 {
                    self.state = DataCr;
                }
                continue;
            }
            self.at += 1;
            self.state = match (self.state, byte) {
                (Start, _) if !byte.is_ascii_hexdigit() => return Err(FrameError::ChunkSize),
                (Start | Size, _) if byte.is_ascii_hexdigit() => {
                    self.digit(byte)?;
                    Size
                }
                (Size | SizeSpace, b'\t' | b' ') => SizeSpace,
                (Size | SizeSpace, b';') => Extension,
                (Size | SizeSpace | Extension, b'\r') => SizeEnd,
                (Size | SizeSpace, _) => return Err(FrameError::ChunkSize),
                (Extension, b'\n') => return Err(FrameError::ChunkExtras),
                (Extension, _) => {
                    self.extension_bytes += 1;
                    if self.extension_bytes >= EXTENSION_BYTES_MAX {
                        return Err(FrameError::ChunkExtras);
                    }
                    Extension
                }
                (SizeEnd, b'\n') => self.sized(decoded_max)?,
                (DataCr, b'\r') => DataLf,
                (DataLf, b'\n') => {
                    self.chunk = 0;
                    Start
                }
                (Line, b'\r') => EndLf,
                (Line, _) => {
                    self.trailers.get_or_insert(self.at - 1);
                    Trailer
                }
                (Trailer, b'\r') => TrailerLf,
                (Trailer, _) => Trailer,
                (TrailerLf, b'\n') => Line,
                (EndLf, b'\n') => {
                    check_trailers(self.trailers.and_then(|start| body.get(start..self.at)))?;
                    return Ok(Some(self.at));
                }
                (TrailerLf | EndLf, _) => return Err(FrameError::ChunkExtras),
                (SizeEnd, _) => return Err(FrameError::ChunkSize),
                (Start | Data | DataCr | DataLf, _) => return Err(FrameError::ChunkEnd),
            };
        }
        Ok(None)
    }

    fn digit(&mut self, byte: u8) -> Result<(), FrameError> {
        let digit = char::from(byte)
            .to_digit(16)
            .and_then(|d| usize::try_from(d).ok());
        let grown = self.chunk.checked_mul(16);
        let grown = grown
            .zip(digit)
            .and_then(|(size, digit)| size.checked_add(digit));
        self.chunk = grown.ok_or(FrameError::ChunkSize)?;
        Ok(())
    }

    /// The size of a chunk is known.
    fn sized(&mut self, decoded_max: usize) -> Result<State, FrameError> {
        if self.chunk == 0 {
            return Ok(State::Line);
        }
        if self.chunk > decoded_max.saturating_sub(self.decoded) {
            return Err(FrameError::TooLarge { max: decoded_max });
        }
        self.chunks += 1;
        self.only = (self.chunks == 1).then_some((self.at, self.chunk));
        Ok(State::Data)
    }

    /// What the chunks of a whole body hold.
    pub(super) fn body(&self, body: &[u8]) -> Bytes {
        if let Some((start, length)) = self.only {
            return Bytes::copy_from_slice(body.get(start..start + length).unwrap_or_default());
        }
        let mut decoded = BytesMut::with_capacity(self.decoded);
        let mut rest = body;
        while let Some((chunk, after)) = next_chunk(rest) {
            decoded.extend_from_slice(chunk);
            rest = after;
        }
        decoded.freeze()
    }
}

/// The next chunk of a body that was checked.
fn next_chunk(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let line_end = memchr::memchr(b'\n', body)?;
    let digits = body.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    let size = usize::from_str_radix(std::str::from_utf8(&body[..digits]).ok()?, 16).ok()?;
    if size == 0 {
        return None;
    }
    let data = body.get(line_end + 1..)?;
    Some((data.get(..size)?, data.get(size + 2..)?))
}

/// Trailers are read like headers, and then mean nothing here.
fn check_trailers(trailers: Option<&[u8]>) -> Result<(), FrameError> {
    let Some(trailers) = trailers else {
        return Ok(());
    };
    let mut headers = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(trailers, &mut headers) {
        Ok(httparse::Status::Complete(_)) => Ok(()),
        _ => Err(FrameError::ChunkExtras),
    }
}
