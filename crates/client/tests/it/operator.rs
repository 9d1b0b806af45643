//! The operator's calls and events.

use tepui_client::{
    Codec, Error,
    operator::Operator,
    proto::{
        FrameworkInfo, agent,
        master::{self, call::Type, event},
    },
    scheduler::{Event, Scheduler},
};
use tepui_tests::cluster::Cluster;

fn call(kind: Type) -> master::Call {
    master::Call {
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

#[tokio::test]
async fn leaders_and_followers_answer_in_both_encodings() {
    let cluster = Cluster::mixed();
    for codec in [Codec::Protobuf, Codec::Json] {
        let operator = Operator::new(&cluster.leader.to_string(), None)
            .expect("an operator")
            .codec(codec);
        let answer = operator
            .leader(&call(Type::GetHealth))
            .await
            .expect("an answer");
        assert_eq!(
            answer.and_then(|a| a.get_health).map(|h| h.healthy),
            Some(true)
        );
        let agents = operator
            .leader(&call(Type::GetAgents))
            .await
            .expect("an answer");
        let agents = agents.and_then(|a| a.get_agents).expect("followers").agents;
        assert_eq!(agents.len(), 1);

        let ask = agent::Call {
            r#type: Some(agent::call::Type::GetVersion as i32),
            ..Default::default()
        };
        let follower = cluster.follower.to_string();
        let answer = operator.follower(&follower, &ask).await.expect("an answer");
        let version = answer.and_then(|a| a.get_version).expect("a version");
        assert_eq!(version.version_info.version, "1.11.0");
    }
}

#[tokio::test]
async fn refusals_carry_the_servers_words() {
    let cluster = Cluster::mixed();
    let operator = Operator::new(&cluster.leader.to_string(), None).expect("an operator");
    match operator.leader(&call(Type::Teardown)).await {
        Err(Error::Status {
            status: 400,
            message,
            ..
        }) => {
            assert_eq!(
                message,
                "Failed to validate master::Call: Expecting 'teardown' to be present"
            );
        }
        other => panic!("{other:?}"),
    }
    match operator.get("/nothing").await {
        Err(Error::Status { status: 404, .. }) => {}
        other => panic!("{other:?}"),
    }
    let version = operator.get("/version").await.expect("a version");
    let version: serde_json::Value = serde_json::from_slice(&version).expect("JSON");
    assert_eq!(version["version"], "1.11.0");
}

#[tokio::test]
async fn events_follow_the_state() {
    let cluster = Cluster::mixed();
    let leader = cluster.leader.to_string();
    let operator = Operator::new(&leader, None).expect("an operator");
    let mut events = operator.subscribe().await.expect("a subscription");
    let first = events.next().await.expect("an event").expect("a stream");
    let state = first
        .subscribed
        .and_then(|s| s.get_state)
        .expect("the state");
    assert_eq!(state.get_agents.expect("followers").agents.len(), 1);

    let info = FrameworkInfo {
        user: "root".into(),
        name: "seen".into(),
        ..Default::default()
    };
    let mut scheduler = Scheduler::builder(&leader, info)
        .build()
        .expect("a scheduler");
    assert!(matches!(
        scheduler.next().await,
        Ok(Event::Subscribed { .. })
    ));
    let added = loop {
        let event = events.next().await.expect("an event").expect("a stream");
        if event.r#type() == event::Type::FrameworkAdded {
            break event.framework_added.expect("a framework");
        }
    };
    assert_eq!(added.framework.framework_info.name, "seen");
}
