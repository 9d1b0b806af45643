//! A crowd on sockets, with a clock.

use crate::{
    crowd::{Crowd, Outgoing, Setup},
    inbound::{Arrival, accept},
    layout::{Layout, LayoutError},
    links::{Broken, Links, comes_back},
    report::Moment,
};
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tepui_model::{Rng, Time};
use tepui_protocol::peer::Pid;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};

/// Connections that the kernel may hold for us.
const BACKLOG: u32 = 4096;
/// Messages handled before what they lead to is sent.
const BATCH: usize = 256;
/// Open files besides those of the links.
const OTHER_FILES: u64 = 64;

/// Whom to emulate, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the followers have in common.
    pub setup: Setup,
    /// How many there are.
    pub followers: usize,
    /// How many share an address.
    pub per_address: Option<usize>,
    /// The first address.
    pub ip: Option<IpAddr>,
    /// The port of all; 0: any free one.
    pub port: u16,
}

/// Why followers cannot be emulated.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// They have no addresses.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Nothing leads to the leader.
    #[error("cannot reach {leader}: {source}")]
    Route {
        /// Where it should be.
        leader: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Their address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Each address needs two open files.
    #[error(
        "{addresses} addresses need {needed} open files, and this process may have {limit}: raise the limit (ulimit -n), or let followers share addresses with --per_address={per_address}"
    )]
    Files {
        /// How many addresses there are.
        addresses: usize,
        /// Files that they need.
        needed: u64,
        /// Files that there may be.
        limit: u64,
        /// What would fit.
        per_address: u64,
    },
}

/// Followers with an address, ready to register.
pub struct Emulator {
    crowd: Crowd,
    listener: TcpListener,
    leader: SocketAddr,
    leaders: Option<watch::Receiver<Option<Pid>>>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was asked to.
    Asked,
    /// The leader wants none of the followers.
    NobodyLeft,
}

impl Emulator {
    /// Listens. Needs a runtime with I/O and time.
    pub async fn bind(options: Options) -> Result<Self, EmulatorError> {
        let leader = options.setup.leader.address;
        let own = own_ip(leader).map_err(|source| EmulatorError::Route { leader, source })?;
        let layout = Layout::new(options.followers, options.per_address, options.ip, own)?;
        check_files(&layout)?;
        let address = SocketAddr::new(layout.listen_ip(), options.port);
        let listener =
            listen(address).map_err(|source| EmulatorError::Listen { address, source })?;
        let port = listener
            .local_addr()
            .map_err(|source| EmulatorError::Listen { address, source })?
            .port();
        // Two runs against one leader must not draw the same identities.
        let seed = since_epoch().as_nanos() as u64 ^ (u64::from(std::process::id()) << 32);
        Ok(Self {
            crowd: Crowd::new(options.setup, layout.on_port(port), Rng::seed(seed)),
            listener,
            leader,
            leaders: None,
        })
    }

    /// Goes over to whoever leads, as the receiver tells; each change is a new leader, even one at the
    /// same address.
    #[must_use]
    pub fn following(mut self, leaders: watch::Receiver<Option<Pid>>) -> Self {
        self.leaders = Some(leaders);
        self
    }

    /// Where the followers are.
    pub fn layout(&self) -> &Layout {
        self.crowd.layout()
    }

    /// Emulates until `stop`, or until no follower is left. `progress` hears every `period` and when
    /// all have registered.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        period: Duration,
        mut progress: impl FnMut(&Moment),
    ) -> (Stop, Moment) {
        let layout = Arc::new(self.crowd.layout().clone());
        let (links, broken) = Links::new(self.leader, &layout);
        let (arrivals, arrived) = mpsc::channel(BATCH * 4);
        let inbound = tokio::spawn(accept(self.listener, layout.clone(), arrivals));
        let mut running = Running {
            crowd: self.crowd,
            clock: Clock::start(),
            links,
            leader: self.leader,
            returns: None,
            layout,
            leaders: self.leaders,
            out: Vec::new(),
            all_registered: None,
        };
        let ended = running
            .serve(stop, arrived, broken, period, &mut progress)
            .await;
        inbound.abort();
        (ended, running.moment())
    }
}

struct Running {
    crowd: Crowd,
    clock: Clock,
    links: Links,
    leader: SocketAddr,
    /// While nobody is at the leader's address: until somebody is again. As where leaders are elected,
    /// nobody asks until then, and all hear of it at the same moment.
    returns: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    layout: Arc<Layout>,
    leaders: Option<watch::Receiver<Option<Pid>>>,
    out: Vec<Outgoing>,
    all_registered: Option<Duration>,
}

impl Running {
    async fn serve(
        &mut self,
        stop: impl Future<Output = ()>,
        mut arrived: mpsc::Receiver<Arrival>,
        mut broken: mpsc::UnboundedReceiver<Broken>,
        period: Duration,
        progress: &mut impl FnMut(&Moment),
    ) -> Stop {
        tokio::pin!(stop);
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // The first tick is at once, and there is nothing to tell yet.
        ticks.tick().await;
        let mut batch = Vec::with_capacity(BATCH);
        self.crowd.start(self.clock.now(), &mut self.out);
        loop {
            for outgoing in self.out.drain(..) {
                self.links.send(&self.layout, &outgoing);
            }
            let report = self.crowd.report();
            let ever = report.registrations + report.reregistrations;
            if self.all_registered.is_none()
                && report.registered == report.followers
                && ever >= report.followers
            {
                self.all_registered = Some(self.clock.elapsed());
                progress(&self.moment());
            }
            if report.shut_down + report.refused >= report.followers {
                return Stop::NobodyLeft;
            }
            let deadline = self.crowd.next_deadline().map(|at| self.clock.instant(at));
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = arrived.recv_many(&mut batch, BATCH) => {}
                Some(link) = broken.recv() => self.broken(link),
                Some(leader) = next_leader(&mut self.leaders) => self.follow(leader),
                () = returned(&mut self.returns) => {
                    let leader = self.crowd.leader().clone();
                    self.follow(leader);
                }
                () = due => {}
                _ = ticks.tick() => progress(&self.moment()),
                () = &mut stop => return Stop::Asked,
            }
            let now = self.clock.now();
            for arrival in batch.drain(..) {
                let Arrival {
                    address,
                    process,
                    from,
                    message,
                } = arrival;
                match message {
                    Some(message) => {
                        self.crowd
                            .message(now, address, &process, from, message, &mut self.out);
                    }
                    None => self.crowd.garbage(),
                }
            }
            self.crowd.tick(now, &mut self.out);
        }
    }

    fn broken(&mut self, link: Broken) {
        if !self.links.forget(link) || self.returns.is_some() {
            return;
        }
        let now = self.clock.now();
        self.crowd.link_broken(now, link.address, &mut self.out);
        if link.refused {
            self.crowd.leader_lost(now, &mut self.out);
            self.returns = Some(Box::pin(comes_back(self.leader)));
        }
    }

    fn follow(&mut self, leader: Pid) {
        self.returns = None;
        self.leader = leader.address;
        self.links.redirect(leader.address);
        self.crowd
            .leader_changed(self.clock.now(), leader, &mut self.out);
    }

    fn moment(&self) -> Moment {
        Moment {
            elapsed: self.clock.elapsed(),
            all_registered: self.all_registered,
            report: self.crowd.report().clone(),
        }
    }
}

/// The next leader; none for the time being, or never, where nobody tells.
async fn next_leader(leaders: &mut Option<watch::Receiver<Option<Pid>>>) -> Option<Pid> {
    match leaders {
        Some(receiver) => match receiver.changed().await {
            Ok(()) => receiver.borrow_and_update().clone(),
            Err(_) => {
                *leaders = None;
                None
            }
        },
        None => std::future::pending().await,
    }
}

/// Completes once it has; never, where nothing is waited for.
async fn returned(returns: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match returns {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The wall clock, read once, and the time that has passed since.
struct Clock {
    start: Instant,
    wall: Time,
}

impl Clock {
    fn start() -> Self {
        let nanos = u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX);
        Self {
            start: Instant::now(),
            wall: Time::from_nanos(nanos),
        }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn now(&self) -> Time {
        self.wall + self.elapsed()
    }

    fn instant(&self, at: Time) -> Instant {
        let far = self.start + Duration::from_secs(1 << 31);
        self.start.checked_add(at.since(self.wall)).unwrap_or(far)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The address that we are seen with from the leader. Nothing is sent: a UDP socket only asks the routes.
fn own_ip(leader: SocketAddr) -> io::Result<IpAddr> {
    let any = if leader.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(leader)?;
    Ok(socket.local_addr()?.ip())
}

/// One file for what an address says, one for what it hears.
fn check_files(layout: &Layout) -> Result<(), EmulatorError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let addresses = layout.addresses();
    let needed = 2 * addresses as u64 + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = maximum.unwrap_or(u64::MAX);
    if current.is_some_and(|current| current < needed) && limit >= needed {
        let all = Rlimit {
            current: maximum,
            maximum,
        };
        if setrlimit(Resource::Nofile, all).is_ok() {
            return Ok(());
        }
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit >= needed {
        return Ok(());
    }
    let fit = (limit.saturating_sub(OTHER_FILES) / 2).max(1);
    Err(EmulatorError::Files {
        addresses,
        needed,
        limit,
        per_address: (layout.followers() as u64).div_ceil(fit),
    })
}
