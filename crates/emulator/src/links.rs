//! What followers say: one connection from each address to the leader, opened by the first message.

use crate::{crowd::Outgoing, layout::Layout};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tepui_protocol::libprocess;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is tried whether somebody is at an address where nobody was.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A link that is no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broken {
    /// Whose it was.
    pub(crate) address: usize,
    /// Which link of that address it was.
    generation: u64,
    /// It was never made: nobody is at the leader's address.
    pub(crate) refused: bool,
}

/// The links of all addresses.
pub(crate) struct Links {
    leader: SocketAddr,
    open: Vec<Option<Link>>,
    opened: u64,
    broken: mpsc::UnboundedSender<Broken>,
}

struct Link {
    generation: u64,
    frames: mpsc::UnboundedSender<Vec<u8>>,
}

impl Links {
    /// No links yet, and where to hear which broke.
    pub(crate) fn new(
        leader: SocketAddr,
        layout: &Layout,
    ) -> (Self, mpsc::UnboundedReceiver<Broken>) {
        let (broken, hear) = mpsc::unbounded_channel();
        let links = Self {
            leader,
            open: std::iter::repeat_with(|| None)
                .take(layout.addresses())
                .collect(),
            opened: 0,
            broken,
        };
        (links, hear)
    }

    /// Sends a message, through a new link if there is none.
    pub(crate) fn send(&mut self, layout: &Layout, outgoing: &Outgoing) {
        let address = layout.address_of(outgoing.follower);
        let Some(place) = self.open.get_mut(address) else {
            return;
        };
        let link = place.get_or_insert_with(|| {
            self.opened += 1;
            let (frames, queue) = mpsc::unbounded_channel();
            let generation = self.opened;
            let (leader, from) = (self.leader, layout.ip(address));
            let broken = self.broken.clone();
            tokio::spawn(async move {
                let result = serve(leader, from, queue).await;
                tracing::debug!(%from, ?result, "a link to the leader ended");
                // An error means that nobody wants to know any more.
                let refused = result.is_err_and(|error| is_refusal(&error));
                let _ = broken.send(Broken {
                    address,
                    generation,
                    refused,
                });
            });
            Link { generation, frames }
        });
        let (from, to) = (&outgoing.from, &outgoing.to);
        let frame = libprocess::request(from, to, outgoing.name(), &outgoing.body());
        // An ended link reports itself.
        let _ = link.frames.send(frame);
    }

    /// Another leads: all links are ended, and new ones go there.
    pub(crate) fn redirect(&mut self, leader: SocketAddr) {
        self.leader = leader;
        self.open.fill_with(|| None);
    }

    /// Forgets a link; `false` if it is not the current one of its address.
    pub(crate) fn forget(&mut self, broken: Broken) -> bool {
        let Some(place) = self.open.get_mut(broken.address) else {
            return false;
        };
        let current = place
            .as_ref()
            .is_some_and(|link| link.generation == broken.generation);
        if current {
            *place = None;
        }
        current
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// Completes once somebody is at an address again.
pub(crate) async fn comes_back(leader: SocketAddr) {
    while TcpStream::connect(leader)
        .await
        .is_err_and(|error| is_refusal(&error))
    {
        sleep(LOOK_INTERVAL).await;
    }
}

async fn serve(
    leader: SocketAddr,
    from: IpAddr,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
) -> io::Result<()> {
    let mut stream = timeout(CONNECT_TIMEOUT, connect(leader, from)).await??;
    let (reader, mut writer) = stream.split();
    let write = async {
        while let Some(frame) = queue.recv().await {
            writer.write_all(&frame).await?;
        }
        Ok(())
    };
    let read = async {
        loop {
            reader.readable().await?;
            if ended(reader.as_ref())? {
                return Ok(());
            }
        }
    };
    tokio::select! {
        result = write => result,
        result = read => result,
    }
}

/// From the address that the follower says it has: leaders may check that.
async fn connect(leader: SocketAddr, from: IpAddr) -> io::Result<TcpStream> {
    let socket = match leader {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if from.is_ipv4() == leader.is_ipv4() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(leader).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Drops what the leader answers; whether that was its last word.
fn ended(stream: &TcpStream) -> io::Result<bool> {
    // Not in the task, which is one of thousands.
    let mut buffer = [0; 4096];
    match stream.try_read(&mut buffer) {
        Ok(read) => Ok(read == 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
