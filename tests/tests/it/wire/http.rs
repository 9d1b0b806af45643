//! The connections of recorded frameworks and executors that speak a v1 API: kept open, pipelined, with their streams read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tepui_tests::http::{Chunks, Request, connect, read_head, read_record};

/// What came back on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Back {
    Response {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    Record(Vec<u8>),
}

/// Connections by their number in the recording.
#[derive(Debug)]
pub(crate) struct Connections {
    open: BTreeMap<u64, TcpStream>,
    arrived: Vec<(u64, Back)>,
    receiver: Receiver<(u64, Back)>,
    sender: Sender<(u64, Back)>,
    closed: BTreeSet<u64>,
}

impl Connections {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = channel();
        Connections {
            open: BTreeMap::new(),
            arrived: Vec::new(),
            receiver,
            sender,
            closed: BTreeSet::new(),
        }
    }

    /// Sends a request on a connection, opened if it is not.
    pub(crate) fn send(&mut self, conn: u64, to: SocketAddr, request: &Request) -> io::Result<()> {
        if !self.open.contains_key(&conn) {
            let connection = connect(to, Duration::from_secs(20))?;
            connection.set_read_timeout(None)?;
            let reader = connection.try_clone()?;
            let sender = self.sender.clone();
            std::thread::spawn(move || read(conn, reader, &sender).ok());
            self.open.insert(conn, connection);
        }
        let connection = self.open.get_mut(&conn).expect("just opened");
        connection.write_all(&request.to_bytes(to))
    }

    /// Closes a connection as the end of its process does.
    pub(crate) fn close(&mut self, conn: u64) {
        self.closed.insert(conn);
        if let Some(connection) = self.open.remove(&conn) {
            connection.shutdown(Shutdown::Both).ok();
        }
    }

    /// Whether it was closed by [`Self::close`].
    pub(crate) fn is_closed(&self, conn: u64) -> bool {
        self.closed.contains(&conn)
    }

    /// The first of what came back on a connection and fits; taken. None when the deadline passes first.
    pub(crate) fn take(
        &mut self,
        conn: u64,
        patience: Duration,
        mut fits: impl FnMut(&Back) -> bool,
    ) -> Option<Back> {
        let deadline = Instant::now() + patience;
        loop {
            let found = self
                .arrived
                .iter()
                .position(|(on, back)| *on == conn && fits(back));
            if let Some(at) = found {
                return Some(self.arrived.remove(at).1);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            match self.receiver.recv_timeout(left) {
                Ok(back) => self.arrived.push(back),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// What came back on a connection and was not taken.
    pub(crate) fn untaken(&mut self) -> Vec<(u64, Back)> {
        self.arrived.extend(self.receiver.try_iter());
        std::mem::take(&mut self.arrived)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for connection in self.open.values() {
            connection.shutdown(Shutdown::Both).ok();
        }
    }
}

fn read(conn: u64, connection: TcpStream, sender: &Sender<(u64, Back)>) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let (status, headers) = read_head(&mut reader)?;
        let header = |name: &str| {
            let found = headers
                .iter()
                .find(|(own, _)| own.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        let chunked = header("transfer-encoding").is_some();
        let mut body = Vec::new();
        if let Some(length) = header("content-length").and_then(|value| value.parse::<u64>().ok()) {
            reader.by_ref().take(length).read_to_end(&mut body)?;
        }
        let response = Back::Response {
            status,
            headers,
            body,
        };
        // Nobody is waiting any more: the test is over.
        sender.send((conn, response)).map_err(io::Error::other)?;
        if chunked {
            let mut stream = Chunks::new(&mut reader);
            while let Some(record) = read_record(&mut stream)? {
                sender
                    .send((conn, Back::Record(record)))
                    .map_err(io::Error::other)?;
            }
        }
    }
}
