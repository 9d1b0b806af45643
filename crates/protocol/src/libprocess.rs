//! One-way messages between libprocess peers: HTTP requests whose path names the process and the
//! message, and whose headers name the sender (`3rdparty/libprocess/src/encoder.hpp`,
//! `process.cpp`).
//!
//! [`frame`] finds them in what a connection receives, [`request`] writes them.

mod chunked;
pub mod frame;

use crate::peer::{InvalidPid, Pid};
use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

const AGENT_PREFIX: &str = "libprocess/";
/// About what everything but the body takes.
const HEAD_BYTES: usize = 320;

/// The whole request that carries a message, ready to be written to a connection.
///
/// Peers tell libprocess requests by their first header, so the order of headers matters, and some
/// only read a body that is one chunk. An empty body has no chunk and no length.
pub fn request(from: &Pid, to: &Pid, message: &str, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(body.len() + HEAD_BYTES);
    write_request(&mut request, from, to, message, body);
    request
}

/// Appends what [`request`] makes to what is to be written.
pub fn write_request(out: &mut Vec<u8>, from: &Pid, to: &Pid, message: &str, body: &[u8]) {
    let slash = if to.name.is_empty() { "" } else { "/" };
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "POST {slash}{}/{message} HTTP/1.1\r\n\
         User-Agent: {AGENT_PREFIX}{from}\r\n\
         Libprocess-From: {from}\r\n\
         Connection: Keep-Alive\r\n\
         Host: {}\r\n",
        to.name, to.address,
    );
    if body.is_empty() {
        out.extend_from_slice(b"\r\n");
        return;
    }
    let _ = write!(
        out,
        "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        body.len()
    );
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n0\r\n\r\n");
}

/// What the head of a received message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Name of the process it is for (`master`, `slave(1)`).
    pub process: String,
    /// Name of the message (`mesos.internal.PingSlaveMessage`).
    pub message: String,
    /// Who sent it, and where answers go.
    pub from: Pid,
}

/// A request claims to be a libprocess message and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The sender is at a host that is given by name: somebody has to look it up.
    #[error("the sender is at a host to be looked up: {}", .0.host)]
    Host(Box<HostedEnvelope>),
    /// The sender is not an address.
    #[error("Failed to determine sender from request headers: {0}")]
    Sender(#[from] InvalidPid),
    /// The path is not `/PROCESS/MESSAGE`.
    #[error("Failed to decode URL path '{0}'")]
    Path(String),
}

/// An envelope whose sender gave the name of its host. The reference writes addresses only, but
/// looks up names, and drivers written from scratch rely on it (pymesos 0.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedEnvelope {
    /// Name of the sender's process.
    pub name: String,
    /// Its host: letters, digits, `-`, `.` and `_`.
    pub host: String,
    /// Its port.
    pub port: u16,
    process: String,
    message: String,
}

impl HostedEnvelope {
    /// The envelope, once it is known where the host is.
    pub fn at(self, ip: IpAddr) -> Envelope {
        Envelope {
            process: self.process,
            message: self.message,
            from: Pid {
                name: self.name,
                address: SocketAddr::new(ip, self.port),
            },
        }
    }
}

/// Longest name of a host (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// Process, host and port of a sender that is not at an IP address.
fn hosted(sender: &str) -> Option<(&str, &str, u16)> {
    let (name, address) = sender.rsplit_once('@')?;
    let (host, port) = address.rsplit_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_host = (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(plain);
    let is_name = name.bytes().all(|byte| byte.is_ascii_graphic());
    (is_host && is_name).then_some((name, host, port.parse().ok()?))
}

/// Whether a request is a libprocess message, and whose.
///
/// `Ok(None)`: an ordinary HTTP request. It is a message if it is a POST that either names a
/// libprocess sender as its user agent or has the header `Libprocess-From`, which wins.
pub fn recognise(
    method: &str,
    path: &str,
    user_agent: Option<&str>,
    libprocess_from: Option<&str>,
) -> Result<Option<Envelope>, EnvelopeError> {
    let agent = user_agent.and_then(|agent| agent.strip_prefix(AGENT_PREFIX));
    let sender = libprocess_from.map(str::trim).or(agent);
    let (Some(sender), "POST") = (sender, method) else {
        return Ok(None);
    };
    let from = sender.parse::<Pid>();
    let hosted = hosted(sender).filter(|_| from.is_err());
    let from = match (from, hosted) {
        (Err(error), None) => return Err(error.into()),
        (from, _) => from.ok(),
    };
    let invalid = || EnvelopeError::Path(path.to_owned());
    let (process, message) = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .ok_or_else(invalid)?;
    let process = percent_decode(process).ok_or_else(invalid)?;
    if !process.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid());
    }
    let message = message.to_owned();
    match (from, hosted) {
        (Some(from), _) => Ok(Some(Envelope {
            process,
            message,
            from,
        })),
        (None, Some((name, host, port))) => Err(EnvelopeError::Host(Box::new(HostedEnvelope {
            name: name.to_owned(),
            host: host.to_owned(),
            port,
            process,
            message,
        }))),
        (None, None) => Ok(None),
    }
}

/// Whether a request's target is a path of plain characters and nothing else: no query, no
/// authority, nothing that implementations read differently.
fn is_token_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    path.starts_with('/') && path.bytes().all(plain)
}

/// Undoes percent-encoding, and `+` for a space.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? * 16 + hex(bytes.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(text: &str) -> Pid {
        text.parse().expect("a process address")
    }

    #[test]
    fn a_request_has_the_bytes_peers_expect() {
        let (from, to) = (pid("slave(1)@127.0.0.1:5051"), pid("master@127.0.0.1:5050"));
        let body = [b'x'; 26];
        let request = request(&from, &to, "mesos.internal.PongSlaveMessage", &body);
        let expected = "POST /master/mesos.internal.PongSlaveMessage HTTP/1.1\r\n\
            User-Agent: libprocess/slave(1)@127.0.0.1:5051\r\n\
            Libprocess-From: slave(1)@127.0.0.1:5051\r\n\
            Connection: Keep-Alive\r\n\
            Host: 127.0.0.1:5050\r\n\
            Transfer-Encoding: chunked\r\n\r\n\
            1a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&request), expected);
    }

    #[test]
    fn an_empty_body_is_not_chunked() {
        let peer = pid("a@[::1]:5051");
        let request = request(&peer, &peer, "M", b"");
        let text = String::from_utf8_lossy(&request);
        assert!(text.ends_with("Host: [::1]:5051\r\n\r\n"), "{text}");
    }

    #[test]
    fn messages_are_told_from_other_requests() {
        let agent = Some("libprocess/slave(1)@127.0.0.1:5051");
        let path = "/slave%281%29/mesos.internal.PingSlaveMessage";
        let envelope = Envelope {
            process: "slave(1)".to_owned(),
            message: "mesos.internal.PingSlaveMessage".to_owned(),
            from: pid("slave(1)@127.0.0.1:5051"),
        };
        assert_eq!(
            recognise("POST", path, agent, None),
            Ok(Some(envelope.clone()))
        );
        let from = Some(" scheduler-1@10.0.0.1:9 ");
        let other = Envelope {
            from: pid("scheduler-1@10.0.0.1:9"),
            ..envelope
        };
        assert_eq!(recognise("POST", path, agent, from), Ok(Some(other)));
        assert_eq!(recognise("GET", path, agent, from), Ok(None));
        assert_eq!(recognise("POST", path, Some("curl/8"), None), Ok(None));
        assert_eq!(recognise("POST", path, None, None), Ok(None));
    }

    #[test]
    fn a_sender_at_a_host_by_name_is_to_be_looked_up() {
        let agent = Some("libprocess/scheduler@some-host.example:8080");
        let Err(EnvelopeError::Host(hosted)) = recognise("POST", "/master/M", agent, None) else {
            panic!("a host is not an address");
        };
        assert_eq!(hosted.host, "some-host.example");
        let expected = Envelope {
            process: "master".to_owned(),
            message: "M".to_owned(),
            from: pid("scheduler@10.0.0.1:8080"),
        };
        assert_eq!(hosted.at([10, 0, 0, 1].into()), expected);
        for sender in [
            "a@:1",
            "a@host",
            "a@host:",
            "a@host:70000",
            "a@ho st:1",
            "a@[::1:5",
            "a@h/o:1",
        ] {
            let result = recognise("POST", "/master/M", None, Some(sender));
            assert!(
                matches!(result, Err(EnvelopeError::Sender(_))),
                "{sender}: {result:?}"
            );
        }
    }

    #[test]
    fn broken_messages_are_errors() {
        let agent = Some("libprocess/x@127.0.0.1:1");
        for path in [
            "",
            "/",
            "/master",
            "master/M",
            "/%/M",
            "/%4/M",
            "/%zz/M",
            "/%ff/M",
            "/a%0d%0ab/M",
        ] {
            let result = recognise("POST", path, agent, None);
            assert!(matches!(result, Err(EnvelopeError::Path(_))), "{path}");
        }
        for sender in ["libprocess/nobody", "libprocess/a b@127.0.0.1:1"] {
            let result = recognise("POST", "/master/M", Some(sender), None);
            assert!(matches!(result, Err(EnvelopeError::Sender(_))));
        }
    }
}
