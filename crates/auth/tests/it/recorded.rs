//! The exchanges that a real cluster had (`shared/wire`, scenario `auth`), byte for byte: a wrong
//! follower, a right one, a right framework, a wrong one. HTTP's refusals likewise.

use crate::support::{Leader, NOW, challenge, pid};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::sync::Arc;
use tepui_auth::{
    Credential, Credentials, Secret,
    authenticatee::{Authenticatee, Outcome},
    authenticator::Action,
    crammd5,
    http::{Realm, Scheme},
};
use tepui_model::effects::Principal;
use tepui_protocol::peer::{PeerMessage, Pid};

struct Recorded {
    from: Pid,
    to: String,
    body: Vec<u8>,
    message: PeerMessage,
}

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().expect(field)
}

/// Exchanges of six messages each.
fn exchanges() -> Vec<Vec<Recorded>> {
    let recorded: Vec<Recorded> = lines(include_str!("../data/exchanges.jsonl"))
        .map(|line| {
            let body = STANDARD.decode(text(&line, "body_b64")).expect("base64");
            Recorded {
                from: pid(text(&line, "from")),
                to: text(&line, "to").trim_start_matches('/').to_owned(),
                message: PeerMessage::decode(text(&line, "message"), body.clone().into())
                    .expect("a message"),
                body,
            }
        })
        .collect();
    let mut exchanges = Vec::new();
    let mut rest = recorded.into_iter().peekable();
    while rest.peek().is_some() {
        exchanges.push(rest.by_ref().take(6).collect());
    }
    exchanges
}

/// Principal and secret of each recorded exchange, and whether it succeeded.
const WHO: [(&str, &str, bool); 4] = [
    ("follower", "wrong", false),
    ("follower", "f-secret", true),
    ("marathon", "m-secret", true),
    ("marathon", "wrong", false),
];

#[test]
fn an_attempt_says_what_the_recorded_one_said() {
    for (exchange, (principal, secret, right)) in exchanges().iter().zip(WHO) {
        let [authenticate, mechanisms, start, step, response, end] = &exchange[..] else {
            panic!("six messages");
        };
        let PeerMessage::Authenticate(request) = &authenticate.message else {
            panic!("an exchange begins with a request");
        };
        let credential = Credential::new(principal, Secret::from(secret));
        let mut attempt = Authenticatee::new(credential, pid(&request.pid));
        let leader = Pid {
            name: "master".to_owned(),
            address: mechanisms.from.address,
        };
        assert_sends(&attempt.start(&leader), authenticate);
        assert_eq!(Authenticatee::process(1), authenticate.from.name);
        let said = attempt.message(&mechanisms.from, mechanisms.message.clone());
        assert_sends(&said, start);
        let said = attempt.message(&step.from, step.message.clone());
        assert_sends(&said, response);
        let ended = attempt.message(&end.from, end.message.clone());
        assert_eq!(ended == Outcome::Succeeded, right, "{ended:?}");
        assert_eq!(matches!(ended, Outcome::Failed(_)), !right);
        assert!(attempt.is_done());
    }
}

fn assert_sends(outcome: &Outcome, recorded: &Recorded) {
    let Outcome::Send { to, message } = outcome else {
        panic!("nothing sent: {outcome:?}");
    };
    assert_eq!(to.name, recorded.to);
    assert_eq!(message.name(), recorded.message.name());
    assert_eq!(message.encode(), recorded.body);
}

#[test]
fn a_leader_says_what_the_recorded_one_said() {
    let mut leader = Leader::new();
    for (number, (exchange, (principal, secret, right))) in (1..).zip(exchanges().iter().zip(WHO)) {
        let [authenticate, mechanisms, start, step, _, end] = &exchange[..] else {
            panic!("six messages");
        };
        let PeerMessage::Authenticate(request) = &authenticate.message else {
            panic!("an exchange begins with a request");
        };
        let peer = authenticate.from.to_string();
        let said = leader.authenticate(NOW, &peer, &request.pid);
        assert_answer(&said[0], number, mechanisms);
        let said = leader.say(number, &peer, start.message.clone());
        // The challenge is the one message that is never the same; its shape is.
        let ours = challenge(&said);
        let PeerMessage::AuthenticationStep(theirs) = &step.message else {
            panic!("a challenge");
        };
        assert_eq!(shape(&ours), shape(&theirs.data));
        let response = crammd5::response(principal, &Secret::from(secret), &ours);
        let said = leader.say(number, &peer, crate::support::step(response));
        assert_answer(&said[0], number, end);
        let result = match &said[1] {
            Action::Authenticated { pid, principal } => {
                assert_eq!(pid.to_string(), request.pid);
                Some(principal.as_ref())
            }
            Action::Refused { .. } => None,
            other @ Action::Send { .. } => panic!("no result: {other:?}"),
        };
        assert_eq!(result, right.then_some(principal));
        assert_eq!(said.len(), 2);
    }
    assert_eq!(leader.0.sessions(), 0);
}

fn assert_answer(action: &Action, number: u64, recorded: &Recorded) {
    let Action::Send {
        session,
        to,
        message,
    } = action
    else {
        panic!("nothing sent: {action:?}");
    };
    assert_eq!(*session, Some(number));
    assert_eq!(
        format!("crammd5-authenticator-session({number})"),
        recorded.from.name
    );
    assert_eq!(to.name, recorded.to);
    assert_eq!(message.name(), recorded.message.name());
    assert_eq!(message.encode(), recorded.body);
}

/// A challenge with all digits alike.
fn shape(challenge: &[u8]) -> String {
    let text = String::from_utf8(challenge.to_vec()).expect("text");
    let mut shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    while shape.contains("00") {
        shape = shape.replace("00", "0");
    }
    shape
}

#[test]
fn recorded_responses_are_judged_as_they_were() {
    let credentials = Credentials::parse(crate::support::CREDENTIALS).expect("credentials");
    for (exchange, (principal, _, right)) in exchanges().iter().zip(WHO) {
        let (PeerMessage::AuthenticationStep(challenge), PeerMessage::AuthenticationStep(response)) =
            (&exchange[3].message, &exchange[4].message)
        else {
            panic!("a challenge and a response");
        };
        let judged = crammd5::verify(&credentials, &challenge.data, &response.data);
        let expected: Result<Principal, _> = if right {
            Ok(principal.into())
        } else {
            Err(crammd5::Refusal::Credentials)
        };
        assert_eq!(judged, expected);
    }
}

#[test]
fn http_is_refused_as_it_was() {
    let credentials = Credentials::parse(crate::support::CREDENTIALS).expect("credentials");
    let credentials = Arc::new(credentials);
    let mut checked = 0;
    for line in lines(include_str!("../data/http.jsonl")) {
        let name = text(&line, "name");
        let realm = match name.split(' ').next() {
            Some("/state") => "mesos-master-readonly",
            Some("operator") => "mesos-master-readwrite",
            Some("scheduler") => "mesos-master-scheduler",
            // Always open.
            _ => continue,
        };
        let realm = Realm::new(realm, vec![Scheme::Basic(credentials.clone())]);
        let answer = realm.check(line["authorization"].as_str(), NOW);
        match line["status"].as_u64() {
            Some(401) => {
                let challenge = answer.expect_err(name);
                assert_eq!(challenge.status, 401, "{name}");
                assert_eq!(
                    challenge.www_authenticate,
                    text(&line, "www_authenticate"),
                    "{name}"
                );
                assert_eq!(challenge.body, text(&line, "body"), "{name}");
            }
            _ => {
                let principal = answer.expect(name);
                assert_eq!(principal.value.as_deref(), Some("ops"), "{name}");
            }
        }
        checked += 1;
    }
    assert_eq!(checked, 18);
}
