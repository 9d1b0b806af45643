//! `explain` and `simulate` through the leader's contract: what is said, and that what is suggested makes the offer come.

use crate::{harness::*, tables::*};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tepui_leader::{
    Config, Effect, Effects, Input, Reply,
    ask::{Ask, Explain},
    read,
};
use tepui_model::Resources;
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, framework_info::capability, scheduler},
};

/// A cluster with frameworks by id, and the offers each holds.
struct Scene {
    cluster: Cluster,
    frameworks: BTreeMap<String, Scheduler>,
    infos: BTreeMap<String, v1::FrameworkInfo>,
    agents: BTreeMap<String, Agent>,
    offers: Vec<v1::Offer>,
}

impl Scene {
    fn new() -> Self {
        Self::with(Config::default())
    }
    fn with(config: Config) -> Self {
        Self {
            cluster: Cluster::with(config, &internal::Registry::default()),
            frameworks: BTreeMap::new(),
            infos: BTreeMap::new(),
            agents: BTreeMap::new(),
            offers: Vec::new(),
        }
    }
    fn agent(&mut self, number: u16, resources: &str) -> String {
        let agent = self.cluster.register(number, resources);
        let id = agent.id.value.clone();
        self.agents.insert(id.clone(), agent);
        self.note();
        id
    }
    /// Subscribes; the id.
    fn framework(&mut self, role: &str) -> String {
        self.framework_of(in_role(role))
    }
    fn framework_of(&mut self, mut info: v1::FrameworkInfo) -> String {
        info.failover_timeout = Some(600.0);
        let scheduler = self.cluster.subscribe(info.clone());
        let id = scheduler.id.value.clone();
        info.id = Some(scheduler.id.clone());
        self.infos.insert(id.clone(), info);
        self.frameworks.insert(id.clone(), scheduler);
        self.note();
        id
    }
    /// Notes offers that came and went; everything else is dropped.
    fn note(&mut self) -> Vec<v1::Offer> {
        let mut new = Vec::new();
        for effect in self.cluster.pending.drain(..) {
            if let Effect::Event { event, .. } = effect {
                let made = event.offers.iter().flat_map(|offers| &offers.offers);
                new.extend(made.cloned());
                if let Some(rescind) = &event.rescind {
                    self.offers.retain(|offer| offer.id != rescind.offer_id);
                }
            }
        }
        self.offers.extend(new.clone());
        new
    }
    /// Lets time pass; followers answer pings. What was alarming meanwhile, and when.
    fn pass(&mut self, duration: Duration) -> Vec<(u64, String)> {
        let mut alarms = Vec::new();
        let start = self.cluster.now;
        let end = start + duration;
        while let Some(at) = self.cluster.leader.next_deadline().filter(|at| *at <= end) {
            self.cluster.now = at.max(self.cluster.now);
            let mut effects = Effects::default();
            let now = self.cluster.now;
            self.cluster.leader.handle(now, Input::Tick, &mut effects);
            for effect in effects.0 {
                match effect {
                    Effect::Log(notice) if notice.text.starts_with("ALARM") => {
                        alarms.push((now.since(start).as_secs(), notice.text));
                    }
                    Effect::Send {
                        message: PeerMessage::PingSlave(_),
                        from,
                        to,
                    } => self.cluster.handle(Input::Peer {
                        from: to,
                        to: from,
                        message: PeerMessage::PongSlave(Default::default()),
                    }),
                    other => self.cluster.pending.push(other),
                }
            }
        }
        self.cluster.now = end;
        self.note();
        alarms
    }
    fn call(&mut self, framework: &str, call: scheduler::Call) -> Vec<v1::Offer> {
        self.cluster.call(&self.frameworks[framework], call);
        self.note()
    }
    /// Answers all offers of a framework, or those of one follower.
    fn decline(&mut self, framework: &str, at: Option<&str>, seconds: f64) -> Vec<v1::Offer> {
        let meant = |offer: &v1::Offer| {
            offer.framework_id.value == framework && at.is_none_or(|at| at == offer.agent_id.value)
        };
        let (back, kept) = self.offers.drain(..).partition(meant);
        self.offers = kept;
        let back: Vec<v1::Offer> = back;
        let mut decline = call(scheduler::call::Type::Decline);
        decline.decline = Some(scheduler::call::Decline {
            offer_ids: back.into_iter().map(|offer| offer.id).collect(),
            filters: Some(v1::Filters {
                refuse_seconds: Some(seconds),
            }),
        });
        self.call(framework, decline)
    }
    /// Runs a task on each offer of a framework, and keeps none.
    fn run(&mut self, framework: &str, each: &str) {
        let (own, kept) = (self.offers.drain(..))
            .partition(|offer: &v1::Offer| offer.framework_id.value == framework);
        self.offers = kept;
        let own: Vec<v1::Offer> = own;
        for offer in own {
            let mut accept = launch(&offer, vec![task(&offer.id.value, &offer, each)]);
            if let Some(accept) = &mut accept.accept {
                accept.filters = Some(v1::Filters {
                    refuse_seconds: Some(1000.0),
                });
            }
            self.call(framework, accept);
        }
    }
    fn reply(&mut self, ask: Ask) -> Reply {
        let request = self.cluster.request();
        self.note();
        self.cluster.handle(ask.input(request));
        let Some(Effect::Reply { reply, .. }) = self.cluster.pending.pop() else {
            panic!("a question is answered at once");
        };
        let Reply::Examination(examination) = reply else {
            panic!("it takes an examination to answer it");
        };
        examination.run()
    }
    fn document(&mut self, ask: Ask) -> Value {
        match self.reply(ask) {
            Reply::Document(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("{other:?}"),
        }
    }
    /// The one answer about a framework.
    fn explain(&mut self, framework: &str, resources: &str) -> Value {
        let mut document = self.document(explain(&json!({
            "framework": framework, "resources": resources,
        })));
        assert_eq!(document["answers"].as_array().map(Vec::len), Some(1));
        document["answers"][0].take()
    }
    fn simulate(&mut self, body: &Value) -> Value {
        self.document(Ask::simulate(body.to_string().as_bytes()).expect("a simulation"))
    }
    /// What is in the way is of this kind; and the first suggestion, carried out on the cluster itself, brings the offer.
    fn blocked(&mut self, framework: &str, resources: &str, kind: &str) -> Value {
        let answer = self.explain(framework, resources);
        assert_eq!(answer["blocked"], true, "{answer:#}");
        let cause = cause(&answer, kind);
        assert!(!cause.is_null(), "{answer:#}");
        let first = &answer["suggestions"][0];
        assert_eq!(first["verified"], true, "{answer:#}");
        let mut came = Vec::new();
        for change in first["changes"].as_array().expect("changes") {
            came.extend(self.carry_out(change));
        }
        let wanted = tepui_model::resources::parse(resources, "*").expect("resources");
        let came = came.iter().any(|offer| {
            offer.framework_id.value == framework
                && Resources::from_proto(&offer.resources).contains_quantities(&wanted.quantities())
        });
        assert!(came, "{first:#} brings the offer");
        answer
    }
    /// What somebody would do who follows a suggestion; the offers that come of it.
    fn carry_out(&mut self, change: &Value) -> Vec<v1::Offer> {
        let (name, of) = change
            .as_object()
            .and_then(|map| map.iter().next())
            .expect("one");
        let text = |field: &str| of[field].as_str().unwrap_or_default().to_owned();
        let amounts = |field: &str| {
            let map = of[field].as_object().into_iter().flatten();
            let map = map.map(|(name, amount)| (name.clone(), json!({"value": amount})));
            map.collect::<serde_json::Map<_, _>>()
        };
        let operator = match name.as_str() {
            "revive" => return self.call(&text("framework"), call(scheduler::call::Type::Revive)),
            "return_offers" => {
                let at = of["follower"].as_str().map(str::to_owned);
                return self.decline(&text("framework"), at.as_deref(), 1000.0);
            }
            "add_followers" => {
                let number = u16::try_from(self.agents.len() + 1).expect("few");
                let agent = register_message(number, &text("resources"));
                self.cluster.peer(&pid(number), agent);
                return self.note();
            }
            "release" => return self.end_tasks(&text("framework"), &text("follower")),
            "add_capability" => {
                let capability = capability::Type::from_str_name(&text("capability"));
                let mut info = self.infos[&text("framework")].clone();
                info.capabilities.push(v1::framework_info::Capability {
                    r#type: capability.map(|capability| capability as i32),
                });
                return self.update(info);
            }
            "drop_constraints" => return self.update(self.infos[&text("framework")].clone()),
            "set_quota" => {
                json!({"type": "UPDATE_QUOTA", "update_quota": {"force": true, "quota_configs": [
                {"role": of["role"], "guarantees": amounts("guarantee"), "limits": amounts("limit")}]}})
            }
            "unreserve" => json!({"type": "UNRESERVE_RESOURCES", "unreserve_resources":
                {"agent_id": {"value": of["follower"]}, "resources": of["resources"]}}),
            other => panic!("not expected here: {other}"),
        };
        let request = self.cluster.request();
        let call = call_of(&operator.to_string());
        self.cluster.handle(Input::Operator {
            request,
            call: Box::new(call),
            via: tepui_leader::Via::V1,
            principal: None,
        });
        self.note()
    }
    fn update(&mut self, info: v1::FrameworkInfo) -> Vec<v1::Offer> {
        let id = info.id.clone().expect("an id").value;
        let mut update = call(scheduler::call::Type::UpdateFramework);
        update.update_framework = Some(scheduler::call::UpdateFramework {
            framework_info: info,
            ..Default::default()
        });
        self.call(&id, update)
    }
    fn end_tasks(&mut self, framework: &str, at: &str) -> Vec<v1::Offer> {
        let view = self.cluster.view();
        let tasks = view.frameworks[framework].tasks.values();
        let tasks: Vec<String> = (tasks.filter(|task| task.agent_id.value == at))
            .map(|task| task.task_id.value.clone())
            .collect();
        let mut came = Vec::new();
        for (number, id) in tasks.iter().enumerate() {
            let (scheduler, agent) = (&self.frameworks[framework], &self.agents[at]);
            let number = u8::try_from(number + 1).expect("few");
            let update = status(scheduler, agent, id, v1::TaskState::TaskFinished, number);
            let from = agent.pid.clone();
            self.cluster.peer(&from, update);
            came.extend(self.note());
        }
        came
    }
}

fn explain(body: &Value) -> Ask {
    Ask::Explain(Explain::from_json(body.to_string().as_bytes()).expect("a question"))
}

/// The cause of a kind, wherever it is.
fn cause(answer: &Value, kind: &str) -> Value {
    let lists = ["everywhere", "causes"].map(|list| answer[list].as_array().expect("a list"));
    let found = lists.into_iter().flatten().find(|c| c["kind"] == kind);
    found.cloned().unwrap_or_default()
}

fn text<'a>(value: &'a Value, contains: &str) -> &'a str {
    let text = value["text"].as_str().expect("a text");
    assert!(text.contains(contains), "{text}");
    text
}

#[test]
fn an_exhausted_quota_is_named_with_limit_and_consumption() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:8;mem:8000");
    let limit = json!({"set_quota": {"role": "eng", "limit": {"cpus": 2}}});
    scene.carry_out(&limit);
    let id = scene.framework("eng");
    scene.run(&id, "cpus:2;mem:100");
    let answer = scene.blocked(&id, "cpus:1;mem:64", "quota_limit");
    let cause = cause(&answer, "quota_limit");
    text(
        &cause,
        "the quota of role 'eng' is exhausted: limited to cpus:2, of which 2 is consumed, and 1 more is wanted",
    );
    assert_eq!(cause["quota"]["limit"], 2.0);
    assert_eq!(
        answer["resources"],
        json!({"text": "cpus:1; mem:64", "amounts": {"cpus": 1.0, "mem": 64.0}})
    );
    text(&answer, "(test) in role 'eng': the quota");
    text(&answer["suggestions"][0], "set the quota of role 'eng'");
}

#[test]
fn refusals_are_told_with_the_seconds_they_last() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:2;mem:2000");
    let id = scene.framework("eng");
    scene.decline(&id, None, 300.0);
    scene.pass(Duration::from_secs(100));
    let answer = scene.blocked(&id, "cpus:1", "refused");
    let cause = cause(&answer, "refused");
    text(&cause, "refused by the framework, for another 200secs");
    assert_eq!(cause["refused"]["first_ends_in_seconds"], 200.0);
    assert_eq!(cause["followers"], 1);
    assert_eq!(cause["example"]["hostname"], "host1");
}

#[test]
fn what_is_reserved_for_others_is_named_by_role_and_can_be_unreserved() {
    let mut scene = Scene::new();
    let at = scene.agent(1, "cpus:4;mem:4000");
    let reserve = json!({"type": "RESERVE_RESOURCES", "reserve_resources": {"agent_id": {"value": at},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 4},
                       "reservations": [{"type": "DYNAMIC", "role": "ops"}]}]}});
    assert_eq!(
        scene.cluster.operator(call_of(&reserve.to_string())),
        Reply::Accepted
    );
    scene.note();
    let id = scene.framework("eng");
    scene.decline(&id, None, 1000.0);
    let answer = scene.blocked(&id, "cpus:1;mem:64", "reserved_for_others");
    let cause = cause(&answer, "reserved_for_others");
    text(&cause, "cpus:4 for 'ops'");
    assert_eq!(cause["reserved"]["ops"]["amounts"]["cpus"], 4.0);
}

#[test]
fn no_follower_is_large_enough() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:2;mem:2000");
    let id = scene.framework("eng");
    scene.decline(&id, None, 1000.0);
    let answer = scene.blocked(&id, "cpus:4;mem:64", "too_small");
    text(&cause(&answer, "too_small"), "(host1) has cpus:2; mem:2000");
    text(
        &answer["suggestions"][0],
        "add a follower with cpus:4; mem:64",
    );
}

#[test]
fn enough_is_free_but_in_pieces() {
    let mut scene = Scene::new();
    for number in 1..=3 {
        scene.agent(number, "cpus:4;mem:4000");
    }
    let busy = scene.framework("ops");
    scene.run(&busy, "cpus:3;mem:64");
    let suppress = call(scheduler::call::Type::Suppress);
    scene.call(&busy, suppress);
    let id = scene.framework("eng");
    scene.decline(&id, None, 1.0);
    scene.pass(Duration::from_secs(5));
    scene.note();
    scene.decline(&id, None, 0.0);
    let answer = scene.blocked(&id, "cpus:2;mem:64", "in_use");
    text(&answer["fragmentation"], "cpus:3; mem:11808 in all");
    let used = cause(&answer, "in_use");
    assert_eq!(used["users"][0]["framework"]["id"], busy.as_str());
    text(&used, &format!("by {busy} (test)"));
}

#[test]
fn who_suppressed_offers_is_told_so() {
    let mut scene = Scene::new();
    let id = scene.framework("eng");
    scene.call(&id, call(scheduler::call::Type::Suppress));
    scene.agent(1, "cpus:2;mem:2000");
    let answer = scene.blocked(&id, "cpus:1", "suppressed");
    text(&answer, "the framework has suppressed offers in role 'eng'");
    text(
        &answer["suggestions"][0],
        &format!("have framework {id} (test) revive offers in role 'eng'"),
    );
}

#[test]
fn constraints_that_match_nowhere_are_shown_beside_the_attributes() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:2;mem:2000");
    let id = scene.framework("eng");
    scene.decline(&id, None, 0.0);
    let mut update = call(scheduler::call::Type::UpdateFramework);
    update.update_framework = Some(scheduler::call::UpdateFramework {
        framework_info: scene.infos[&id].clone(),
        offer_constraints: Some(
            tepui_protocol::json::decode(
                br#"{"role_constraints": {"eng": {"groups": [{"attribute_constraints": [
                    {"selector": {"attribute_name": "rack"}, "predicate": {"exists": {}}}]}]}}}"#,
            )
            .expect("constraints"),
        ),
        ..Default::default()
    });
    scene.call(&id, update);
    scene.decline(&id, None, 0.0);
    scene.pass(Duration::from_secs(10));
    let answer = scene.blocked(&id, "cpus:1", "constraints");
    text(&cause(&answer, "constraints"), "(host1) has no attributes");
}

#[test]
fn who_hoards_offers_is_named_with_what_and_for_how_long() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:2;mem:2000");
    scene.agent(2, "cpus:2;mem:2000");
    let hoarder = scene.framework("ops");
    let id = scene.framework("eng");
    scene.pass(Duration::from_secs(90));
    let answer = scene.blocked(&id, "cpus:1", "held_in_offers");
    let holder = &cause(&answer, "held_in_offers")["holders"][0];
    assert_eq!(
        *holder,
        json!({
            "framework": {"id": hoarder, "name": "test"},
            "followers": 2,
            "offers": 2,
            "resources": {"text": "cpus:4; mem:4000", "amounts": {"cpus": 4.0, "mem": 4000.0}},
            "held_seconds": 90.0,
        })
    );
    text(
        &answer,
        &format!("held in offers by {hoarder} (test) for 90secs"),
    );
    // Who holds the offer is not blocked, and sees for how long it has.
    let answer = scene.explain(&hoarder, "cpus:1");
    assert_eq!(answer["blocked"], false);
    assert_eq!(answer["holds"][0]["held_seconds"], 90.0);
}

#[test]
fn gpus_need_the_capability() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:2;mem:2000;gpus:1");
    let id = scene.framework("eng");
    let answer = scene.blocked(&id, "cpus:1;gpus:1", "no_gpu_capability");
    text(&answer["suggestions"][0], "GPU_RESOURCES");
}

#[test]
fn states_of_followers_are_told_in_words_and_those_that_are_gone_by_what_became_of_them() {
    let mut scene = Scene::new();
    let at = scene.agent(1, "cpus:2;mem:2000");
    let drain = json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": {"value": at}}});
    scene.cluster.operator(call_of(&drain.to_string()));
    scene.note();
    let id = scene.framework("eng");
    let answer = scene.explain(&id, "cpus:1");
    let inactive = cause(&answer, "inactive");
    text(&inactive, "(host1) is drained");
    assert_eq!(inactive["states"], json!({"drained": 1}));
    let refused = |scene: &mut Scene, body: &Value| match scene.reply(explain(body)) {
        Reply::Error { status, message } => (status, message),
        other => panic!("{other:?}"),
    };
    let unknown = refused(&mut scene, &json!({"framework": "nobody"}));
    assert_eq!(unknown, (404, "There is no framework nobody".to_owned()));
    let unknown = refused(&mut scene, &json!({"role": "eng", "follower": "nowhere"}));
    assert_eq!(unknown, (404, "There is no follower nowhere".to_owned()));
    scene.call(&id, call(scheduler::call::Type::Teardown));
    let completed = refused(&mut scene, &json!({"framework": id}));
    let text = format!(
        "Framework {id} (test) is completed, for less than a second: it is offered nothing"
    );
    assert_eq!(completed, (404, text));
}

#[test]
fn anybody_can_be_asked_about() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:2;mem:2000");
    let body = json!({"role": "new/role", "resources": {"cpus": 1}});
    let answer = scene.document(explain(&body))["answers"][0].take();
    assert_eq!(answer["blocked"], false);
    assert_eq!(
        (&answer["fitting"], &answer["followers"]),
        (&json!(1), &json!(1))
    );
    text(
        &answer,
        "nothing is in the way of an offer of cpus:1 to a new framework in role 'new/role'",
    );
}

#[test]
fn asking_changes_nothing_and_is_counted() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:2;mem:2000");
    let id = scene.framework("eng");
    let before = scene.cluster.view();
    scene.explain(&id, "cpus:1");
    scene.simulate(&json!({"changes": [{"set_weight": {"role": "eng", "weight": 3}}]}));
    let after = scene.cluster.view();
    assert_eq!(
        before.frameworks[&*id].offers.size(),
        after.frameworks[&*id].offers.size()
    );
    assert!(after.weights.is_empty());
    let metrics = read::metrics(&after, scene.cluster.now.seconds());
    assert_eq!(metrics["tepui/explanations"], 1.0);
    assert_eq!(metrics["tepui/simulations"], 1.0);
}

#[test]
fn a_simulation_shows_what_would_change() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:4;mem:4000");
    let id = scene.framework("eng");
    scene.run(&id, "cpus:2;mem:64");
    let outcome = scene.simulate(&json!({
        "changes": [
            {"add_followers": {"count": 2, "resources": "cpus:4;mem:4000", "attributes": "rack:a"}},
            {"set_quota": {"role": "ops", "limit": "cpus:5"}},
        ],
        "demands": [{"role": "ops", "resources": "cpus:1;mem:10", "count": 20}],
    }));
    assert_eq!(outcome["before"]["followers"], 1);
    assert_eq!(outcome["after"]["followers"], 3);
    let demand = &outcome["demands"][0];
    assert_eq!(
        (&demand["placed"], &demand["count"]),
        (&json!(5), &json!(20))
    );
    assert_eq!(cause(&demand["why"], "quota_limit")["kind"], "quota_limit");
    let ops = outcome["roles"].as_array().expect("a list");
    let ops = ops
        .iter()
        .find(|role| role["role"] == "ops")
        .expect("it is new");
    assert_eq!(ops["before"], Value::Null);
    assert_eq!(ops["after"]["consumed"]["amounts"]["cpus"], 5.0);
}

#[test]
fn what_explain_suggests_can_be_simulated() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:2;mem:2000");
    let id = scene.framework("eng");
    scene.decline(&id, None, 1000.0);
    let answer = scene.explain(&id, "cpus:4;mem:64");
    let changes = &answer["suggestions"][0]["changes"];
    let outcome = scene.simulate(&json!({ "changes": changes }));
    assert_eq!(outcome["after"]["followers"], 2);
    assert_eq!(outcome["changes"][0]["change"], changes[0]);
}

#[test]
fn what_cannot_be_read_is_named_by_its_place() {
    let explain = |body: &str| Explain::from_json(body.as_bytes()).map_err(|e| e.to_string());
    let simulate = |body: &str| Ask::simulate(body.as_bytes()).map_err(|e| e.to_string());
    for (body, error) in [
        ("{}", "The request: 'framework' or 'role' has to be given"),
        ("[]", "The request: an object is expected"),
        (r#"{"role": 1}"#, "role: a text is expected"),
        (r#"{"role": "a b"}"#, "role: "),
        (
            r#"{"rolle": "a"}"#,
            "rolle: there is no such field here, only framework, role",
        ),
        (
            r#"{"role": "a", "resources": "cpus=1"}"#,
            "resources: 'cpus=1' is not NAME:AMOUNT",
        ),
        (
            r#"{"role": "a", "resources": "ports:[1-2]"}"#,
            "resources: 'ports:[1-2]' has no amount",
        ),
        (
            r#"{"role": "a", "resources": "cpus:-1"}"#,
            "resources: 'cpus:-1' has no amount",
        ),
        (
            r#"{"role": "a", "capabilities": ["X"]}"#,
            "capabilities[0]: 'X' makes no difference",
        ),
        (
            r#"{"framework": "f", "capabilities": []}"#,
            "capabilities: a framework has its own",
        ),
        ("{", "The body is no JSON"),
    ] {
        let found = explain(body).expect_err(body);
        assert!(found.starts_with(error), "{body}: {found}");
    }
    for (body, error) in [
        ("{}", "The request: 'changes' or 'demands' has to be given"),
        (r#"{"changes": {}}"#, "changes: a list is expected"),
        (
            r#"{"changes": [{}]}"#,
            "changes[0]: one of add_followers, remove_follower",
        ),
        (
            r#"{"changes": [{"x": 1}]}"#,
            "changes[0].x: there is no such field here",
        ),
        (
            r#"{"changes": [{"set_weight": {"role": "a", "weight": 0}}]}"#,
            "changes[0].set_weight.weight: a positive",
        ),
        (
            r#"{"changes": [{"remove_follower": 1}]}"#,
            "changes[0].remove_follower: a text is expected",
        ),
        (
            r#"{"changes": [{"add_followers": {"count": 0, "resources": "cpus:1"}}]}"#,
            "changes[0].add_followers.count: a whole number",
        ),
        (
            r#"{"changes": [{"add_followers": {}}]}"#,
            "changes[0].add_followers.resources: it is needed",
        ),
        (
            r#"{"changes": [{"set_quota": {"role": "a", "guarantee": "cpus:2", "limit": "cpus:1"}}]}"#,
            "changes[0].set_quota: 'QuotaConfig.guarantees'",
        ),
        (
            r#"{"demands": [{"role": "a"}]}"#,
            "demands[0].resources: what each task takes is needed",
        ),
    ] {
        let found = simulate(body).expect_err(body);
        assert!(found.starts_with(error), "{body}: {found}");
    }
}

#[test]
fn a_budget_bounds_what_a_framework_holds_and_answering_lets_it_go_on() {
    let mut config = Config::default();
    config.allocator.held_offers_share = Some(0.5);
    let mut scene = Scene::with(config);
    for number in 1..=4 {
        scene.agent(number, "cpus:2;mem:2000");
    }
    let hoarder = scene.framework("ops");
    assert_eq!(scene.offers.len(), 2, "half of the cluster");
    let other = scene.framework("eng");
    let held = |scene: &Scene, id: &str| {
        let own = scene.offers.iter().filter(|o| o.framework_id.value == id);
        own.count()
    };
    assert_eq!(held(&scene, &other), 2, "what is left");
    scene.decline(&other, None, 1000.0);
    assert_eq!(held(&scene, &hoarder), 2);
    let answer = scene.explain(&hoarder, "cpus:4");
    assert!(
        answer["blocked"] == true && !cause(&answer, "offers_budget").is_null(),
        "{answer:#}"
    );
    let mut view = scene.cluster.view();
    let first = view.frameworks[&*hoarder]
        .offers
        .values()
        .next()
        .map(|o| o.agent_id.value.clone());
    scene.run(&hoarder, "cpus:2;mem:2000");
    view = scene.cluster.view();
    assert_eq!(
        view.frameworks[&*hoarder].offers.size(),
        2,
        "others, instead of those it used"
    );
    let at = view.frameworks[&*hoarder]
        .offers
        .values()
        .next()
        .map(|o| o.agent_id.value.clone());
    assert_ne!(first, at);
}

#[test]
fn who_holds_an_offer_for_long_is_named_in_the_log_less_and_less_often() {
    let mut scene = Scene::new();
    scene.agent(1, "cpus:2;mem:2000");
    let id = scene.framework("eng");
    let alarms = scene.pass(Duration::from_secs(3600));
    let times: Vec<u64> = alarms.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [600, 1200, 2400]);
    assert_eq!(
        alarms[0].1,
        format!(
            "ALARM: framework {id} (test) holds 1 offer of cpus:2; mem:2000, 100.0% of the cluster, the oldest for 10mins"
        )
    );
    let metrics = read::metrics(&scene.cluster.view(), scene.cluster.now.seconds());
    assert_eq!(metrics["tepui/offers/alarms"], 3.0);
    assert!(metrics["tepui/offers/held_seconds_max"] >= 3600.0);
    assert_eq!(
        metrics[&format!("tepui/offers/frameworks/test/{id}/held")],
        1.0
    );
}
