//! Logs that leaders of the reference left: one recorded, one made by real LevelDB and real
//! Subversion, and what becomes of damaged ones.

#![expect(
    clippy::disallowed_methods,
    reason = "the logs are files, and a test is no core"
)]

use proptest::prelude::*;
use prost::Message;
use std::{collections::BTreeMap, path::Path};
use tepui_journal::{
    registry::{Step, assemble, disassemble},
    replicated_log::{
        self, LogError, Remark,
        leveldb::{self, Files, LevelDbError},
    },
};
use tepui_protocol::{
    internal::Registry,
    json::{self, Names},
    wire,
};

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn files(name: &str) -> Files {
    let entries = std::fs::read_dir(data(name)).expect("a directory");
    let read = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let content = std::fs::read(entry.path()).expect("a file");
        (entry.file_name().to_string_lossy().into_owned(), content)
    });
    read.collect()
}

#[test]
fn a_recorded_log_holds_what_its_leader_held() {
    let log = replicated_log::read(&files("replicated-log-recorded")).expect("readable");
    assert_eq!(log.remarks, []);
    assert_eq!(log.positions, Some((3, 4)));
    let registry = log.registry.expect("a registry");
    // What the leader showed at /registrar(1)/registry.
    let shown = std::fs::read(data("replicated-log-recorded.json")).expect("a file");
    let shown: Registry = json::decode_with(&shown, Names::V0).expect("a registry");
    let mut expected = registry.clone();
    // It shows defaults.
    for follower in &mut expected.slaves.get_or_insert_default().slaves {
        follower.deactivated.get_or_insert(false);
    }
    assert_eq!(shown, expected);
    // And it becomes entries of ours.
    let steps = disassemble(&registry).expect("entries");
    assert_eq!(steps.len(), 2);
    let entries = steps.into_iter().filter_map(|step| match step {
        Step::Put(key, value) => Some((key, value)),
        Step::Remove(_) => None,
    });
    assert_eq!(assemble(entries).expect("a registry"), registry);
}

#[test]
fn snapshots_differences_and_removals_come_to_the_last_state() {
    let log = replicated_log::read(&files("replicated-log-diffs")).expect("readable");
    let expected = std::fs::read(data("replicated-log-diffs.registry")).expect("a file");
    let expected: Registry = wire::decode(expected.into()).expect("a registry");
    assert_eq!(log.registry, Some(expected));
    let last = log.positions.expect("positions").1;
    assert_eq!(log.remarks, [Remark::NotLearned(last)]);
}

#[test]
fn a_torn_tail_is_left_out_and_reported() {
    let whole = files("replicated-log-diffs");
    let log = &whole["000004.log"];
    let mut seen = std::collections::BTreeSet::new();
    for end in (0..log.len()).rev() {
        let mut torn = whole.clone();
        torn.insert("000004.log".to_owned(), log[..end].to_vec());
        let read = replicated_log::read(&torn).expect("readable");
        let positions = read.positions.expect("positions");
        seen.insert(positions.1);
        let says = read.remarks.contains(&Remark::TornTail {
            file: "000004.log".to_owned(),
        });
        let database = leveldb::read(&torn).expect("readable");
        assert_eq!(says, !database.torn.is_empty());
    }
    assert!(seen.len() >= 2, "{seen:?}");
}

#[test]
fn missing_files_are_named() {
    let whole = files("replicated-log-diffs");
    let without = |name: &str| {
        let mut files = whole.clone();
        files.remove(name);
        replicated_log::read(&files).expect_err("missing")
    };
    assert_eq!(without("CURRENT"), LevelDbError::NoDatabase.into());
    for name in ["MANIFEST-000002", "000004.log", "000005.ldb"] {
        let expected = LevelDbError::Missing(name.to_owned());
        assert_eq!(without(name), LogError::LevelDb(expected));
    }
    assert!(replicated_log::read(&Files::new()).is_err());
}

#[test]
fn a_flipped_bit_is_never_taken_for_content() {
    let whole = files("replicated-log-recorded");
    let expected = replicated_log::read(&whole).expect("readable").registry;
    let table = &whole["000010.ldb"];
    for byte in 0..table.len() {
        let mut flipped = whole.clone();
        let mut content = table.clone();
        content[byte] ^= 1 << (byte % 8);
        flipped.insert("000010.ldb".to_owned(), content);
        if let Ok(log) = replicated_log::read(&flipped) {
            assert_eq!(log.registry, expected, "byte {byte}");
        }
    }
}

/// A log in memory: a database with nothing but a log file.
fn database(entries: &[(Vec<u8>, Vec<u8>)]) -> Files {
    let mut batch = 1_u64.to_le_bytes().to_vec();
    batch.extend((entries.len() as u32).to_le_bytes());
    for (key, value) in entries {
        batch.push(1);
        for part in [key, value] {
            prost::encoding::encode_varint(part.len() as u64, &mut batch);
            batch.extend(part);
        }
    }
    // Of the manifest: the log's number.
    let manifest = record(&[2, 3]);
    BTreeMap::from([
        ("CURRENT".to_owned(), b"MANIFEST-000001\n".to_vec()),
        ("MANIFEST-000001".to_owned(), manifest),
        ("000003.log".to_owned(), record(&batch)),
    ])
}

/// One whole record of a log file.
fn record(content: &[u8]) -> Vec<u8> {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&[1]), content);
    let masked = sum.rotate_right(15).wrapping_add(0xa282_ead8);
    let mut record = masked.to_le_bytes().to_vec();
    record.extend((content.len() as u16).to_le_bytes());
    record.push(1);
    record.extend(content);
    record
}

/// A record of the log: an action at a position, learned or not, with these further fields.
fn action(position: u8, learned: bool, rest: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut action = vec![8, position, 16, 1];
    action.extend(rest);
    if learned {
        action.extend([32, 1]);
    }
    let mut value = vec![8, 2, 26, action.len() as u8];
    value.extend(action);
    (format!("{:010}", position + 1).into_bytes(), value)
}

const PERFORMED_NOP: &[u8] = &[24, 1, 40, 1, 50, 0];

#[test]
fn what_a_replica_lacks_is_said() {
    let metadata = |status| (b"0000000000".to_vec(), vec![8, 3, 34, 4, 8, status, 16, 1]);
    let read = |entries: &[_]| replicated_log::read(&database(entries));
    let whole = read(&[metadata(1), action(0, true, PERFORMED_NOP)]).expect("readable");
    assert_eq!((whole.registry, whole.positions), (None, Some((0, 0))));
    let recovering = read(&[metadata(2)]).expect_err("recovering");
    assert_eq!(
        recovering,
        LogError::Incomplete {
            status: "RECOVERING"
        }
    );
    let hole = [
        action(0, true, PERFORMED_NOP),
        action(2, true, PERFORMED_NOP),
    ];
    assert_eq!(read(&hole), Err(LogError::Hole(1)));
    // Promised only, in the middle and at the end.
    let hole = [action(0, false, &[]), action(1, true, PERFORMED_NOP)];
    assert_eq!(read(&hole), Err(LogError::Hole(0)));
    let end = [action(0, true, PERFORMED_NOP), action(1, false, &[])];
    assert_eq!(read(&end).expect("readable").positions, Some((0, 0)));
    // No operation.
    let append = &[24, 1, 40, 2, 58, 3, 10, 1, 0];
    assert_eq!(
        read(&[action(0, true, append)]),
        Err(LogError::Operation(0))
    );
    // Before the log begins, nothing is asked for.
    let truncate = &[24, 1, 40, 3, 66, 2, 8, 7];
    let cut = [
        action(5, true, append),
        action(7, true, PERFORMED_NOP),
        action(8, true, truncate),
    ];
    assert_eq!(read(&cut).expect("readable").positions, Some((7, 8)));
}

proptest! {
    #[test]
    fn rubbish_is_refused_and_never_panics(
        name in 0..4_usize,
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut files = files("replicated-log-diffs");
        let name = files.keys().nth(name).expect("a file").clone();
        let content = files.get_mut(&name).expect("a file");
        let at = at.index(content.len());
        let end = (at + bytes.len()).min(content.len());
        content.splice(at..end, bytes);
        // An error or not; what is read is a registry.
        let _ = replicated_log::read(&files);
    }

    #[test]
    fn any_difference_is_applied_or_refused(
        source in prop::collection::vec(any::<u8>(), 0..50),
        difference in prop::collection::vec(any::<u8>(), 0..50),
        version in 0..2_u8,
    ) {
        let whole = [b"SVN", &[version][..], &difference].concat();
        let _ = replicated_log::svndiff::apply(&source, &whole);
    }

    #[test]
    fn any_registry_in_a_log_is_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        // A snapshot with any value.
        let mut entry = b"\x0a\x08registry\x12\x00\x1a".to_vec();
        prost::encoding::encode_varint(bytes.len() as u64, &mut entry);
        entry.extend(&bytes);
        let mut operation = vec![8, 1, 18];
        prost::encoding::encode_varint(entry.len() as u64 + 2, &mut operation);
        operation.extend([10, entry.len() as u8]);
        operation.extend(entry);
        let mut append = vec![24, 1, 40, 2, 58, operation.len() as u8 + 2, 10, operation.len() as u8];
        append.extend(operation);
        let read = replicated_log::read(&database(&[action(0, true, &append)]));
        match wire::decode::<Registry>(bytes.into()) {
            Ok(registry) => prop_assert_eq!(
                read.expect("readable").registry.map(|r| r.encode_to_vec()),
                Some(registry.encode_to_vec())
            ),
            Err(error) => prop_assert_eq!(read, Err(LogError::Registry(error))),
        }
    }
}
