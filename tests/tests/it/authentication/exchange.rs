//! Exchanges that go wrong, on purpose or not: every one ends as it should, and nobody is let in by them.

use serde_json::json;
use tepui_tests::cluster::Cluster;
use tepui_tests::libprocess::Peer;
use tepui_tests::wait::eventually;

use super::client::{Exchange, Outcome, ask, authenticate, digest, end, field, response};
use super::{Files, STRICT, frameworks, leader_with};
use crate::drivers::libmesos::{Driver, SOON, description};

fn error(text: &str) -> Outcome {
    Outcome::Error(text.to_owned())
}

/// The driver's process is still nobody to the leader.
fn assert_refused(driver: &Driver) {
    driver.call(
        json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": description("refused")}}),
    );
    let refused = driver.expect("FrameworkErrorMessage");
    let text = format!("Framework at {} is not authenticated", driver.pid());
    assert_eq!(refused["message"], text);
    driver.settle();
    assert_eq!(driver.untaken(), Vec::<String>::new());
}

fn assert_admitted(driver: &mut Driver) {
    let registered = driver.subscribe(&description("admitted"));
    assert!(registered["framework_id"]["value"].is_string());
}

#[test]
fn an_answer_that_proves_nothing_ends_the_exchange_and_admits_nobody() {
    let files = Files::new();
    let cluster = leader_with(&files, &STRICT);
    let peer = Peer::new();
    let right = |challenge: &[u8]| digest("m-secret", challenge);
    type Answer<'a> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'a>;
    let malformed = |what: &str| error(&format!("SASL(-5): bad protocol / cancel: {what}"));
    let unnamed = || malformed("need authentication name");
    let answers: Vec<(&str, Answer, Outcome)> = vec![
        ("nothing", Box::new(|_| vec![]), unnamed()),
        ("a word", Box::new(|_| b"marathon".to_vec()), unnamed()),
        (
            "no principal",
            Box::new(|c| format!(" {}", right(c)).into_bytes()),
            unnamed(),
        ),
        (
            "no digest",
            Box::new(|_| b"marathon ".to_vec()),
            Outcome::Failed,
        ),
        (
            "half a digest",
            Box::new(|c| format!("marathon {}", &right(c)[..16]).into_bytes()),
            Outcome::Failed,
        ),
        (
            "more than a digest",
            Box::new(|c| format!("marathon {}0", right(c)).into_bytes()),
            Outcome::Failed,
        ),
        (
            "the digest of another secret",
            Box::new(|c| response("marathon", "f-secret", c)),
            Outcome::Failed,
        ),
        (
            "another's name",
            Box::new(|c| response("ops", "m-secret", c)),
            Outcome::Failed,
        ),
        (
            "nobody's name",
            Box::new(|c| response("nobody", "m-secret", c)),
            Outcome::Failed,
        ),
        (
            "nobody's name and no secret",
            Box::new(|c| response("nobody", "", c)),
            Outcome::Failed,
        ),
        (
            "the secret itself",
            Box::new(|_| b"marathon m-secret".to_vec()),
            Outcome::Failed,
        ),
        (
            "the answer to another challenge",
            Box::new(|_| response("marathon", "m-secret", b"<1.2@vm>")),
            Outcome::Failed,
        ),
        (
            "a name with a zero in it",
            Box::new(|c| [b"marathon\0 ", right(c).as_bytes()].concat()),
            Outcome::Failed,
        ),
        (
            "a name that is no text",
            Box::new(|c| [b"\xff\xfe ", right(c).as_bytes()].concat()),
            Outcome::Failed,
        ),
        (
            "far too much",
            Box::new(|_| vec![b'x'; 100_000]),
            malformed("CRAM-MD5 input longer than 1024 bytes"),
        ),
    ];
    for (what, answer, expected) in answers {
        let driver = Driver::new(&peer, cluster.leader);
        let exchange = Exchange::begin(&peer, cluster.leader, &driver.pid());
        let challenge = exchange.challenge();
        exchange.step(&answer(&challenge));
        assert_eq!(exchange.end(), expected, "{what}");
        // The exchange is over: what comes now is not even looked at.
        exchange.step(&response("marathon", "m-secret", &challenge));
        assert_refused(&driver);
        assert!(peer.untaken().is_empty(), "{what}: {}", peer.summary());
    }
    let mut driver = Driver::new(&peer, cluster.leader);
    let outcome = authenticate(&peer, cluster.leader, &driver.pid(), "marathon", "m-secret");
    assert_eq!(outcome, Outcome::Completed);
    assert_admitted(&mut driver);
}

#[test]
fn steps_that_are_out_of_order_or_unknown_end_the_exchange() {
    let files = Files::new();
    let cluster = leader_with(&files, &STRICT);
    let peer = Peer::new();
    type Steps<'a> = Box<dyn Fn(&Exchange) + 'a>;
    let early = "SASL(-5): bad protocol / cancel: Remote sent first but mech does not allow it.";
    let mechanism = |name: &str| {
        let text = "SASL(-4): no mechanism available: Couldn't find mech";
        error(&format!("{text} {name}"))
    };
    let cases: Vec<(&str, Steps, Outcome)> = vec![
        (
            "a mechanism that is not offered",
            Box::new(|e| e.start("PLAIN", b"")),
            mechanism("PLAIN"),
        ),
        (
            "another one, with its answer",
            Box::new(|e| e.start("PLAIN", b"\0marathon\0m-secret")),
            mechanism("PLAIN"),
        ),
        (
            "no mechanism",
            Box::new(|e| e.start("", b"")),
            mechanism(""),
        ),
        (
            "an answer before the challenge",
            Box::new(|e| e.start("CRAM-MD5", b"marathon x")),
            error(early),
        ),
        (
            "a step before the start",
            Box::new(|e| e.step(b"marathon x")),
            error("Unexpected authentication 'step' received"),
        ),
        (
            "a second start",
            Box::new(|e| {
                e.challenge();
                e.start("CRAM-MD5", b"");
            }),
            error("Unexpected authentication 'start' received"),
        ),
    ];
    for (what, steps, expected) in cases {
        let driver = Driver::new(&peer, cluster.leader);
        let exchange = Exchange::begin(&peer, cluster.leader, &driver.pid());
        steps(&exchange);
        assert_eq!(exchange.end(), expected, "{what}");
        assert_refused(&driver);
        assert!(peer.untaken().is_empty(), "{what}: {}", peer.summary());
    }
}

#[test]
fn what_is_no_step_of_the_exchange_does_not_disturb_it() {
    let files = Files::new();
    let cluster = leader_with(&files, &STRICT);
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    let exchange = Exchange::begin(&peer, cluster.leader, &driver.pid());
    let garbage: [&[u8]; 5] = [
        b"",
        b"\xff",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x08\x01",
        b"\x0a\x05x",
    ];
    for body in garbage {
        exchange.say("AuthenticationStartMessage", body);
        exchange.say("AuthenticationStepMessage", body);
        exchange.say("AuthenticationCompletedMessage", body);
        exchange.say("PingSlaveMessage", body);
        exchange.say("NoSuchMessage", body);
    }
    // Somebody else in the session: neither its start nor its right answer counts.
    let start = [field(1, b"CRAM-MD5"), field(2, b"")].concat();
    exchange.say_as("intruder", "AuthenticationStartMessage", &start);
    let challenge = exchange.challenge();
    let answer = response("marathon", "m-secret", &challenge);
    exchange.say_as("intruder", "AuthenticationStepMessage", &field(1, &answer));
    driver.settle();
    assert!(peer.untaken().is_empty(), "{}", peer.summary());
    exchange.step(&answer);
    assert_eq!(exchange.end(), Outcome::Completed);
    assert_admitted(&mut driver);
}

#[test]
fn challenges_differ_and_an_answer_is_good_for_its_own_only() {
    let files = Files::new();
    let cluster = leader_with(&files, &STRICT);
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    let first = Exchange::begin(&peer, cluster.leader, &driver.pid());
    let challenge = first.challenge();
    let answer = response("marathon", "m-secret", &challenge);
    // A newer attempt for the same process takes the place of the one under way, and says nothing about it.
    let second = Exchange::begin(&peer, cluster.leader, &driver.pid());
    first.step(&answer);
    assert_ne!(second.challenge(), challenge);
    driver.settle();
    assert!(peer.untaken().is_empty(), "{}", peer.summary());
    second.step(&answer);
    assert_eq!(second.end(), Outcome::Failed);
    assert_refused(&driver);
    let outcome = authenticate(&peer, cluster.leader, &driver.pid(), "marathon", "m-secret");
    assert_eq!(outcome, Outcome::Completed);
    assert_admitted(&mut driver);
}

#[test]
fn nobody_speaks_for_a_process_at_another_address() {
    let files = Files::new();
    let cluster = leader_with(&files, &STRICT);
    let (peer, stranger) = (Peer::new(), Peer::new());
    let mut driver = Driver::new(&peer, cluster.leader);
    let outcome = authenticate(&peer, cluster.leader, &driver.pid(), "marathon", "m-secret");
    assert_eq!(outcome, Outcome::Completed);
    // With a right secret even: it would make the driver a stranger, or somebody else.
    for pid in [
        driver.pid(),
        "".to_owned(),
        "scheduler".to_owned(),
        "a@b".to_owned(),
    ] {
        let name = ask(&stranger, cluster.leader, &pid);
        let refused = error("Invalid pid in the authentication request");
        assert_eq!(end(&stranger, &name), refused, "{pid}");
    }
    assert_admitted(&mut driver);
    // Nor is what one has proved good for another process at the same address.
    assert_refused(&Driver::new(&peer, cluster.leader));
}

#[test]
fn an_exchange_takes_so_long_only_and_then_its_registration_is_refused() {
    let files = Files::new();
    let flags = [&STRICT[..], &[("authentication_v0_timeout", "300ms")]].concat();
    let cluster = leader_with(&files, &flags);
    let peer = Peer::new();
    for steps in 0..2 {
        let driver = Driver::new(&peer, cluster.leader);
        let exchange = Exchange::begin(&peer, cluster.leader, &driver.pid());
        if steps == 1 {
            exchange.challenge();
        }
        // The registration waits for the exchange, so the refusal shows that it is over.
        assert_refused(&driver);
        exchange.step(b"marathon x");
        driver.settle();
        assert!(peer.untaken().is_empty(), "{}", peer.summary());
    }
}

#[test]
fn a_registration_waits_for_the_exchange_under_way() {
    let files = Files::new();
    let cluster = leader_with(&files, &STRICT);
    let peer = Peer::new();
    let driver = Driver::new(&peer, cluster.leader);
    let exchange = Exchange::begin(&peer, cluster.leader, &driver.pid());
    let challenge = exchange.challenge();
    let subscribe =
        json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": description("waits")}});
    driver.call(subscribe);
    driver.settle();
    assert_eq!(driver.untaken(), Vec::<String>::new());
    exchange.step(&response("marathon", "m-secret", &challenge));
    assert_eq!(exchange.end(), Outcome::Completed);
    driver.expect("FrameworkRegisteredMessage");
}

#[test]
fn who_it_is_has_to_be_proved_anew_after_the_connection_broke_or_an_attempt_failed() {
    let files = Files::new();
    let cluster = leader_with(&files, &STRICT);
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    let prove = |driver: &Driver, secret: &str| {
        authenticate(&peer, cluster.leader, &driver.pid(), "marathon", secret)
    };
    assert_eq!(prove(&driver, "m-secret"), Outcome::Completed);
    assert_admitted(&mut driver);
    assert_eq!(frameworks(&cluster)[0]["principal"], "marathon");

    peer.break_links();
    let gone = || frameworks(&cluster)[0]["connected"] == false;
    assert!(eventually(SOON, gone));
    let mut info = description("admitted");
    info["id"] = driver.id.clone();
    let subscribe = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
    let refused = format!("Framework at {} is not authenticated", driver.pid());
    let told = driver.expect("FrameworkErrorMessage");
    assert_eq!(told["message"], "Framework disconnected");
    driver.call(subscribe.clone());
    assert_eq!(driver.expect("FrameworkErrorMessage")["message"], refused);
    assert_eq!(prove(&driver, "m-secret"), Outcome::Completed);
    driver.call(subscribe.clone());
    driver.expect("FrameworkReregisteredMessage");

    // A failed attempt takes away what an earlier one had proved.
    assert_eq!(prove(&driver, "wrong"), Outcome::Failed);
    driver.call(subscribe);
    assert_eq!(driver.expect("FrameworkErrorMessage")["message"], refused);
}

#[test]
fn without_credentials_every_attempt_fails_and_nobody_needs_one() {
    let cluster = Cluster::builder()
        .only(tepui_tests::cluster::Part::Leader)
        .start();
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    for (principal, secret) in [("marathon", "m-secret"), ("", ""), ("marathon", "")] {
        let outcome = authenticate(&peer, cluster.leader, &driver.pid(), principal, secret);
        assert_ne!(outcome, Outcome::Completed, "{principal}");
    }
    assert_admitted(&mut driver);
}
