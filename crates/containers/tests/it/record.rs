//! Records are read exactly as written; anything else is no record.

use proptest::prelude::*;
use std::path::{Path, PathBuf};
use tepui_containers::record::{self, Facts, HEAD_BYTES, Head, Process, Record, State};
use tepui_model::container::{ContainerId, ExitStatus};

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Running),
        any::<i32>().prop_map(|code| State::Exited(ExitStatus::Code(code))),
        any::<i32>().prop_map(|signal| State::Exited(ExitStatus::Signal(signal))),
        (any::<i32>(), any::<i32>()).prop_map(|(step, errno)| State::Failed { step, errno }),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    (2..i32::MAX, any::<u64>()).prop_map(|(pid, start)| Process { pid, start })
}

prop_compose! {
    fn any_record()(
        state in state(),
        told in any::<bool>(),
        init in process(),
        command in process(),
        boot in "[0-9a-f-]{0,36}",
        cgroup in prop::option::of("/[^\0]{1,20}"),
        sandbox in "[^\0]{0,20}",
        name in "[^\0]{0,40}",
    ) -> Record {
        Record {
            head: Head { state, told },
            init,
            command,
            facts: Facts { boot, cgroup: cgroup.map(PathBuf::from), sandbox: sandbox.into(), name },
        }
    }
}

pub(crate) fn text(record: &Record) -> Vec<u8> {
    let mut text = record.head.line().to_vec();
    let Record { init, command, .. } = record;
    text.extend(format!("init {} {}\n", init.pid, init.start).bytes());
    text.extend(format!("command {} {}\n", command.pid, command.start).bytes());
    text.extend(record.facts.lines());
    text
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(record in any_record()) {
        prop_assert_eq!(record.head.line().len(), HEAD_BYTES);
        prop_assert_eq!(Record::parse(&text(&record)), Some(record));
    }

    #[test]
    fn torn_records_are_none(record in any_record(), at in any::<prop::sample::Index>()) {
        let text = text(&record);
        let at = at.index(text.len());
        prop_assert_eq!(Record::parse(&text[..at]), None);
        // A file whose end never reached the disk.
        let mut zeroed = text[..at].to_vec();
        zeroed.resize(text.len(), 0);
        prop_assert_eq!(Record::parse(&zeroed), None);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Record::parse(&bytes);
    }
}

#[test]
fn the_format_is_this() {
    let record = Record {
        head: Head {
            state: State::Exited(ExitStatus::Code(3)),
            told: true,
        },
        init: Process {
            pid: 10,
            start: 1000,
        },
        command: Process {
            pid: 11,
            start: 1001,
        },
        facts: Facts {
            boot: "b".into(),
            cgroup: None,
            sandbox: "/s".into(),
            name: "a\\b\nc".into(),
        },
    };
    let head = format!("{:63}\n", "tepui-container 1 code 3, told");
    let rest = "init 10 1000\ncommand 11 1001\nboot b\ncgroup \nsandbox /s\nname a\\\\b\\nc\nend\n";
    assert_eq!(String::from_utf8(text(&record)), Ok(head + rest));
}

#[test]
fn records_lie_in_each_other_as_containers_do() {
    let nested = ContainerId::top("a").nested("b").nested("c");
    assert_eq!(
        record::directory(Path::new("/s"), &nested),
        Some("/s/a/containers/b/containers/c".into())
    );
    for bad in ["", ".", "..", "a/b", "lock", "a\0"] {
        assert_eq!(
            record::directory(Path::new("/s"), &ContainerId::top(bad)),
            None
        );
        let below = ContainerId::top(bad).nested("n");
        assert_eq!(record::directory(Path::new("/s"), &below), None);
    }
}
