//! The tolerated differences, from `tests/data/wire-tolerated.jsonl`.
//!
//! A line: `who` (`leader` or `follower`: in whose place we are) and `scenario`, `message` (pattern of "FROM -> TO NAME"; for an
//! event of a v1 API "event NAME"), `what`, and `why`. `lines` limits it to some lines of the recording, `count` says how often
//! it must apply. `what` is one of
//! - `learned PATH`: a value that its sender made up; the first time it is noted, later it must be the same;
//! - `any PATH`: a field that may be there or not and say anything;
//! - `unordered PATH`: a list whose elements come in any order, told apart by their names;
//! - `bytes`: the fields are the same and written in another order;
//! - `missing`: recorded, and not said by us; `extra`: said by us, and not recorded;
//! - `order`: it may come before or after others of its channel;
//! - `not replayed`: neither said nor waited for.

use serde_json::Value;
use tepui_tests::shape::path_matches;
use tepui_tests::{crate_folder, json_lines};

use crate::replay::wildcard;

pub(crate) struct Rules {
    entries: Vec<Value>,
    used: Vec<u64>,
}

impl Rules {
    /// Those for one side and scenario.
    pub(crate) fn read(who: &str, scenario: &str) -> Rules {
        let applies = |entry: &Value| {
            let fits =
                |name: &str, value: &str| wildcard(entry[name].as_str().unwrap_or_default(), value);
            fits("who", who) && fits("scenario", scenario)
        };
        let entries: Vec<Value> = all().into_iter().filter(applies).collect();
        Rules {
            used: vec![0; entries.len()],
            entries,
        }
    }

    /// Whether a rule says `what` (of the field at `path`) of this message, and counts its use.
    pub(crate) fn allow(
        &mut self,
        what: &str,
        path: Option<&str>,
        label: &str,
        line: Option<usize>,
    ) -> bool {
        let found = self.entries.iter().position(|entry| {
            let own = entry["what"].as_str().unwrap_or_default();
            let says = match path {
                Some(path) => own
                    .strip_prefix(what)
                    .is_some_and(|own| path_matches(own.trim(), path)),
                None => own == what,
            };
            says && wildcard(entry["message"].as_str().unwrap_or_default(), label)
                && within(entry, line)
        });
        if let Some(at) = found {
            self.used[at] += 1;
        }
        found.is_some()
    }

    /// Rules that did not apply.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &Value> {
        let both = self.entries.iter().zip(&self.used);
        both.filter(|(_, used)| **used == 0).map(|(entry, _)| entry)
    }

    /// Rules that applied more or less often than they say.
    pub(crate) fn miscounted(&self) -> Vec<String> {
        let both = self.entries.iter().zip(&self.used);
        both.filter(|(entry, used)| entry.get("count").is_some_and(|count| *count != **used))
            .map(|(entry, used)| format!("applied {used} times: {entry}"))
            .collect()
    }
}

fn within(entry: &Value, line: Option<usize>) -> bool {
    let bound = |at: usize| {
        entry["lines"][at]
            .as_u64()
            .and_then(|bound| usize::try_from(bound).ok())
    };
    match (bound(0), bound(1), line) {
        (Some(first), Some(last), Some(line)) => (first..=last).contains(&line),
        (Some(_), ..) => false,
        _ => true,
    }
}

fn all() -> Vec<Value> {
    json_lines(&crate_folder().join("data/wire-tolerated.jsonl"))
}

#[test]
fn every_tolerated_difference_of_the_wire_says_why() {
    for entry in all() {
        for field in ["who", "scenario", "message", "what", "why"] {
            let told = entry[field].as_str().is_some_and(|text| !text.is_empty());
            assert!(told, "{field} of {entry}");
        }
    }
}
