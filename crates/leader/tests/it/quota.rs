//! Quotas of roles, as `docs/quota.md` has them.

use crate::{harness::*, tables::*};
use tepui_leader::{Config, Effect, RegistryChange, Reply, read};
use tepui_protocol::{
    internal::{self, registry},
    v1::{self, master, quota::QuotaInfo},
};

fn update(role: &str, guarantees: &str, limits: &str, force: bool) -> master::Call {
    let amounts = |text: &str| {
        let parts = text.split(';').filter(|part| !part.is_empty());
        let parts = parts.filter_map(|part| part.split_once(':'));
        let entries: Vec<String> = parts
            .map(|(name, value)| format!(r#""{name}": {{"value": {value}}}"#))
            .collect();
        entries.join(", ")
    };
    call_of(&format!(
        r#"{{"type": "UPDATE_QUOTA", "update_quota": {{"force": {force}, "quota_configs": [{{"role": "{role}",
            "guarantees": {{{}}}, "limits": {{{}}}}}]}}}}"#,
        amounts(guarantees),
        amounts(limits)
    ))
}

fn two_followers() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.register(1, "cpus:4;mem:4096");
    cluster.register(2, "cpus:4;mem:4096");
    cluster.nothing_left();
    cluster
}

#[test]
fn quotas_are_taken_or_refused_as_documented_and_the_next_leader_has_them() {
    let mut cluster = two_followers();
    let changes = run(&mut cluster, include_str!("fixtures/quota.jsonl"), "");
    let before = document(&mut cluster, "quota");
    assert_eq!(before["configs"].as_array().map(Vec::len), Some(2));
    let registry = registry_after(&changes);
    assert_eq!(registry.minimum_capabilities[0].capability, "QUOTA_V2");
    let mut next = Cluster::after(Config::default(), &registry, cluster.now, 2);
    assert_eq!(document(&mut next, "quota"), before);
}

#[test]
fn leaders_have_to_know_of_quotas_as_long_as_there_are_any() {
    let mut cluster = two_followers();
    assert_eq!(
        cluster.operator(update("a", "", "cpus:1", false)),
        Reply::Ok
    );
    let kinds = |changes: Vec<RegistryChange>| -> Vec<String> {
        let text = |change: &RegistryChange| match change {
            RegistryChange::RequireCapability(name) => format!("require {name}"),
            RegistryChange::ReleaseCapability(name) => format!("release {name}"),
            RegistryChange::Quota(config) => format!("set {}", config.role),
            RegistryChange::RemoveQuota(role) => format!("remove {role}"),
            other => format!("{other:?}"),
        };
        changes.iter().map(text).collect()
    };
    assert_eq!(
        kinds(persisted(&mut cluster)),
        ["require QUOTA_V2", "set a"]
    );
    assert_eq!(
        cluster.operator(update("b", "", "cpus:1", false)),
        Reply::Ok
    );
    assert_eq!(kinds(persisted(&mut cluster)), ["set b"]);
    assert_eq!(cluster.operator(update("a", "", "", false)), Reply::Ok);
    assert_eq!(kinds(persisted(&mut cluster)), ["remove a"]);
    assert_eq!(cluster.operator(update("b", "", "", false)), Reply::Ok);
    assert_eq!(
        kinds(persisted(&mut cluster)),
        ["remove b", "release QUOTA_V2"]
    );
}

#[test]
fn guarantees_from_before_limits_existed_are_limits_too() {
    let older = registry::Quota {
        info: QuotaInfo {
            role: Some("old".to_owned()),
            guarantee: resources("cpus:2;mem:100"),
            ..Default::default()
        },
    };
    let registry = internal::Registry {
        quotas: vec![older],
        ..Default::default()
    };
    let mut cluster = Cluster::with(Config::default(), &registry);
    let shown = document(&mut cluster, "quota");
    let amounts = serde_json::json!({"cpus": {"value": 2.0}, "mem": {"value": 100.0}});
    assert_eq!(
        shown["configs"],
        serde_json::json!([{"role": "old", "guarantees": amounts, "limits": amounts}])
    );
    assert_eq!(cluster.operator(update("old", "", "", false)), Reply::Ok);
    assert_eq!(
        persisted(&mut cluster),
        [RegistryChange::RemoveQuota("old".to_owned())]
    );
}

#[test]
fn only_listed_roles_may_have_a_quota() {
    let config = Config {
        roles: Some(["a".to_owned()].into()),
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &internal::Registry::default());
    let refused = Reply::Error {
        status: 400,
        message: "Invalid QuotaConfig: 'b' is not on the roles whitelist".to_owned(),
    };
    assert_eq!(cluster.operator(update("b", "", "cpus:1", false)), refused);
    assert_eq!(
        cluster.operator(update("a", "", "cpus:1", false)),
        Reply::Ok
    );
    let shown = document(&mut cluster, "roles");
    let names = shown["roles"].as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(|role| role["name"].as_str()).collect();
    assert_eq!(names, ["*", "a"], "a list of roles is what there is");
}

#[test]
fn a_limit_below_what_is_consumed_has_to_be_forced() {
    let (mut cluster, _, _) = Cluster::running(in_role("eng/dev"));
    let refused = Reply::Error {
        status: 400,
        message: "Invalid QuotaConfig: Role 'eng' is already consuming 'cpus:1; mem:128'; this is more than the \
                  requested limits 'cpus:0.5' (use 'force' flag to bypass this check)"
            .to_owned(),
    };
    let tight = |force| update("eng", "", "cpus:0.5", force);
    assert_eq!(cluster.operator(tight(false)), refused);
    cluster.nothing_left();
    assert_eq!(cluster.operator(tight(true)), Reply::Ok);
    let consumed = &document(&mut cluster, "roles")["roles"][0]["quota"];
    let expected = serde_json::json!({
        "role": "eng", "guarantee": {}, "limit": {"cpus": 0.5}, "consumed": {"cpus": 1.0, "mem": 128.0}
    });
    assert_eq!(*consumed, expected, "what roles below use counts");
}

#[test]
fn offers_beyond_a_new_limit_are_taken_back() {
    let (mut cluster, _, _, offer) = Cluster::offered(in_role("eng"));
    assert_eq!(
        cluster.operator(update("eng", "", "cpus:9", false)),
        Reply::Ok
    );
    assert_eq!(rescinded(&mut cluster), Vec::<String>::new());
    persisted(&mut cluster);
    assert_eq!(
        cluster.operator(update("eng", "", "cpus:3", false)),
        Reply::Ok
    );
    assert_eq!(rescinded(&mut cluster), [offer.id.value]);
}

#[test]
fn offers_to_others_are_taken_back_for_a_guarantee() {
    let (mut cluster, _, _, offer) = Cluster::offered(in_role("sales"));
    assert_eq!(
        cluster.operator(update("eng", "cpus:2", "", false)),
        Reply::Ok
    );
    assert_eq!(rescinded(&mut cluster), [offer.id.value]);
    cluster.pending.clear();
    // Who has that much already gets no more for it.
    let (mut cluster, _, _, _) = Cluster::offered(in_role("eng"));
    assert_eq!(
        cluster.operator(update("eng", "cpus:2", "", false)),
        Reply::Ok
    );
    assert_eq!(rescinded(&mut cluster), Vec::<String>::new());
}

#[test]
fn the_older_call_takes_back_offers_of_as_many_followers_as_frameworks_wait() {
    let mut cluster = Cluster::new();
    for number in 1..=3 {
        cluster.register(number, "cpus:4;mem:4096");
    }
    cluster.subscribe(in_role("sales"));
    cluster.pending.clear();
    for _ in 0..2 {
        cluster.subscribe(in_role("eng"));
    }
    cluster.pending.clear();
    let set = call_of(
        r#"{"type": "SET_QUOTA", "set_quota": {"quota_request": {"role": "eng", "guarantee":
            [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}]}}}"#,
    );
    assert_eq!(cluster.operator(set), Reply::Ok);
    assert_eq!(rescinded(&mut cluster).len(), 2);
}

#[test]
fn a_role_shows_what_roles_below_it_have() {
    let (mut cluster, scheduler, _) = Cluster::running(in_role("eng/dev"));
    let shown = document(&mut cluster, "roles");
    let used = serde_json::json!({"cpus": 1.0, "mem": 128.0});
    for (place, (name, frameworks)) in [("eng", 0), ("eng/dev", 1)].into_iter().enumerate() {
        let role = &shown["roles"][place];
        assert_eq!(role["name"], name);
        assert_eq!(role["allocated"], used, "{name}");
        let own = role["frameworks"].as_array().map(Vec::len);
        assert_eq!(own, Some(frameworks), "frameworks are with their own role");
    }
    let mut call = master::Call::default();
    call.set_type(master::call::Type::GetRoles);
    let roles = read::operator(&cluster.view(), &call).and_then(|answer| answer.get_roles);
    let roles = roles.expect("an answer").roles;
    assert_eq!(roles.len(), 2);
    assert_eq!(roles[0].resources, roles[1].resources);
    assert_eq!(roles[1].frameworks, [scheduler.id]);
    assert!(!roles[1].resources.is_empty());
}

#[test]
fn gauges_say_what_is_promised_bounded_and_consumed() {
    let (mut cluster, _, _) = Cluster::running(in_role("eng/dev"));
    assert_eq!(
        cluster.operator(update("eng", "cpus:1", "cpus:3;mem:512", false)),
        Reply::Ok
    );
    cluster.pending.clear();
    let metrics = read::metrics(&cluster.view(), 0.0);
    let gauge = |name: &str| {
        let name = format!("allocator/mesos/quota/roles/{name}");
        metrics.get(&name).copied()
    };
    assert_eq!(gauge("eng/resources/cpus/guarantee"), Some(1.0));
    assert_eq!(gauge("eng/resources/cpus/limit"), Some(3.0));
    assert_eq!(gauge("eng/resources/mem/guarantee"), None);
    assert_eq!(gauge("eng/resources/mem/limit"), Some(512.0));
    let consumed = gauge("eng/resources/cpus/consumed");
    assert_eq!(consumed, gauge("eng/dev/resources/cpus/consumed"));
    assert_eq!(consumed, gauge("/resources/cpus/consumed"));
    assert!(consumed.is_some_and(|cpus| (1.0..=3.0).contains(&cpus)));
    assert_eq!(gauge("eng/resources/ports/consumed"), None);
}

#[test]
fn a_new_leader_with_quotas_waits_for_followers_before_it_offers() {
    let mut registry = crate::failover::registry_of(5);
    registry.quota_configs = vec![v1::quota::QuotaConfig {
        role: "eng".to_owned(),
        ..Default::default()
    }];
    let wait = std::time::Duration::from_secs(30);
    let config = Config {
        allocator_recovery_timeout: wait,
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &registry);
    cluster.subscribe(in_role("sales"));
    cluster.register(9, "cpus:4;mem:4096");
    let offers = |cluster: &Cluster| {
        let offers = |effect: &Effect| matches!(effect, Effect::Event { event, .. } if event.offers.is_some());
        cluster
            .pending
            .iter()
            .filter(|effect| offers(effect))
            .count()
    };
    assert_eq!(offers(&cluster), 0);
    cluster.pass(wait);
    assert_eq!(offers(&cluster), 1);
}

/// Whatever frameworks of a subtree launch, and whenever: `docs/quota.md` promises that limits hold.
#[test]
fn a_limit_holds_through_hundreds_of_launches() {
    let mut cluster = Cluster::new();
    for number in 1..=3 {
        cluster.register(number, "cpus:16;mem:65536");
    }
    let limit = 10.0;
    assert_eq!(
        cluster.operator(update("eng", "cpus:2", &format!("cpus:{limit}"), false)),
        Reply::Ok
    );
    cluster.pending.clear();
    let mut schedulers = Vec::new();
    let mut effects = Vec::new();
    for role in ["eng", "eng/dev", "eng/ops/night"] {
        let (_, stream) = cluster.send_subscribe(in_role(role));
        schedulers.push(stream);
        effects.append(&mut cluster.pending);
    }
    let mut rng = tepui_model::Rng::seed(5);
    let (mut running, mut launched, mut most) = (Vec::new(), 0u32, 0.0f64);
    for step in 0..1000u32 {
        let mut offers = Vec::new();
        for effect in effects.drain(..) {
            if let Effect::Event { stream, event } = effect {
                let event = event.offers.clone().unwrap_or_default();
                offers.extend(event.offers.into_iter().map(|offer| (stream, offer)));
            }
        }
        for (stream, offer) in offers {
            assert!(schedulers.contains(&stream));
            let scheduler = Scheduler {
                id: offer.framework_id.clone(),
                stream,
            };
            let most = cpus(&offer).unwrap_or_default();
            let wanted = [0.5, 1.0, 2.5][rng.below(3) as usize];
            let mut tasks = Vec::new();
            if wanted <= most && rng.below(4) > 0 {
                let id = format!("t{step}-{launched}");
                let mut task = task(&id, &offer, &format!("cpus:{wanted};mem:32"));
                for resource in &mut task.resources {
                    resource.allocation_info = offer.allocation_info.clone();
                }
                tasks.push(task);
                running.push((scheduler.clone(), offer.agent_id.clone(), id));
                launched += 1;
            }
            let mut call = launch(&offer, tasks);
            if let Some(accept) = &mut call.accept {
                accept.filters = Some(v1::Filters {
                    refuse_seconds: Some(0.0),
                });
            }
            cluster.call(&scheduler, call);
        }
        if !running.is_empty() && rng.below(2) == 0 {
            let index = rng.below(running.len() as u64) as usize;
            let (scheduler, agent_id, id) = running.swap_remove(index);
            let number = agent_id
                .value
                .rsplit('S')
                .next()
                .and_then(|n| n.parse::<u16>().ok());
            let agent = Agent {
                id: agent_id,
                pid: pid(number.unwrap_or_default() + 1),
            };
            let ended = status(&scheduler, &agent, &id, v1::TaskState::TaskFinished, 1);
            cluster.peer(&agent.pid, ended);
            cluster.call(&scheduler, acknowledge(&agent, &id, 1));
        }
        cluster.pass(std::time::Duration::from_millis(10));
        effects.append(&mut cluster.pending);
        if step % 20 == 0 {
            let roles = document(&mut cluster, "roles");
            let eng = &roles["roles"][0];
            assert_eq!(eng["name"], "eng");
            let of = |what: &str| eng[what]["cpus"].as_f64().unwrap_or_default();
            most = most.max(of("allocated"));
            assert!(of("resources") <= limit, "{eng}");
        }
    }
    assert!(launched > 250, "{launched} launches");
    assert!(most > limit * 0.8, "what is allowed is used: {most}");
}
