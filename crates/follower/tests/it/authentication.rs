//! Authentication: with the leader over libprocess, and of executors with tokens.

use crate::harness::*;
use std::{sync::Arc, time::Duration};
use tepui_auth::{
    Credential, Credentials, Secret,
    authenticator::{Action, Authenticator, Options},
    http::HttpPrincipal,
    jwt,
};
use tepui_follower::{
    Config,
    config::FollowerAuthentication,
    io::{Effect, Input, ProcessName, Reply},
};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{TaskState, executor::call},
};

const SECOND: Duration = Duration::from_secs(1);

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn with_credential(password: &str) -> Config {
    let credential = Credential::new("follower", secret(password));
    Config {
        authentication: Some(FollowerAuthentication::new(credential)),
        ..config()
    }
}

fn authenticator() -> Authenticator {
    Authenticator::new(Options {
        credentials: Some(Arc::new(Credentials::parse("follower right").unwrap())),
        timeout: 5 * SECOND,
        hostname: "leader.test".into(),
        nonce_key: [7; 32],
        ..Options::default()
    })
}

fn session(number: u64) -> Pid {
    format!("crammd5-authenticator-session({number})@127.0.0.1:5050")
        .parse()
        .unwrap()
}

/// What the follower sent, with the names of the processes at both ends.
fn exchanged(w: &mut World) -> Vec<(String, String, PeerMessage)> {
    let sent = |effect| match effect {
        Effect::Send { to, from, message } => Some((from.to_string(), to.name, message)),
        _ => None,
    };
    w.take().into_iter().filter_map(sent).collect()
}

fn names(sent: &[(String, String, PeerMessage)]) -> Vec<String> {
    let short = |m: &PeerMessage| m.name().rsplit('.').next().unwrap().to_owned();
    sent.iter()
        .map(|(from, to, m)| format!("{from} > {to}: {}", short(m)))
        .collect()
}

fn answer(w: &mut World, number: u64, from: &Pid, message: impl Into<PeerMessage>) {
    w.step(Input::Peer {
        from: from.clone(),
        to: ProcessName::Authenticatee(number),
        message: message.into(),
    });
}

/// Plays the leader's side until nothing is left to say.
fn converse(w: &mut World, leader_side: &mut Authenticator) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let sent = exchanged(w);
        if sent.is_empty() {
            return seen;
        }
        seen.extend(names(&sent));
        let mut actions = Vec::new();
        for (from, to, message) in sent {
            let from = Pid {
                name: from,
                address: "127.0.0.1:5051".parse().unwrap(),
            };
            match message {
                PeerMessage::Authenticate(m) => {
                    leader_side.authenticate(w.now, &from, &m, &mut actions);
                }
                other if to.contains("session") => {
                    let number = to.split(['(', ')']).nth(1).unwrap().parse().unwrap();
                    leader_side.session_message(w.now, number, &from, other, &mut actions);
                }
                _ => {}
            }
        }
        for action in actions {
            if let Action::Send {
                session: number,
                to,
                message,
            } = action
            {
                let from = number.map_or_else(leader, session);
                let to = ProcessName::parse(&to.name).unwrap();
                w.step(Input::Peer { from, to, message });
            }
        }
    }
}

/// A leader is there, and the first attempt was begun.
fn begun(config: Config) -> World {
    let mut w = World::with(config);
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(SECOND);
    w
}

fn stopped(w: &World) -> bool {
    w.effects
        .iter()
        .any(|e| matches!(e, Effect::Stop { failed: true }))
}

#[test]
fn a_follower_with_a_credential_authenticates_and_then_registers() {
    let mut w = begun(with_credential("right"));
    assert_eq!(
        converse(&mut w, &mut authenticator()),
        [
            "crammd5-authenticatee(1) > master: AuthenticateMessage",
            "crammd5-authenticatee(1) > crammd5-authenticator-session(1): AuthenticationStartMessage",
            "crammd5-authenticatee(1) > crammd5-authenticator-session(1): AuthenticationStepMessage",
            "slave(1) > master: RegisterSlaveMessage",
        ]
    );
    w.register();
    assert_eq!(w.follower.view().phase, tepui_follower::Phase::Running);
}

#[test]
fn a_wrong_secret_ends_the_follower() {
    let mut w = begun(with_credential("wrong"));
    let mut leader_side = authenticator();
    // By hand, to see the last effect.
    let mut last = Vec::new();
    for _ in 0..4 {
        let sent = exchanged(&mut w);
        last = names(&sent);
        for (from, to, message) in sent {
            let from = Pid {
                name: from,
                address: "127.0.0.1:5051".parse().unwrap(),
            };
            let mut actions = Vec::new();
            match message {
                PeerMessage::Authenticate(m) => {
                    leader_side.authenticate(w.now, &from, &m, &mut actions);
                }
                other => {
                    assert!(to.contains("session(1)"));
                    leader_side.session_message(w.now, 1, &from, other, &mut actions);
                }
            }
            for action in actions {
                if let Action::Send { message, .. } = action {
                    answer(&mut w, 1, &session(1), message);
                }
            }
        }
        if stopped(&w) {
            break;
        }
    }
    assert!(stopped(&w));
    assert!(last[0].ends_with("AuthenticationStepMessage"), "{last:?}");
    let said = w.effects.iter().any(|e| match e {
        Effect::Log(notice) => notice.text.contains("refused authentication"),
        _ => false,
    });
    assert!(said);
}

#[test]
fn without_a_credential_no_leader_is_convinced() {
    let mut w = begun(config());
    assert_eq!(
        names(&exchanged(&mut w)),
        ["slave(1) > master: RegisterSlaveMessage"]
    );
}

#[test]
fn a_leader_that_does_not_answer_is_asked_again_with_more_patience() {
    let mut w = begun(with_credential("right"));
    w.take();
    let mut waits = Vec::new();
    for number in 2..12 {
        let before = w.now;
        let deadline = w.follower.next_deadline().expect("it gave up");
        w.now = deadline;
        w.step(Input::Tick);
        assert_eq!(
            names(&exchanged(&mut w)),
            [format!(
                "crammd5-authenticatee({number}) > master: AuthenticateMessage"
            )]
        );
        waits.push(deadline.since(before));
    }
    assert!(
        waits[1..]
            .iter()
            .all(|w| *w >= 5 * SECOND && *w <= 60 * SECOND),
        "{waits:?}"
    );
    assert!(waits.iter().any(|w| *w > 10 * SECOND), "{waits:?}");
}

#[test]
fn an_error_is_followed_by_another_attempt_but_not_at_once() {
    let mut w = begun(with_credential("right"));
    w.take();
    let error = i::AuthenticationErrorMessage {
        error: Some("no mechanism".into()),
    };
    answer(&mut w, 1, &leader(), error);
    assert_eq!(names(&exchanged(&mut w)), [""; 0]);
    w.pass(2 * SECOND);
    assert_eq!(
        converse(&mut w, &mut authenticator()).last().unwrap(),
        "slave(1) > master: RegisterSlaveMessage"
    );
}

#[test]
fn answers_to_an_older_attempt_and_of_strangers_change_nothing() {
    let mut w = begun(with_credential("right"));
    w.pass(20 * SECOND);
    w.take();
    answer(&mut w, 1, &leader(), i::AuthenticationFailedMessage {});
    let stranger: Pid = "x@10.0.0.1:1".parse().unwrap();
    for number in 1..5 {
        answer(&mut w, number, &stranger, i::AuthenticationFailedMessage {});
        answer(
            &mut w,
            number,
            &stranger,
            i::AuthenticationCompletedMessage {},
        );
    }
    w.leader_says(i::AuthenticationCompletedMessage {});
    assert_eq!(w.seen(), [""; 0]);
}

#[test]
fn a_new_leader_is_authenticated_with_anew() {
    let mut w = begun(with_credential("right"));
    converse(&mut w, &mut authenticator());
    w.register();
    w.take();
    w.step(Input::LeaderDetected(None));
    w.pass(100 * SECOND);
    assert_eq!(w.seen(), [""; 0]);
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(SECOND);
    let said = converse(&mut w, &mut authenticator());
    assert_eq!(
        said[0],
        "crammd5-authenticatee(2) > master: AuthenticateMessage"
    );
    assert_eq!(
        said.last().unwrap(),
        "slave(1) > master: ReregisterSlaveMessage"
    );
}

#[test]
fn a_link_that_breaks_before_the_registration_means_to_authenticate_again() {
    let mut w = begun(with_credential("right"));
    converse(&mut w, &mut authenticator());
    w.step(Input::LinkBroken { pid: leader() });
    w.take();
    w.pass(SECOND);
    assert_eq!(
        names(&exchanged(&mut w)),
        ["crammd5-authenticatee(2) > master: AuthenticateMessage"]
    );
}

#[test]
fn a_leader_that_registers_us_during_an_attempt_ends_it() {
    let mut w = begun(with_credential("right"));
    w.register();
    w.take();
    w.pass(70 * SECOND);
    assert_eq!(names(&exchanged(&mut w)), [""; 0]);
}

fn claims(token: &str, w: &World) -> HttpPrincipal {
    HttpPrincipal {
        value: None,
        claims: jwt::verify(token, &secret("key"), w.now).unwrap(),
    }
}

/// A custom executor with task `t` under way, and the token it was given.
fn launched() -> (World, String) {
    let mut w = World::registered_with(Config {
        executor_secret_key: Some(Arc::new(secret("key"))),
        ..config()
    });
    let mut task = task("t");
    task.executor = Some(custom_executor("e"));
    w.run(task);
    let environment = w.launched().environment;
    let name = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN";
    let token = environment.into_iter().find(|(n, _)| n == name).unwrap().1;
    (w, token)
}

#[test]
fn an_executor_is_admitted_with_the_token_it_was_given() {
    let (mut w, token) = launched();
    let principal = claims(&token, &w);
    assert_eq!(principal.claims["eid"], "e");
    assert_eq!(principal.claims["fid"], FRAMEWORK);
    let (_, refusal) = w.http_subscribe_as(Some(principal.clone()), subscribe("e"));
    assert_eq!(refusal, None);
    let call = update("e", "t", TaskState::TaskRunning, 1);
    assert_eq!(w.http_as(Some(principal), call), Reply::Accepted);
}

#[test]
fn a_token_for_something_else_is_refused() {
    let (mut w, token) = launched();
    let right = claims(&token, &w);
    let with = |name: &str, value: &str| {
        let mut principal = right.clone();
        principal.claims.insert(name.into(), value.into());
        principal
    };
    for (principal, text) in [
        (
            with("fid", "other"),
            format!("an 'fid' claim with the framework ID {FRAMEWORK}, which is set in the call"),
        ),
        (
            with("eid", "other"),
            "an 'eid' claim with the executor ID e, which is set in the call".to_owned(),
        ),
        (
            with("cid", "earlier"),
            "a 'cid' claim with the correct active ContainerID".to_owned(),
        ),
    ] {
        let (_, refusal) = w.http_subscribe_as(Some(principal), subscribe("e"));
        let Some(Reply::Error { status, message }) = refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!(status, 403);
        assert!(
            message.starts_with("Authenticated principal '{\"claims\":{"),
            "{message}"
        );
        assert!(message.ends_with(&text), "{message}");
    }
    // One with a name and no claims speaks for no executor.
    let named = HttpPrincipal {
        value: Some("ops".into()),
        claims: Default::default(),
    };
    let call = executor_call("e", call::Type::Message);
    let call = tepui_protocol::v1::executor::Call {
        message: Some(Default::default()),
        ..call
    };
    let refused = w.http_as(Some(named), call);
    let Reply::Error {
        status: 403,
        message,
    } = refused
    else {
        panic!("{refused:?}");
    };
    assert!(
        message.starts_with("Authenticated principal 'ops' does not contain"),
        "{message}"
    );
}
