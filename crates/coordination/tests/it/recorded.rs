//! What three masters of the reference had in ZooKeeper (`tests/data/members.json`).

use serde_json::Value;
use tepui_coordination::{Member, encode_member, leader_pid};

fn recorded() -> Vec<(String, String)> {
    let znodes: Value = serde_json::from_str(include_str!("../data/members.json")).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let znodes = znodes.as_array().expect("a list").iter();
    znodes
        .map(|z| (text(&z["name"]), text(&z["text"])))
        .collect()
}

#[test]
fn members_of_the_reference_are_read_and_written_byte_for_byte() {
    let mut members = 0;
    for (name, text) in recorded() {
        let Some(member) = Member::parse(&name) else {
            assert_eq!(name, "log_replicas");
            continue;
        };
        members += 1;
        assert_eq!(member.to_string(), name);
        let info = member.decode(text.as_bytes()).expect("understood");
        assert_eq!(
            String::from_utf8(encode_member(&info)).expect("UTF-8"),
            text
        );
        let pid = leader_pid(&info).expect("an address");
        assert_eq!(Some(pid.to_string()), info.pid);
        // The same without the pid, and without both.
        let mut other = info.clone();
        other.pid = None;
        assert_eq!(leader_pid(&other).as_ref(), Some(&pid));
        other.address = None;
        assert_eq!(leader_pid(&other), Some(pid));
    }
    assert_eq!(members, 3);
}

#[test]
fn the_old_format_is_read() {
    use prost::Message;
    let (_, text) = recorded().remove(0);
    let json = Member::parse("json.info_0000000001").expect("a member");
    let info = json.decode(text.as_bytes()).expect("understood");
    let old = Member::parse("info_0000000007").expect("a member");
    assert_eq!(
        (old.sequence(), old.to_string().as_str()),
        (7, "info_0000000007")
    );
    assert_eq!(old.decode(&info.encode_to_vec()).expect("understood"), info);
    assert!(old < Member::parse("json.info_0000000008").expect("a member"));
}

#[test]
fn what_is_no_member_is_passed_over_and_nonsense_is_an_error() {
    for name in [
        "log_replicas",
        "tepui",
        "0000000001",
        "info",
        "info_",
        "json.info_1x",
        "json.info_-1",
        "other_0000000001",
        "json.info_99999999999",
        "",
    ] {
        assert!(Member::parse(name).is_none(), "{name}");
    }
    let json = Member::parse("json.info_0000000001").expect("a member");
    for data in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"id":"x"}"#,
        r#"{"id":1,"ip":"x","port":-1}"#,
    ] {
        assert!(json.decode(data.as_bytes()).is_err(), "{data}");
    }
    let old = Member::parse("info_0000000001").expect("a member");
    for data in [&b""[..], b"\xff\xff", b"{}"] {
        assert!(old.decode(data).is_err(), "{data:?}");
    }
}

#[test]
fn a_leader_that_does_not_say_where_it_is_has_no_address() {
    let json = Member::parse("json.info_0000000001").expect("a member");
    for (text, expected) in [
        (r#"{"id":"a","ip":0,"port":5050}"#, None),
        (r#"{"id":"a","ip":16777343,"port":0}"#, None),
        (r#"{"id":"a","ip":16777343,"port":70000}"#, None),
        (
            r#"{"id":"a","ip":16777343,"port":5050,"pid":"nonsense"}"#,
            Some("master@127.0.0.1:5050"),
        ),
        (
            r#"{"id":"a","ip":0,"port":1,"address":{"ip":"::1","port":5051}}"#,
            Some("master@[::1]:5051"),
        ),
        (
            r#"{"id":"a","ip":0,"port":1,"address":{"hostname":"h","port":5051}}"#,
            None,
        ),
        (
            r#"{"id":"a","ip":0,"port":1,"pid":"master@10.0.0.1:0"}"#,
            None,
        ),
    ] {
        let info = json.decode(text.as_bytes()).expect("understood");
        let pid = leader_pid(&info).map(|pid| pid.to_string());
        assert_eq!(pid.as_deref(), expected, "{text}");
    }
}
