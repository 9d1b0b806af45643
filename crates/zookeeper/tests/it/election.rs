//! Who leads, with real sessions that end in every way.

use crate::{
    link::Link,
    server::{Server, elected, follows, leader, url, wait_for},
};
use std::time::Duration;
use tepui_coordination::encode_member;
use tepui_zookeeper::{Options, Standing, ZooKeeper, watch_leader};
use zookeeper_client::Client;

/// Long enough for a busy machine, short enough to wait for its end.
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_of_three_leads_and_the_next_follows_it() {
    let server = Server::start().await;
    let mut sessions = Vec::new();
    for id in ["a", "b", "c"] {
        // The path is made, and all above it.
        let session = server.connect("/some/path/mesos", SHORT);
        let contender = session.contend(leader(id));
        let mut standing = contender.standing();
        if id == "a" {
            elected(&mut standing, None).await;
        } else {
            follows(&mut standing, "a").await;
        }
        sessions.push((session, contender, standing));
    }
    let mut watcher = watch_leader(&url("/some/path/mesos", server.port), &Options::default());
    let leads = |id: &'static str| {
        move |info: &Option<std::sync::Arc<_>>| {
            info.as_ref()
                .is_some_and(|info: &std::sync::Arc<tepui_protocol::v1::MasterInfo>| info.id == id)
        }
    };
    watcher.wait_for(leads("a")).await.expect("goes on");

    // What others see is what the reference writes.
    let raw = Client::connect(&format!("127.0.0.1:{}", server.port))
        .await
        .expect("connects");
    let mut names = raw.list_children("/some/path/mesos").await.expect("listed");
    names.sort();
    assert_eq!(
        names,
        [
            "json.info_0000000000",
            "json.info_0000000001",
            "json.info_0000000002"
        ]
    );
    let (data, _) = raw
        .get_data("/some/path/mesos/json.info_0000000001")
        .await
        .expect("read");
    assert_eq!(data, encode_member(&leader("b")));

    let (session, contender, mut standing) = sessions.remove(0);
    let tenure = standing.borrow().tenure().cloned().expect("a leads");
    assert_eq!(&*tenure.member, "/some/path/mesos/json.info_0000000000");
    let lease = contender.lease(&tenure);
    assert!(lease.may_act());
    // The session ends as that of a process that stops in good order does.
    session.close().await;
    // Whoever closes a session has stopped to act before; the contender hears of it an instant later.
    wait_for(&mut standing, "the end", |s| {
        (s.tenure().is_none()).then_some(())
    })
    .await;
    assert!(!lease.may_act());
    let next = elected(&mut sessions[0].2, None).await;
    assert_eq!(next.sequence, 1);
    follows(&mut sessions[1].2, "b").await;
    watcher.wait_for(leads("b")).await.expect("goes on");

    // Who withdraws makes way at once and may come back, at the end of the line.
    let (_, contender, standing) = &mut sessions[0];
    contender.resign(leader("b")).await;
    follows(standing, "c").await;
    watcher.wait_for(leads("c")).await.expect("goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_before_another_leads_when_a_leader_is_cut_off() {
    let server = Server::start().await;
    let link = Link::to(server.port).await;
    let far = ZooKeeper::connect(
        &url("/mesos", link.port),
        &Options {
            session_timeout: SHORT,
        },
    );
    let contender = far.contend(leader("far"));
    let mut standing = contender.standing();
    let tenure = elected(&mut standing, None).await;
    let lease = contender.lease(&tenure);
    let near = server.connect("/mesos", SHORT);
    let next = near.contend(leader("near"));
    let mut next_standing = next.standing();
    follows(&mut next_standing, "far").await;

    assert!(lease.may_act());
    link.cut(true);
    elected(&mut next_standing, None).await;
    assert!(!lease.may_act(), "the first acts while another leads");
    assert_eq!(lease.remaining(), Duration::ZERO);
    // It knows that it leads no more, although nobody could tell it so.
    wait_for(&mut standing, "the end", |s| {
        (*s == Standing::Unknown).then_some(())
    })
    .await;
    assert!(!contender.lease(&tenure).may_act());

    link.cut(false);
    follows(&mut standing, "near").await;
    near.close().await;
    let again = elected(&mut standing, Some(&tenure)).await;
    assert!(again.sequence > tenure.sequence);
    assert!(contender.lease(&again).may_act());
    assert!(!lease.may_act(), "a lease of an earlier tenure came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenure_outlives_a_server_that_is_killed_and_comes_back() {
    let mut server = Server::start().await;
    let session = server.connect("/mesos", LONG);
    let contender = session.contend(leader("a"));
    let mut standing = contender.standing();
    let tenure = elected(&mut standing, None).await;
    server.kill();
    server.restart();
    // Who begins after the restart is told by the same server who leads.
    let other = server.connect("/mesos", LONG).contend(leader("b"));
    follows(&mut other.standing(), "a").await;
    assert_eq!(standing.borrow().tenure(), Some(&tenure));
    assert!(contender.lease(&tenure).may_act());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_znode_that_somebody_deleted_ends_the_tenure_and_is_made_anew() {
    let server = Server::start().await;
    let session = server.connect("/mesos", LONG);
    let contender = session.contend(leader("a"));
    let mut standing = contender.standing();
    let tenure = elected(&mut standing, None).await;
    let lease = contender.lease(&tenure);
    let raw = Client::connect(&format!("127.0.0.1:{}", server.port))
        .await
        .expect("connects");
    raw.delete(&tenure.member, None).await.expect("deleted");
    let again = elected(&mut standing, Some(&tenure)).await;
    assert_eq!(
        (again.session, again.sequence),
        (tenure.session, tenure.sequence + 1)
    );
    assert!(!lease.may_act());
    assert!(contender.lease(&again).may_act());

    // The whole election deleted: its numbers begin anew, the tenure is another all the same.
    raw.delete(&again.member, None).await.expect("deleted");
    let third = elected(&mut standing, Some(&again)).await;
    raw.delete(&third.member, None).await.expect("deleted");
    // It may be faster than we are.
    while raw.delete("/mesos", None).await.is_err() {
        for name in raw.list_children("/mesos").await.unwrap_or_default() {
            let _ = raw.delete(&format!("/mesos/{name}"), None).await;
        }
    }
    let fourth = elected(&mut standing, Some(&third)).await;
    assert_ne!(fourth.attempt, tenure.attempt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acls_are_the_reference_s_and_a_wrong_password_is_named() {
    let server = Server::start().await;
    let open = server.connect("/open", LONG).contend(leader("open"));
    elected(&mut open.standing(), None).await;
    let right = server.connect("me:secret@/closed", LONG);
    let first = right.contend(leader("right"));
    let tenure = elected(&mut first.standing(), None).await;

    let raw = Client::connect(&format!("127.0.0.1:{}", server.port))
        .await
        .expect("connects");
    let acl = |path: &'static str| {
        let raw = &raw;
        async move {
            let (acls, _) = raw.get_acl(path).await.expect("read");
            let text = acls
                .iter()
                .map(|acl| format!("{}={}", acl.scheme(), acl.permission()));
            text.collect::<Vec<_>>().join(" ")
        }
    };
    assert_eq!(acl("/open").await, "world=ALL");
    assert_eq!(acl("/open/json.info_0000000000").await, "world=ALL");
    assert_eq!(acl("/closed").await, "world=READ digest=ALL");
    assert_eq!(
        acl("/closed/json.info_0000000000").await,
        "world=READ digest=ALL"
    );

    let wrong = server.connect("me:guess@/closed", LONG);
    let second = wrong.contend(leader("wrong"));
    let why = wait_for(
        &mut second.standing(),
        "a refusal",
        |standing| match standing {
            Standing::Refused(why) => Some(why.to_string()),
            _ => None,
        },
    )
    .await;
    assert!(
        why.contains("/closed") && why.contains("credentials"),
        "{why}"
    );
    assert!(!why.contains("guess"), "{why}");
    // To look is free.
    follows(&mut wrong.watch(), "right").await;
    assert!(first.lease(&tenure).may_act());
}
