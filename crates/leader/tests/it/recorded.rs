//! A recording of a real cluster, replayed: the same goes in, the same has to come out.
//!
//! Compared as messages, not as bytes: fields may stand in another order, and the order of the
//! resources of an offer means nothing.

use base64::Engine as _;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use tepui_leader::{Config, Effect, Effects, Input, Leader, LeaderFacts, ProcessName};
use tepui_model::{RequestId, Rng, Time};
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
    v1::{self, scheduler},
    wire,
};

const ONE_TASK: &str = include_str!("fixtures/one_task.txt");

/// One line of a recording.
struct Line {
    to_leader: bool,
    what: &'static str,
    bytes: Bytes,
}

fn lines(text: &'static str) -> Vec<Line> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let to_leader = words.next() == Some(">leader");
            let what = words.next().expect("every line says what it is");
            let base64 = words.next().unwrap_or_default();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(base64)
                .expect("valid base64");
            Line {
                to_leader,
                what,
                bytes: bytes.into(),
            }
        })
        .collect()
}

/// Who the recorded leader was, from what it told the framework.
fn recorded_leader(lines: &[Line]) -> v1::MasterInfo {
    let subscribed = lines
        .iter()
        .filter(|line| line.what == "event")
        .find_map(|line| {
            wire::decode::<scheduler::Event>(line.bytes.clone())
                .ok()?
                .subscribed
        });
    subscribed
        .and_then(|subscribed| subscribed.master_info)
        .expect("a SUBSCRIBED event")
}

/// What goes out, without what only concerns the shell.
#[derive(Debug, PartialEq)]
enum Said {
    Event(Box<scheduler::Event>),
    Message(PeerMessage),
}

fn said(effect: Effect) -> Option<Said> {
    match effect {
        Effect::Event { event, .. } => Some(Said::Event(Box::new(sorted(
            scheduler::Event::clone(&event),
        )))),
        Effect::Send { message, from, .. } => {
            let observed = matches!(from, ProcessName::Observer(1));
            assert_eq!(
                observed,
                matches!(message, PeerMessage::PingSlave(_)),
                "pings come from the observer"
            );
            Some(Said::Message(message))
        }
        _ => None,
    }
}

fn sorted(mut event: scheduler::Event) -> scheduler::Event {
    for offer in event
        .offers
        .iter_mut()
        .flat_map(|offers| &mut offers.offers)
    {
        offer.resources.sort_by(|a, b| a.name.cmp(&b.name));
    }
    event
}

fn is_offer(said: &Said) -> bool {
    matches!(said, Said::Event(event) if event.offers.is_some())
}

#[test]
fn one_task_of_a_real_client_on_a_real_follower() {
    let lines = lines(ONE_TASK);
    let info = recorded_leader(&lines);
    let mut now = Time::from_nanos(1);
    let facts = LeaderFacts {
        info,
        cluster: None,
        started: now,
        elected: now,
        flags: BTreeMap::new(),
    };
    let registry = internal::Registry::default();
    let mut leader = Leader::new(Config::default(), facts, &registry, Rng::seed(1), now);
    let follower: Pid = "slave(1)@127.0.0.1:15051".parse().expect("a valid address");
    let stream = tepui_model::StreamId(uuid::Uuid::from_u128(1));
    let mut out: VecDeque<Said> = VecDeque::new();

    for (number, line) in lines.into_iter().enumerate() {
        if !line.to_leader {
            let expected = match line.what {
                "event" => Said::Event(Box::new(sorted(
                    wire::decode(line.bytes).expect("a recorded event"),
                ))),
                name => Said::Message(
                    PeerMessage::decode(name, line.bytes).expect("a recorded message"),
                ),
            };
            assert_eq!(out.pop_front(), Some(expected), "line {number}");
            continue;
        }
        // The one difference: the recorded leader offered what a task had left a cycle later, and
        // by then its framework was gone.
        out.retain(|said| !is_offer(said));
        assert_eq!(out.pop_front(), None, "before line {number}");
        let input = match line.what {
            "close" => Input::StreamClosed { stream },
            "call" => {
                let call: Box<scheduler::Call> =
                    Box::new(wire::decode(line.bytes).expect("a recorded call"));
                let request = RequestId(number as u64);
                if call.subscribe.is_some() {
                    Input::Subscribe {
                        request,
                        stream,
                        call,
                        principal: None,
                    }
                } else {
                    Input::Call {
                        request,
                        stream_id: Some(stream.to_string()),
                        call,
                        principal: None,
                    }
                }
            }
            name => {
                let message = PeerMessage::decode(name, line.bytes).expect("a recorded message");
                Input::Peer {
                    to: tepui_leader::ProcessName::Leader,
                    from: follower.clone(),
                    message,
                }
            }
        };
        now = Time::from_nanos(now.nanos() + 1_000_000);
        let mut effects = Effects::default();
        leader.handle(now, input, &mut effects);
        while leader.next_deadline().is_some_and(|at| at <= now) {
            leader.handle(now, Input::Tick, &mut effects);
        }
        leader.check();
        out.extend(effects.0.into_iter().filter_map(said));
    }
    assert_eq!(out.pop_front(), None);
}
