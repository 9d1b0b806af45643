//! How a group behaves, input by input. Arbitrary histories are in `tests/it/election.rs`.

use super::*;
use crate::Tenure;
use tepui_protocol::v1;

const TIMEOUT: Duration = Duration::from_secs(8);
const SESSION: i64 = 7;

/// A group, a clock and what it has not been answered yet.
struct Play {
    group: Group,
    now: Time,
    asked: Vec<(AskId, Request)>,
    told: Vec<Effect>,
}

fn info(id: &str) -> Arc<v1::MasterInfo> {
    Arc::new(v1::MasterInfo {
        id: id.to_owned(),
        ip: 16_777_343,
        port: 5050,
        ..Default::default()
    })
}

impl Play {
    fn new() -> Self {
        Self {
            group: Group::new("/mesos"),
            now: Time::from_nanos(1 << 60),
            asked: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Connected, with the path made.
    fn connected(contends: bool) -> Self {
        let mut play = Self::new();
        if contends {
            play.input(Input::Contend(info("own")));
        }
        play.connect(SESSION);
        play.answer("MakePath", Ok(Answer::PathMade));
        play
    }

    /// One that leads with number 1.
    fn leading() -> Self {
        let mut play = Self::connected(true);
        play.list(&[]);
        play.answer("Create", Ok(Answer::Created("json.info_0000000001".into())));
        play.list(&["json.info_0000000001"]);
        play.answer("Check", Ok(Answer::Exists(true)));
        assert!(play.group.standing().tenure().is_some());
        play
    }

    fn connect(&mut self, session: i64) {
        self.input(Input::Connected {
            session,
            timeout: TIMEOUT,
        });
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.group.handle(self.now, input, &mut effects);
        self.group.check();
        for effect in effects {
            match effect {
                Effect::Ask(ask, request) => self.asked.push((ask, request)),
                other => self.told.push(other),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.input(Input::Tick);
    }

    /// Answers the one request of this kind; others may wait.
    fn answer(&mut self, kind: &str, result: Result<Answer, Failure>) -> Request {
        let is_kind = |(_, request): &(AskId, Request)| format!("{request:?}").starts_with(kind);
        let at = self.asked.iter().position(is_kind);
        let at = at.unwrap_or_else(|| panic!("no {kind} among {:?}", self.asked));
        let (ask, request) = self.asked.remove(at);
        self.input(Input::Answered { ask, result });
        request
    }

    fn list(&mut self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.answer("List", Ok(Answer::Listed { names, birth: 1 }));
    }

    fn read(&mut self, data: &[u8], owner: i64) -> Request {
        let data = data.to_vec();
        self.answer("Read", Ok(Answer::Read { data, owner }))
    }

    /// What has been told since, and nothing is left to ask but `asked`.
    fn told(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.told)
    }

    fn assert_idle(&self) {
        assert_eq!(self.asked, []);
    }
}

#[test]
fn the_first_to_come_leads_once_it_has_been_heard() {
    let mut play = Play::connected(true);
    play.list(&["log_replicas", "tepui", "0000000000", "other_0000000000"]);
    let create = play.answer("Create", Ok(Answer::Created("json.info_0000000003".into())));
    assert_eq!(create, Request::Create(encode_member(&info("own")).into()));
    play.list(&["json.info_0000000003"]);
    let nobody = Standing::Following(None);
    assert_eq!(play.group.standing(), &nobody);
    let sent_at = play.now;
    play.now = play.now + Duration::from_millis(500);
    let check = play.answer("Check", Ok(Answer::Exists(true)));
    assert_eq!(check, Request::Check("/mesos/json.info_0000000003".into()));
    let tenure = Tenure {
        member: "/mesos/json.info_0000000003".into(),
        sequence: 3,
        session: SESSION,
        attempt: 3,
    };
    let lease = Lease::granted(sent_at, TIMEOUT);
    let leading = Standing::Leading(tenure);
    assert_eq!(
        play.told(),
        [
            Effect::Standing(nobody),
            Effect::Lease(lease),
            Effect::Standing(leading)
        ]
    );
    play.assert_idle();
    // The next heartbeat is counted from when the first was sent.
    let next = sent_at + Lease::heartbeat_interval(TIMEOUT);
    assert_eq!(play.group.next_deadline(), Some(next));
}

#[test]
fn others_follow_the_lowest_whatever_its_format() {
    let mut play = Play::connected(false);
    play.list(&["json.info_0000000005", "info_0000000004"]);
    let read = play.read(&prost_bytes(&info("old")), 1);
    assert_eq!(read, Request::Read("/mesos/info_0000000004".into()));
    assert_eq!(
        play.group.standing(),
        &Standing::Following(Some(info("old")))
    );
    play.input(Input::Changed);
    play.list(&["json.info_0000000005"]);
    // The old one goes on until the new one is known.
    assert_eq!(
        play.group.standing(),
        &Standing::Following(Some(info("old")))
    );
    play.read(&encode_member(&info("new")), 2);
    assert_eq!(
        play.group.standing(),
        &Standing::Following(Some(info("new")))
    );
    play.input(Input::Changed);
    play.list(&[]);
    assert_eq!(play.group.standing(), &Standing::Following(None));
    play.assert_idle();
}

fn prost_bytes(info: &v1::MasterInfo) -> Vec<u8> {
    // Fields 1 to 3 of MasterInfo.
    let id = info.id.as_bytes();
    let mut bytes = vec![0x0a, id.len() as u8];
    bytes.extend_from_slice(id);
    bytes.extend_from_slice(&[0x10, 0xff, 0x80, 0x80, 0x08, 0x18, 0xba, 0x27]);
    bytes
}

#[test]
fn a_member_that_is_not_understood_keeps_its_place_and_nobody_leads() {
    let mut play = Play::connected(true);
    play.list(&["json.info_0000000001"]);
    play.answer("Create", Ok(Answer::Created("json.info_0000000002".into())));
    play.read(b"not JSON", 99);
    play.list(&["json.info_0000000001", "json.info_0000000002"]);
    assert_eq!(play.group.standing(), &Standing::Following(None));
    let notice = |effect: &Effect| matches!(effect, Effect::Notice(text) if text.contains("json.info_0000000001"));
    assert_eq!(
        play.told().iter().filter(|effect| notice(effect)).count(),
        1
    );
    play.assert_idle();
    play.input(Input::Changed);
    play.list(&["json.info_0000000002"]);
    play.answer("Check", Ok(Answer::Exists(true)));
    assert!(play.group.standing().tenure().is_some());
}

#[test]
fn a_creation_whose_answer_was_lost_is_looked_for_by_its_owner() {
    let mut play = Play::connected(true);
    play.list(&["json.info_0000000001"]);
    play.answer("Create", Err(Failure::Lost));
    play.read(&encode_member(&info("other")), 5);
    play.pass(Duration::from_secs(1));
    play.list(&[
        "json.info_0000000001",
        "json.info_0000000002",
        "json.info_0000000003",
    ]);
    // Two of them are ours; the first stays.
    play.read(&encode_member(&info("own")), SESSION);
    play.read(&encode_member(&info("own")), SESSION);
    let delete = play.answer("Delete", Ok(Answer::Deleted));
    assert_eq!(
        delete,
        Request::Delete("/mesos/json.info_0000000003".into())
    );
    play.list(&["json.info_0000000001", "json.info_0000000002"]);
    play.assert_idle();
    play.input(Input::Changed);
    play.list(&["json.info_0000000002"]);
    let check = play.answer("Check", Ok(Answer::Exists(true)));
    assert_eq!(check, Request::Check("/mesos/json.info_0000000002".into()));
}

#[test]
fn a_creation_that_was_not_carried_out_is_tried_again() {
    let mut play = Play::connected(true);
    play.list(&[]);
    play.answer("Create", Err(Failure::Lost));
    play.pass(Duration::from_secs(1));
    play.list(&[]);
    play.answer("Create", Err(Failure::Other("ZooKeeper is full".into())));
    assert!(matches!(play.told().last(), Some(Effect::Notice(text)) if text.contains("full")));
    play.pass(Duration::from_secs(1));
    play.answer("Create", Ok(Answer::Created("json.info_0000000001".into())));
}

#[test]
fn a_znode_that_somebody_deleted_is_made_anew_and_the_tenure_is_over() {
    for heard_by_watch in [true, false] {
        let mut play = Play::leading();
        let before = play.group.standing().tenure().cloned();
        play.told();
        if heard_by_watch {
            play.input(Input::Changed);
            play.list(&[]);
        } else {
            play.pass(Lease::heartbeat_interval(TIMEOUT));
            play.answer("Check", Ok(Answer::Exists(false)));
            play.list(&[]);
        }
        assert_eq!(play.told().first(), Some(&Effect::Lease(Lease::ENDED)));
        assert_eq!(play.group.standing(), &Standing::Following(None));
        play.answer("Create", Ok(Answer::Created("json.info_0000000002".into())));
        play.list(&["json.info_0000000002"]);
        play.answer("Check", Ok(Answer::Exists(true)));
        assert_ne!(play.group.standing().tenure().cloned(), before);
    }
}

#[test]
fn a_leader_is_one_for_as_long_as_its_session_may_live() {
    let mut play = Play::leading();
    play.told();
    play.input(Input::Suspended);
    play.pass(TIMEOUT - Duration::from_millis(1));
    assert_eq!(play.told(), []);
    // Its lease was over before that.
    assert!(!play.group.lease().may_act(play.now));
    // A connection within the time, and all is well.
    play.connect(SESSION);
    play.list(&["json.info_0000000001"]);
    play.answer("Check", Ok(Answer::Exists(true)));
    assert!(play.group.lease().may_act(play.now));
    assert!(matches!(play.told()[..], [Effect::Lease(_)]));
    // None, and it is given up before anybody says so.
    play.input(Input::Suspended);
    assert_eq!(play.group.next_deadline(), Some(play.now + TIMEOUT));
    play.pass(TIMEOUT);
    assert_eq!(
        play.told(),
        [
            Effect::RenewSession,
            Effect::Lease(Lease::ENDED),
            Effect::Standing(Standing::Unknown)
        ]
    );
    play.connect(SESSION + 1);
    play.answer("MakePath", Ok(Answer::PathMade));
    // That of the old session is another's.
    play.list(&["json.info_0000000001"]);
    play.answer("Create", Ok(Answer::Created("json.info_0000000002".into())));
}

#[test]
fn answers_of_an_earlier_session_are_not_listened_to() {
    let mut play = Play::connected(true);
    play.list(&[]);
    let create = play.asked[0].0;
    play.input(Input::Expired);
    play.asked.clear();
    play.connect(SESSION + 1);
    let result = Ok(Answer::Created("json.info_0000000001".into()));
    play.input(Input::Answered {
        ask: create,
        result,
    });
    play.answer("MakePath", Ok(Answer::PathMade));
    play.list(&[]);
    play.answer("Create", Ok(Answer::Created("json.info_0000000002".into())));
}

#[test]
fn what_is_not_allowed_is_said_once_and_tried_again() {
    let mut play = Play::connected(true);
    play.list(&[]);
    play.answer("Create", Err(Failure::Denied));
    let Standing::Refused(why) = play.group.standing().clone() else {
        panic!("{:?}", play.group.standing());
    };
    assert!(
        why.contains("/mesos") && why.contains("credentials"),
        "{why}"
    );
    let notices = |play: &mut Play| {
        let told = play.told();
        told.iter()
            .filter(|e| matches!(e, Effect::Notice(_)))
            .count()
    };
    assert_eq!(notices(&mut play), 1);
    play.pass(RETRY_MAX);
    play.answer("Create", Err(Failure::Denied));
    assert_eq!(notices(&mut play), 0);
    play.pass(RETRY_MAX);
    play.answer("Create", Ok(Answer::Created("json.info_0000000001".into())));
    play.list(&["json.info_0000000001"]);
    assert_eq!(play.group.standing(), &Standing::Following(None));
    // No session at all.
    play.input(Input::Refused("no".into()));
    assert_eq!(play.group.standing(), &Standing::Refused("no".into()));
}

#[test]
fn who_withdraws_stops_leading_before_its_znode_goes() {
    let mut play = Play::leading();
    play.told();
    play.input(Input::Withdraw);
    assert_eq!(
        play.told(),
        [
            Effect::Lease(Lease::ENDED),
            Effect::Standing(Standing::Following(None))
        ]
    );
    assert!(!play.group.is_out());
    play.answer("Delete", Err(Failure::Lost));
    play.pass(Duration::from_secs(1));
    play.answer("Delete", Err(Failure::NoNode));
    assert!(play.group.is_out());
    play.list(&[]);
    play.assert_idle();
}

#[test]
fn an_election_whose_znode_was_made_anew_is_another() {
    let mut play = Play::connected(false);
    play.list(&["json.info_0000000001"]);
    play.read(&encode_member(&info("a")), 1);
    play.input(Input::Changed);
    let names = vec!["json.info_0000000001".to_owned()];
    play.answer("List", Ok(Answer::Listed { names, birth: 2 }));
    play.read(&encode_member(&info("b")), 2);
    assert_eq!(play.group.standing(), &Standing::Following(Some(info("b"))));
    play.input(Input::Changed);
    play.answer("List", Err(Failure::NoNode));
    play.answer("MakePath", Ok(Answer::PathMade));
    play.list(&[]);
    assert_eq!(play.group.standing(), &Standing::Following(None));
}
