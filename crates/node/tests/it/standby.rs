//! Leaders of several: how one answers that does not lead, takes over, and is deposed. The election
//! is driven by the tests.

use crate::support::{Messages, PATIENCE, Raw, Wire, serve};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
};
use tepui_leader::RegistryChange;
use tepui_node::{
    disk::registry::{Loaded, OpenRegistry, Registry, RegistryError, RegistryInMemory},
    http::{Limits, Server},
    leader::{
        Candidacy, Contender, LeaderError, LeaderHandle, LeaderNode, LeaderOptions, Lease,
        Standing, Tenure,
    },
    net::{LinkOptions, Links, Listen, Transport},
};
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
    v1::{self, MasterInfo},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// One candidacy of the leader under test, as the election sees it.
struct Candidate {
    info: MasterInfo,
    standing: watch::Sender<Standing>,
    lease: Arc<DrivenLease>,
    withdrawn: oneshot::Receiver<()>,
}

impl Candidate {
    fn is(&self, standing: Standing) {
        self.standing.send(standing).expect("the leader listens");
    }

    fn leads(&self) {
        self.is(Standing::Leading(tenure(1)));
    }
}

fn tenure(sequence: u32) -> Tenure {
    Tenure {
        member: format!("/mesos/json.info_{sequence:010}").into(),
        sequence,
        session: 7,
        attempt: 1,
    }
}

struct DrivenLease(AtomicBool);

impl Lease for DrivenLease {
    fn may_act(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// An election in the hands of a test.
struct Elections(mpsc::UnboundedSender<Candidate>);

impl Contender for Elections {
    fn contend(&self, info: MasterInfo) -> Candidacy {
        let (standing, told) = watch::channel(Standing::Unknown);
        let (withdraw, withdrawn) = oneshot::channel();
        let lease = Arc::new(DrivenLease(AtomicBool::new(true)));
        let candidate = Candidate {
            info,
            standing,
            lease: lease.clone(),
            withdrawn,
        };
        self.0.send(candidate).expect("the test listens");
        Candidacy {
            standing: told,
            lease: Box::new(move |_| lease.clone()),
            patience: PATIENCE,
            withdraw: Box::new(|| {
                Box::pin(async {
                    let _ = withdraw.send(());
                })
            }),
        }
    }
}

struct Stage {
    leader: LeaderHandle,
    candidates: mpsc::UnboundedReceiver<Candidate>,
}

impl Stage {
    async fn with(registry: impl OpenRegistry) -> Self {
        let listen = Listen::on(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut options = LeaderOptions::new(listen, "/nowhere");
        options.hostname = Some("leader.test".to_owned());
        options.registry = Arc::new(registry);
        let (candidacies, candidates) = mpsc::unbounded_channel();
        options.contender = Some(Box::new(Elections(candidacies)));
        let leader = LeaderNode::start(options).await.expect("a leader");
        Self { leader, candidates }
    }

    async fn candidate(&mut self) -> Candidate {
        let next = timeout(PATIENCE, self.candidates.recv());
        next.await.expect("in time").expect("a candidate")
    }

    /// Asks until the answer has this status.
    async fn until(&self, path: &str, status: u16) -> Wire {
        let mut client = Raw::connect(self.leader.address).await;
        let asked = async {
            loop {
                let answer = get(&mut client, path).await;
                if answer.status == status {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asked).await.expect("in time")
    }
}

fn other() -> Arc<MasterInfo> {
    Arc::new(MasterInfo {
        id: "other".to_owned(),
        ip: u32::from_ne_bytes([10, 0, 0, 2]),
        port: 15070,
        pid: Some("master@10.0.0.2:15070".to_owned()),
        hostname: Some("leader2.test".to_owned()),
        ..Default::default()
    })
}

async fn get(client: &mut Raw, path: &str) -> Wire {
    ask(client, "GET", path).await
}

async fn ask(client: &mut Raw, method: &str, path: &str) -> Wire {
    client
        .send(format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
    client.response().await
}

/// `ha.http.jsonl` of the recordings, and the handlers that ask `elected()` in `src/master/http.cpp`.
#[tokio::test]
async fn who_stands_by_sends_to_the_leader_what_only_a_leader_answers() {
    let mut stage = Stage::with(RegistryInMemory).await;
    let candidate = stage.candidate().await;
    candidate.is(Standing::Following(Some(other())));
    let answer = stage.until("/redirect", 307).await;
    assert_eq!(answer.header("location"), Some("//leader2.test:15070"));
    assert!(answer.body.is_empty() && answer.header("content-type").is_none());
    let mut client = Raw::connect(stage.leader.address).await;
    for (asked, location) in [
        ("GET /master/redirect", ""),
        ("GET /state", "/master/state"),
        ("GET /state?a=b&c=%20", "/master/state?a=b&c=%20"),
        ("GET /master/state", "/master/state"),
        ("GET /state-summary", "/master/state-summary"),
        ("GET /slaves", "/master/slaves"),
        ("GET /frameworks", "/master/frameworks"),
        ("GET /tasks", "/master/tasks"),
        ("GET /roles", "/master/roles"),
        ("GET /quota", "/master/quota"),
        ("PUT /weights", "/master/weights"),
        ("GET /maintenance/schedule", "/master/maintenance/schedule"),
        ("POST /machine/down", "/master/machine/down"),
        ("POST /reserve", "/master/reserve"),
        ("POST /teardown", "/master/teardown"),
        ("GET /api/v1/scheduler", "/master/api/v1/scheduler"),
        ("POST /api/v1/scheduler", "/master/api/v1/scheduler"),
        ("POST /api/v1", "/master/api/v1"),
        ("POST /master/api/v1/operator", "/master/api/v1/operator"),
    ] {
        let (method, path) = asked.split_once(' ').expect("a method");
        let answer = ask(&mut client, method, path).await;
        let location = format!("//leader2.test:15070{location}");
        assert_eq!(
            (answer.status, answer.header("location")),
            (307, Some(location.as_str())),
            "{asked}"
        );
    }
    for path in [
        "/health",
        "/version",
        "/flags",
        "/logging/toggle",
        "/files/debug",
        "/system/stats.json",
        "/help",
    ] {
        assert_eq!(get(&mut client, path).await.status, 200, "{path}");
    }
    for path in ["/nothing", "/redirect/loop", "/master/redirect/loop"] {
        assert_eq!(get(&mut client, path).await.status, 404, "{path}");
    }
    let metrics = get(&mut client, "/metrics/snapshot").await;
    let metrics: serde_json::Value = serde_json::from_slice(&metrics.body).expect("metrics");
    assert_eq!(metrics["master/elected"], 0.0);
    assert!(
        metrics["master/uptime_secs"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0)
    );
    stage.leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn while_nobody_is_known_to_lead_requests_are_refused_and_messages_dropped() {
    let mut stage = Stage::with(RegistryInMemory).await;
    let candidate = stage.candidate().await;
    candidate.is(Standing::Following(None));
    let mut client = Raw::connect(stage.leader.address).await;
    for path in ["/redirect", "/state", "/api/v1"] {
        let answer = get(&mut client, path).await;
        assert_eq!(
            (answer.status, answer.text()),
            (503, "No leader elected"),
            "{path}"
        );
    }
    let message = b"POST /master/mesos.internal.PongSlaveMessage HTTP/1.1\r\nUser-Agent: libprocess/slave(1)@127.0.0.1:1\r\nContent-Length: 0\r\n\r\n";
    client.send(message).await;
    assert_eq!(client.response().await.status, 202);
    let metrics = get(&mut client, "/metrics/snapshot").await;
    let metrics: serde_json::Value = serde_json::from_slice(&metrics.body).expect("metrics");
    assert_eq!(metrics["master/dropped_messages"], 1.0);
    // The election goes on being heard.
    candidate.is(Standing::Following(Some(other())));
    stage.until("/state", 307).await;
    candidate.is(Standing::Unknown);
    stage.until("/state", 503).await;
    stage.leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn who_is_elected_leads_and_who_stops_leaves_the_election() {
    let mut stage = Stage::with(RegistryInMemory).await;
    let mut candidate = stage.candidate().await;
    candidate.leads();
    let state = stage.until("/state", 200).await;
    let state: serde_json::Value = serde_json::from_slice(&state.body).expect("a state");
    assert_eq!(state["id"], candidate.info.id);
    assert_eq!(state["leader"], state["pid"]);
    assert_eq!(state["leader_info"]["id"], state["id"]);
    assert!(state["elected_time"].as_f64() >= state["start_time"].as_f64());
    let mut client = Raw::connect(stage.leader.address).await;
    let metrics = get(&mut client, "/metrics/snapshot").await;
    assert!(metrics.text().contains(r#""master/elected":1.0"#));
    assert!(candidate.withdrawn.try_recv().is_err());
    stage.leader.shutdown().await.expect("a clean end");
    candidate.withdrawn.await.expect("withdrawn");
}

/// A registry that writes when it is told to, and fails as it is told to.
struct Slow(Mutex<Option<blocking::Receiver<Result<(), RegistryError>>>>);

impl Slow {
    fn new() -> (blocking::Sender<Result<(), RegistryError>>, Self) {
        let (tell, told) = blocking::channel();
        (tell, Self(Mutex::new(Some(told))))
    }
}

impl OpenRegistry for Slow {
    fn open(&self, member: Option<&str>) -> Result<Box<dyn Registry>, RegistryError> {
        assert!(member.is_some_and(|member| member.starts_with("/mesos/json.info_")));
        match self.0.lock().expect("a lock").take() {
            Some(told) => Ok(Box::new(SlowWrites(told))),
            None => RegistryInMemory.open(member),
        }
    }
}

struct SlowWrites(blocking::Receiver<Result<(), RegistryError>>);

impl Registry for SlowWrites {
    fn load(&mut self) -> Result<Loaded, RegistryError> {
        Ok(Loaded::default())
    }

    fn apply(&mut self, _changes: &[RegistryChange]) -> Result<(), RegistryError> {
        self.0.recv().unwrap_or(Err(RegistryError::Deposed))
    }
}

/// A follower that registers.
struct Follower {
    messages: Messages,
    server: Server,
    links: Links,
    address: SocketAddr,
}

impl Follower {
    async fn new() -> Self {
        let (address, messages, server) = serve(Limits::default()).await;
        let (links, _end) = Links::new(
            address,
            LinkOptions::default(),
            Transport::plain(),
            Handle::current(),
            |_| {},
        );
        Self {
            messages,
            server,
            links,
            address,
        }
    }

    fn registers(&self, leader: SocketAddr) {
        let to = Pid {
            name: "master".to_owned(),
            address: leader,
        };
        let register = internal::RegisterSlaveMessage {
            slave: v1::AgentInfo {
                hostname: "follower.test".to_owned(),
                port: Some(self.address.port().into()),
                ..Default::default()
            },
            version: Some("1.11.0".to_owned()),
            ..Default::default()
        };
        self.links.send("slave(1)", &to, &register.into());
    }

    async fn hears(&mut self) -> PeerMessage {
        let next = timeout(PATIENCE, self.messages.recv());
        next.await.expect("in time").expect("a message").2
    }
}

/// Waits until the leader has handled what a follower sent.
async fn handled(stage: &Stage, count: f64) {
    let mut client = Raw::connect(stage.leader.address).await;
    let asked = async {
        loop {
            let metrics = get(&mut client, "/metrics/snapshot").await;
            let metrics: serde_json::Value =
                serde_json::from_slice(&metrics.body).expect("metrics");
            if metrics["master/messages_register_slave"] == count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, asked).await.expect("in time");
}

#[tokio::test]
async fn what_waits_for_the_registry_when_a_leader_is_deposed_is_never_said() {
    let (write, registry) = Slow::new();
    let mut stage = Stage::with(registry).await;
    let mut first = stage.candidate().await;
    first.leads();
    // The leader's own entry.
    write.send(Ok(())).expect("open");
    stage.until("/state", 200).await;
    let mut follower = Follower::new().await;
    follower.registers(stage.leader.address);
    handled(&stage, 1.0).await;
    first.is(Standing::Following(Some(other())));
    stage.until("/state", 307).await;
    // Now the write succeeds, too late.
    let _ = write.send(Ok(()));
    let second = stage.candidate().await;
    first
        .withdrawn
        .try_recv()
        .expect("withdrawn before it contends anew");
    assert_ne!(
        second.info.id, first.info.id,
        "ids of one term are not those of another"
    );
    assert_eq!(second.info.pid, first.info.pid);
    stage.leader.shutdown().await.expect("a clean end");
    assert!(follower.messages.try_recv().is_err(), "nothing was said");
    follower.server.stop().await;
}

#[tokio::test]
async fn nothing_is_said_while_the_lease_has_run_out_and_all_of_it_when_it_came_back() {
    let (write, registry) = Slow::new();
    let mut stage = Stage::with(registry).await;
    let candidate = stage.candidate().await;
    candidate.leads();
    write.send(Ok(())).expect("open");
    stage.until("/state", 200).await;
    let mut follower = Follower::new().await;
    follower.registers(stage.leader.address);
    handled(&stage, 1.0).await;
    candidate.lease.0.store(false, Ordering::SeqCst);
    candidate.is(Standing::Unknown);
    let answer = stage.until("/state", 503).await;
    assert_eq!(answer.text(), "No leader elected");
    // The answer to the follower waits for nothing but the lease.
    write.send(Ok(())).expect("open");
    stage.until("/state", 503).await;
    assert!(follower.messages.try_recv().is_err(), "nothing was said");
    candidate.is(Standing::Leading(tenure(1)));
    candidate.lease.0.store(true, Ordering::SeqCst);
    let registered = follower.hears().await;
    assert_eq!(registered.name(), "mesos.internal.SlaveRegisteredMessage");
    stage.until("/state", 200).await;
    assert!(
        stage.candidates.try_recv().is_err(),
        "it is still the same candidacy"
    );
    stage.leader.shutdown().await.expect("a clean end");
    follower.server.stop().await;
}

#[tokio::test]
async fn who_stops_without_a_lease_says_nothing_more() {
    let (write, registry) = Slow::new();
    let mut stage = Stage::with(registry).await;
    let candidate = stage.candidate().await;
    candidate.leads();
    write.send(Ok(())).expect("open");
    stage.until("/state", 200).await;
    let mut follower = Follower::new().await;
    follower.registers(stage.leader.address);
    handled(&stage, 1.0).await;
    candidate.lease.0.store(false, Ordering::SeqCst);
    write.send(Ok(())).expect("open");
    stage.leader.shutdown().await.expect("a clean end");
    assert!(follower.messages.try_recv().is_err(), "nothing was said");
    follower.server.stop().await;
}

#[tokio::test]
async fn a_registry_that_belongs_to_another_deposes() {
    let (write, registry) = Slow::new();
    let mut stage = Stage::with(registry).await;
    let first = stage.candidate().await;
    first.leads();
    write.send(Err(RegistryError::Deposed)).expect("open");
    let second = stage.candidate().await;
    first.withdrawn.await.expect("withdrawn");
    second.is(Standing::Leading(tenure(2)));
    let state = stage.until("/state", 200).await;
    assert!(state.text().contains(&second.info.id));
    stage.leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn streams_end_when_their_leader_is_deposed() {
    let mut stage = Stage::with(RegistryInMemory).await;
    let candidate = stage.candidate().await;
    candidate.leads();
    stage.until("/state", 200).await;
    let mut operator = Raw::connect(stage.leader.address).await;
    let call = r#"{"type":"SUBSCRIBE"}"#;
    let head = format!(
        "POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        call.len()
    );
    operator.send(head + call).await;
    assert_eq!(operator.response().await.status, 200);
    operator.chunk().await;
    // Another session of ours took our place: what we said before may be void.
    candidate.is(Standing::Leading(tenure(2)));
    let end = timeout(PATIENCE, async {
        while !operator.chunk().await.is_empty() {}
    });
    end.await.expect("the stream ends");
    let _again = stage.candidate().await;
    stage.leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn a_registry_that_cannot_be_used_ends_the_process() {
    struct Broken;
    impl OpenRegistry for Broken {
        fn open(&self, _member: Option<&str>) -> Result<Box<dyn Registry>, RegistryError> {
            Err(RegistryError::NotElected)
        }
    }
    let mut stage = Stage::with(Broken).await;
    let candidate = stage.candidate().await;
    candidate.leads();
    let error = timeout(PATIENCE, stage.leader.failed())
        .await
        .expect("it ends");
    assert!(
        matches!(error, LeaderError::Registry(RegistryError::NotElected)),
        "{error}"
    );
    candidate.withdrawn.await.expect("withdrawn");
    stage.leader.shutdown().await.expect("nothing more to say");
}
