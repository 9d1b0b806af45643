//! What the registry asks in the session of the leader.

use crate::server::{Server, elected, leader};
use std::time::Duration;
use tepui_zookeeper::{Error, Op};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_fenced_by_the_znode_of_the_leader() {
    let server = Server::start().await;
    let session = server.connect("/mesos", Duration::from_secs(60));
    let contender = session.contend(leader("a"));
    let tenure = elected(&mut contender.standing(), None).await;
    let fence = || Op::Exists(tenure.member.to_string());
    session
        .make_path("/mesos/tepui/registry")
        .await
        .expect("made");
    session
        .make_path("/mesos/tepui/registry")
        .await
        .expect("is there");

    let key = "/mesos/tepui/registry/epoch".to_owned();
    let create = Op::Create(key.clone(), b"1".to_vec());
    session
        .multi(&[fence(), create.clone()])
        .await
        .expect("written");
    let error = session
        .multi(&[fence(), create])
        .await
        .expect_err("is there");
    assert_eq!(error, Error::NodeExists { operation: 1 });
    let set = |version| Op::Set(key.clone(), b"2".to_vec(), Some(version));
    session
        .multi(&[fence(), Op::Version(key.clone(), 0), set(0)])
        .await
        .expect("written");
    let error = session
        .multi(&[fence(), set(0)])
        .await
        .expect_err("has another version");
    assert_eq!(error, Error::BadVersion { operation: 1 });
    let read = session.read(&key).await.expect("read");
    assert_eq!(
        (read.data.as_slice(), read.version, read.owner),
        (b"2".as_slice(), 1, 0)
    );
    assert_eq!(session.session(), Some(tenure.session));

    // Nobody's leader any more: nothing is written.
    contender.withdraw().await;
    let late = session
        .multi(&[fence(), Op::Delete(key.clone(), None)])
        .await;
    assert_eq!(late, Err(Error::NoNode { operation: 0 }));
    assert_eq!(
        session
            .children("/mesos/tepui/registry")
            .await
            .expect("listed"),
        ["epoch"]
    );
    session
        .multi(&[Op::Delete(key, Some(1))])
        .await
        .expect("deleted");
    session.close().await;
    assert_eq!(session.read("/mesos").await, Err(Error::ConnectionLoss));
}
