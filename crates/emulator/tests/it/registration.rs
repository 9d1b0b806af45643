//! Followers register, stay registered, and come back.

use crate::stage::{Stage, agent_id, credential, names, registered, said, setup};
use std::time::Duration;
use tepui_emulator::Phase;
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn all_register_at_once_unless_a_rate_is_set() {
    let mut stage = Stage::new(4, 2, setup());
    let out = stage.start();
    assert_eq!(names(&said(&out)), ["RegisterSlaveMessage"; 4]);
    let senders: Vec<String> = out.iter().map(|one| one.from.to_string()).collect();
    assert_eq!(
        senders,
        [
            "slave(1)@127.64.0.1:9",
            "slave(2)@127.64.0.1:9",
            "slave(1)@127.64.0.2:9",
            "slave(2)@127.64.0.2:9"
        ]
    );
    let PeerMessage::RegisterSlave(message) = &said(&out)[3] else {
        panic!("{:?}", out[3])
    };
    assert_eq!(message.slave.hostname, "emulated-4");
    assert_eq!(message.slave.port, Some(9));

    let mut setup = setup();
    setup.rate = Some(2.0);
    let mut stage = Stage::new(4, 1, setup);
    assert_eq!(stage.start().len(), 1);
    for follower in 0..3 {
        stage.tell(follower, registered());
        let next = stage.pass(SECOND / 2);
        assert_eq!(
            next.iter()
                .filter(|one| one.follower == follower + 1)
                .count(),
            1
        );
    }
}

#[test]
fn an_attempt_is_repeated_until_it_is_answered() {
    let mut stage = Stage::new(1, 1, setup());
    assert_eq!(stage.start().len(), 1);
    let again = stage.pass(600 * SECOND);
    assert!((9..100).contains(&again.len()), "{} attempts", again.len());
    assert_eq!(names(&stage.tell(0, registered())), ["UpdateSlaveMessage"]);
    assert_eq!(stage.crowd.phase(0), Some(Phase::Registered));
    assert_eq!(stage.pass(10 * SECOND), []);
    assert_eq!(stage.crowd.report().attempts, again.len() as u64 + 1);
}

#[test]
fn pings_are_answered_to_who_asked() {
    let mut stage = Stage::registered();
    let observer: Pid = "slave-observer(3)@127.0.0.1:5050".parse().unwrap();
    let ping = i::PingSlaveMessage { connected: true };
    let out = stage.hear(0, observer.clone(), ping.into());
    assert_eq!(out.len(), 1);
    assert_eq!(
        (out[0].name(), &out[0].to),
        ("mesos.internal.PongSlaveMessage", &observer)
    );
    assert_eq!(stage.crowd.report().pings, 1);
}

#[test]
fn a_follower_registers_again_when_it_is_forgotten_silent_to_or_cut_off() {
    let by_ping = |stage: &mut Stage| {
        let ping = i::PingSlaveMessage { connected: false };
        assert_eq!(names(&stage.tell(0, ping)), ["PongSlaveMessage"]);
        stage.pass(SECOND)
    };
    let by_link = |stage: &mut Stage| {
        let mut out = Vec::new();
        stage.crowd.link_broken(stage.now, 0, &mut out);
        assert_eq!(out, []);
        stage.pass(SECOND)
    };
    let by_silence = |stage: &mut Stage| {
        // Pings hold it off.
        assert_eq!(stage.pass(60 * SECOND), []);
        stage.tell(0, i::PingSlaveMessage { connected: true });
        assert_eq!(stage.pass(60 * SECOND), []);
        stage.pass(16 * SECOND)
    };
    let causes: [&dyn Fn(&mut Stage) -> Vec<_>; 3] = [&by_ping, &by_link, &by_silence];
    for cause in causes {
        let mut stage = Stage::registered();
        let out = cause(&mut stage);
        let PeerMessage::ReregisterSlave(message) = &said(&out)[0] else {
            panic!("{out:?}")
        };
        assert_eq!(message.slave.id, Some(agent_id()));
        assert_eq!(stage.crowd.report().registered, 0);
        let answer = i::SlaveReregisteredMessage {
            slave_id: agent_id(),
            ..Default::default()
        };
        assert_eq!(names(&stage.tell(0, answer)), ["UpdateSlaveMessage"]);
        assert_eq!(
            (
                stage.crowd.report().registered,
                stage.crowd.report().reregistrations
            ),
            (1, 1)
        );
    }
}

#[test]
fn nobody_asks_where_nobody_leads_and_all_come_to_the_next_leader_in_their_first_wait() {
    let mut stage = Stage::new(3, 1, setup());
    stage.start();
    stage.tell(0, registered());
    let mut out = Vec::new();
    stage.crowd.leader_lost(stage.now, &mut out);
    assert_eq!((out.len(), stage.crowd.report().registered), (0, 0));
    assert_eq!(stage.pass(600 * SECOND), []);
    let next: Pid = "master@127.0.0.2:5050".parse().unwrap();
    stage
        .crowd
        .leader_changed(stage.now, next.clone(), &mut out);
    assert_eq!(out, []);
    let out = stage.pass(SECOND);
    let mut asked: Vec<usize> = out.iter().map(|one| one.follower).collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, [0, 1, 2]);
    assert!(out.iter().all(|one| one.to == next));
}

#[test]
fn a_follower_that_is_shut_down_stays_silent() {
    let mut stage = Stage::registered();
    assert_eq!(stage.tell(0, i::ShutdownMessage::default()), []);
    assert_eq!(stage.crowd.phase(0), Some(Phase::Stopped));
    assert_eq!(stage.tell(0, i::PingSlaveMessage { connected: true }), []);
    assert_eq!(stage.tell(0, registered()), []);
    assert_eq!(stage.pass(600 * SECOND), []);
    let report = stage.crowd.report();
    assert_eq!((report.registered, report.shut_down), (0, 1));
}

#[test]
fn with_a_credential_it_authenticates_first() {
    let mut with = setup();
    with.credential = Some(credential());
    let mut stage = Stage::new(6, 3, with);
    let out = stage.start();
    assert_eq!(names(&said(&out)), ["AuthenticateMessage"; 6]);
    // The fifth: the second of its address.
    assert_eq!(
        out[4].from.to_string(),
        "crammd5-authenticatee(2)@127.64.0.2:9"
    );
    let session: Pid = "crammd5-authenticator(1)@127.0.0.1:5050".parse().unwrap();
    let process = out[4].from.name.clone();
    let offer = i::AuthenticationMechanismsMessage {
        mechanisms: vec!["CRAM-MD5".to_owned()],
    };
    let out = stage.hear_as(4, &process, session.clone(), offer.into());
    assert_eq!(names(&said(&out)), ["AuthenticationStartMessage"]);
    let challenge = i::AuthenticationStepMessage {
        data: "<1.2@3>".into(),
    };
    let out = stage.hear_as(4, &process, session.clone(), challenge.into());
    assert_eq!(names(&said(&out)), ["AuthenticationStepMessage"]);
    let out = stage.hear_as(
        4,
        &process,
        session,
        i::AuthenticationCompletedMessage {}.into(),
    );
    assert_eq!(names(&said(&out)), ["RegisterSlaveMessage"]);
    assert_eq!(stage.crowd.report().authentications, 1);
}

#[test]
fn who_is_refused_stops_and_who_is_not_answered_tries_again() {
    let mut with = setup();
    with.credential = Some(credential());
    let mut stage = Stage::new(1, 1, with);
    stage.start();
    let again = stage.pass(7 * SECOND);
    assert_eq!(again[0].from.name, "crammd5-authenticatee(2)");
    let session: Pid = "crammd5-authenticator(1)@127.0.0.1:5050".parse().unwrap();
    let refusal = i::AuthenticationFailedMessage {};
    let out = stage.hear_as(0, "crammd5-authenticatee(2)", session, refusal.into());
    assert_eq!(out, []);
    assert_eq!(stage.pass(600 * SECOND), []);
    assert_eq!(stage.crowd.report().refused, 1);
}

#[test]
fn messages_for_nobody_are_counted() {
    let mut stage = Stage::registered();
    let leader = stage.leader.clone();
    for process in [
        "slave(2)",
        "slave",
        "crammd5-authenticatee(0)",
        "crammd5-authenticatee(x)",
        "",
    ] {
        let ping = i::PingSlaveMessage { connected: true };
        assert_eq!(stage.hear_as(0, process, leader.clone(), ping.into()), []);
    }
    assert_eq!(stage.crowd.report().messages_unknown, 5);
}
