//! Bodies of responses.

use super::stream::EventBody;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};
use std::{
    fmt,
    fs::File,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{io::AsyncRead, io::ReadBuf};

/// Bytes of a file read at a time.
const FILE_CHUNK: usize = 16 << 10;

/// What a response carries.
pub enum Body {
    /// Known bytes; may be compressed.
    Full(Full<Bytes>),
    /// Events, for as long as client and core want.
    Events(EventBody),
    /// A file's content, up to the length it had when it was opened.
    File(FileBody),
}

/// Says what kind it is; the content may be large or not there yet.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Events(_) => "Events",
            Self::File(_) => "File",
        })
    }
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::Full(Full::default())
    }

    /// The first `length` bytes of a file.
    pub fn file(file: File, length: u64) -> Self {
        Self::File(FileBody {
            file: tokio::fs::File::from_std(file),
            left: length,
        })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Events(body) => body
                .poll_next(cx)
                .map(|next| next.map(|b| Ok(Frame::data(b)))),
            Self::File(body) => body
                .poll_next(cx)
                .map(|next| next.map(|b| b.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Events(_) => false,
            Self::File(body) => body.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
            Self::File(body) => SizeHint::with_exact(body.left),
        }
    }
}

/// Part of a file.
pub struct FileBody {
    file: tokio::fs::File,
    left: u64,
}

impl FileBody {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let wanted = usize::try_from(self.left).map_or(FILE_CHUNK, |left| left.min(FILE_CHUNK));
        let mut chunk = vec![0; wanted];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.file).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        if read == 0 {
            // Truncated meanwhile: the promised length cannot be kept.
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        chunk.truncate(read);
        self.left -= read as u64;
        Poll::Ready(Some(Ok(chunk.into())))
    }
}
