//! A small blocking HTTP/1.1 client on a bare socket, which can send what no proper client would.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long a response may take: far beyond what any answer needs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A request to send as it is: nothing is added but `Host`, and `Content-Length` when there is a body or a POST.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The method, in any case.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers in order. An own `Content-Length` or `Transfer-Encoding` replaces the computed one.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Request {
    /// A GET without headers.
    pub fn get(path: &str) -> Self {
        Request {
            method: "GET".to_owned(),
            path: path.to_owned(),
            ..Request::default()
        }
    }

    /// A POST of a JSON document, with its content type.
    pub fn post_json(path: &str, body: &Value) -> Self {
        Request {
            method: "POST".to_owned(),
            path: path.to_owned(),
            ..Request::default()
        }
        .header("Content-Type", "application/json")
        .body(body.to_string().into_bytes())
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// The bytes on the wire.
    pub fn to_bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(own, _)| own.eq_ignore_ascii_case(name))
        };
        if !has("host") {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        let framed = has("content-length") || has("transfer-encoding");
        if !framed && (!self.body.is_empty() || self.method != "GET") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A response, its body complete and freed from chunks.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers in order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body. Of an endless stream, what had arrived when reading stopped.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value, by name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with the body when it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error} in a response {} {:?}", self.status, self.text())
        })
    }
}

/// Sends a request and reads the whole response.
pub fn send(to: SocketAddr, request: &Request) -> io::Result<Response> {
    let mut connection = connect(to, PATIENCE)?;
    connection.write_all(&request.to_bytes(to))?;
    read_response(&mut BufReader::new(connection), Wanted::All)
}

/// Sends bytes as they are and reads the whole response; `half_close` ends our side of the connection after them.
pub fn send_raw(to: SocketAddr, bytes: &[u8], half_close: bool) -> io::Result<Response> {
    let mut connection = connect(to, PATIENCE)?;
    // A peer may answer and close before it has read everything: the answer is what counts.
    let written = connection.write_all(bytes);
    if half_close {
        connection.shutdown(std::net::Shutdown::Write).ok();
    }
    match read_response(&mut BufReader::new(connection), Wanted::All) {
        Ok(response) => Ok(response),
        Err(error) => Err(written.err().unwrap_or(error)),
    }
}

/// Sends a request whose answer is an event stream, and reads its head and first record only.
pub fn send_for_first_record(to: SocketAddr, request: &Request) -> io::Result<Response> {
    let mut connection = connect(to, PATIENCE)?;
    connection.write_all(&request.to_bytes(to))?;
    read_response(&mut BufReader::new(connection), Wanted::FirstRecord)
}

/// A connection whose reads and writes give up after `patience`.
pub fn connect(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&to, patience)?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    FirstRecord,
}

fn read_response<R: Read>(reader: &mut BufReader<R>, wanted: Wanted) -> io::Result<Response> {
    let (status, headers) = read_head(reader)?;
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    let header = |name: &str| response.header(name).map(str::to_owned);
    let chunked =
        header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = header("content-length").and_then(|value| value.parse::<usize>().ok());
    if chunked {
        let mut chunks = Chunks {
            reader,
            left: 0,
            ended: false,
        };
        if wanted == Wanted::FirstRecord {
            response.body = read_record(&mut chunks)?.unwrap_or_default();
        } else {
            chunks.read_to_end(&mut response.body)?;
        }
    } else if let Some(length) = length {
        response.body = vec![0; length];
        reader.read_exact(&mut response.body)?;
    } else if status >= 200 && status != 204 && status != 304 {
        reader.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

/// Status and headers, past any 1xx responses.
pub fn read_head<R: BufRead>(reader: &mut R) -> io::Result<(u16, Vec<(String, String)>)> {
    loop {
        let line = read_line(reader)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 =
            status.ok_or_else(|| io::Error::other(format!("not a status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(reader)?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        if status >= 200 {
            return Ok((status, headers));
        }
    }
}

fn read_line<R: BufRead>(reader: &mut R) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The inside of a chunked body.
#[derive(Debug)]
pub struct Chunks<R> {
    reader: R,
    left: usize,
    ended: bool,
}

impl<R: BufRead> Chunks<R> {
    /// Reads the chunks that follow on `reader`.
    pub fn new(reader: R) -> Self {
        Chunks {
            reader,
            left: 0,
            ended: false,
        }
    }
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let line = read_line(&mut self.reader)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            self.left = usize::from_str_radix(size, 16)
                .map_err(|error| io::Error::other(format!("chunk size {line:?}: {error}")))?;
            if self.left == 0 {
                self.ended = true;
                read_line(&mut self.reader)?;
                return Ok(0);
            }
        }
        let most = buffer.len().min(self.left);
        let read = self.reader.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        if self.left == 0 {
            read_line(&mut self.reader)?;
        }
        Ok(read)
    }
}

/// One RecordIO record: its length in decimal, a newline, its bytes. None at the end of the stream.
pub fn read_record<R: Read>(stream: &mut R) -> io::Result<Option<Vec<u8>>> {
    let mut digits = String::new();
    loop {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return if digits.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        if byte[0] == b'\n' {
            break;
        }
        digits.push(char::from(byte[0]));
    }
    let length: usize = digits
        .parse()
        .map_err(|error| io::Error::other(format!("record length {digits:?}: {error}")))?;
    let mut record = vec![0; length];
    stream.read_exact(&mut record)?;
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(bytes: &[u8]) -> Response {
        read_response(&mut BufReader::new(bytes), Wanted::All).unwrap()
    }

    #[test]
    fn bodies_by_length_and_in_chunks_read_the_same() {
        let plain = response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello, more");
        let chunked = response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n");
        assert_eq!(
            (plain.status, plain.text().as_str(), plain.header("x")),
            (200, "hello", Some("y"))
        );
        assert_eq!(chunked.text(), "hello");
    }

    #[test]
    fn interim_responses_are_skipped() {
        assert_eq!(
            response(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").status,
            204
        );
    }

    #[test]
    fn a_record_that_spans_chunks_is_put_together() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n5\nh\r\n4\r\nello\r\n";
        let read = read_response(&mut BufReader::new(&bytes[..]), Wanted::FirstRecord).unwrap();
        assert_eq!(read.text(), "hello");
    }

    #[test]
    fn requests_carry_a_length_only_when_they_should() {
        let to: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let text = |request: Request| String::from_utf8(request.to_bytes(to)).unwrap();
        assert_eq!(
            text(Request::get("/x")),
            "GET /x HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"
        );
        let post = Request {
            method: "POST".into(),
            path: "/".into(),
            ..Request::default()
        };
        assert!(text(post.clone()).contains("Content-Length: 0\r\n"));
        assert!(!text(post.header("Content-Length", "9")).contains("Content-Length: 0"));
    }
}
