//! The registry in a real ZooKeeper.

use crate::zookeeper::{Ensemble, PATIENCE};
use std::{collections::BTreeSet, path::Path};
use tepui_leader::RegistryChange;
use tepui_node::disk::registry::{
    Registry, RegistryError, RegistryInZooKeeper, SharedNodes,
    tool::{self, Place, ToolError},
};
use tepui_protocol::{internal, v1};
use tepui_zookeeper::{Op, ZooKeeper};

const PATH: &str = "/mesos";

fn admit(id: &str) -> RegistryChange {
    let info = v1::AgentInfo {
        hostname: "h".to_owned(),
        id: Some(v1::AgentId {
            value: id.to_owned(),
        }),
        ..Default::default()
    };
    RegistryChange::AdmitFollower(Box::new(internal::registry::Slave {
        info,
        ..Default::default()
    }))
}

fn admitted(registry: internal::Registry) -> BTreeSet<String> {
    let followers = registry.slaves.unwrap_or_default().slaves.into_iter();
    followers
        .filter_map(|follower| Some(follower.info.id?.value))
        .collect()
}

/// A leader's membership znode, and the registry as this leader opens it.
async fn elect(zookeeper: &ZooKeeper, number: usize) -> RegistryInZooKeeper {
    let member = format!("{PATH}/member{number}");
    zookeeper.make_path(PATH).await.expect("made");
    let create = [Op::Create(member.clone(), Vec::new())];
    zookeeper.multi(&create).await.expect("made");
    let nodes = SharedNodes::new(zookeeper.clone(), PATIENCE);
    RegistryInZooKeeper::new(nodes, Some(&member))
}

async fn serving(ensemble: &Ensemble) -> ZooKeeper {
    let zookeeper = ensemble.connect(PATH);
    let served = async {
        while zookeeper.children("/").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, served)
        .await
        .expect("served");
    zookeeper
}

/// The registry blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_reads_what_was_written_and_shuts_the_last_one_out() {
    let ensemble = Ensemble::start(1, "96m");
    let zookeeper = serving(&ensemble).await;
    let mut first = elect(&zookeeper, 1).await;
    let (mut first, id) = blocking(move || {
        let loaded = first.load().expect("a registry");
        assert_eq!(loaded.registry, internal::Registry::default());
        let changes: Vec<_> = (0..2000).map(|n| admit(&format!("S{n}"))).collect();
        first.apply(&changes).expect("applied");
        let remove = RegistryChange::RemoveFollower(tepui_model::FollowerId::new("S7"));
        first.apply(&[remove]).expect("applied");
        (first, loaded.cluster_id)
    })
    .await;
    let mut second = elect(&zookeeper, 2).await;
    blocking(move || {
        let loaded = second.load().expect("a registry");
        assert_eq!(loaded.cluster_id, id);
        assert_eq!(admitted(loaded.registry).len(), 1999);
        let refused = first.apply(&[admit("late")]);
        assert!(
            matches!(refused, Err(RegistryError::Deposed)),
            "{refused:?}"
        );
        second.apply(&[admit("S7")]).expect("applied");
    })
    .await;
    // One whose membership is gone neither writes nor takes over.
    let mut third = elect(&zookeeper, 3).await;
    let gone = [Op::Delete(format!("{PATH}/member3"), None)];
    zookeeper.multi(&gone).await.expect("gone");
    blocking(move || {
        let refused = third.load();
        assert!(
            matches!(refused, Err(RegistryError::Deposed)),
            "{refused:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_imported_while_a_leader_runs_and_deposes_it() {
    let ensemble = Ensemble::start(1, "96m");
    let zookeeper = serving(&ensemble).await;
    let place = Place::ZooKeeper(ensemble.url(PATH));
    let mut first = elect(&zookeeper, 1).await;
    blocking(move || {
        assert!(matches!(tool::check(&place), Err(ToolError::Nothing(_))));
        first.load().expect("a registry");
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../journal/tests/data");
        let recorded = Path::new(data).join("replicated-log-recorded");
        let found = tool::read_source(&recorded).expect("readable");
        tool::import(&place, &found.exported, false).expect("imported");
        let refused = first.apply(&[admit("late")]);
        assert!(
            matches!(refused, Err(RegistryError::Deposed)),
            "{refused:?}"
        );
        let exported = tool::export(&place).expect("exported");
        assert_eq!(exported.registry, found.exported.registry);
        let report = tool::check(&place).expect("readable");
        assert_eq!(report.problems, Vec::<String>::new());
        assert!(report.facts.contains(&("leaders so far", "2".to_owned())));
        let refused = tool::import(&place, &found.exported, false);
        assert!(matches!(refused, Err(ToolError::NotEmpty { .. })));
        tool::import(&place, &exported, true).expect("imported");
        assert_eq!(tool::export(&place).expect("exported"), exported);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_outlast_servers_that_are_killed() {
    let mut ensemble = Ensemble::start(1, "96m");
    let zookeeper = serving(&ensemble).await;
    let mut first = elect(&zookeeper, 1).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let writer = std::thread::spawn(move || {
        first.load().expect("a registry");
        // Until nobody listens any more.
        for n in 0.. {
            first.apply(&[admit(&format!("S{n}"))]).expect("applied");
            if tell.send(n).is_err() {
                return n;
            }
        }
        0
    });
    let mut acknowledged = 0;
    for _round in 0..3 {
        for _ in 0..20 {
            acknowledged = told.recv().await.expect("it goes on");
        }
        ensemble.kill(0);
        ensemble.restart(0);
    }
    while told.recv().await.expect("it goes on") < acknowledged + 50 {}
    drop(told);
    let last = blocking(move || writer.join().expect("it ends")).await;
    let mut second = elect(&zookeeper, 2).await;
    let loaded = blocking(move || second.load().expect("a registry")).await;
    let expected = (0..=last).map(|n| format!("S{n}")).collect();
    assert_eq!(admitted(loaded.registry), expected);
}
