//! The shape of a JSON document: which fields there are and of what kind, not what they say.
//!
//! Two documents have the same shape when every object has the same fields and every value the same kind. Elements of an
//! array are taken together: an array of frameworks compares with another by what its elements have between them, so that
//! an empty one matches any.

use std::collections::BTreeMap;

use serde_json::Value;

/// Where two shapes differ: a path like `/frameworks/*/id` and what is different there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Field names and `*` for "any element", from the root.
    pub path: String,
    /// What is different.
    pub what: String,
}

/// How `actual`'s shape differs from `expected`'s.
pub fn differences(expected: &Value, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", &[expected], &[actual], &mut found);
    found.sort();
    found.dedup();
    found
}

fn compare(path: &str, expected: &[&Value], actual: &[&Value], found: &mut Vec<Difference>) {
    let (wanted, got) = (kinds(expected), kinds(actual));
    // Nothing to compare with: an empty list on either side says nothing about its elements.
    if wanted.is_empty() || got.is_empty() {
        return;
    }
    if wanted.keys().ne(got.keys()) {
        let names = |kinds: &BTreeMap<&'static str, Vec<&Value>>| {
            kinds.keys().copied().collect::<Vec<_>>().join(" or ")
        };
        found.push(Difference {
            path: path.to_owned(),
            what: format!("expected {}, got {}", names(&wanted), names(&got)),
        });
    }
    if let (Some(wanted), Some(got)) = (wanted.get("object"), got.get("object")) {
        compare_objects(path, wanted, got, found);
    }
    if let (Some(wanted), Some(got)) = (wanted.get("array"), got.get("array")) {
        let elements = |arrays: &[&'_ Value]| -> Vec<Value> {
            arrays
                .iter()
                .filter_map(|array| array.as_array())
                .flatten()
                .cloned()
                .collect()
        };
        let (wanted, got) = (elements(wanted), elements(got));
        compare(
            &format!("{path}/*"),
            &wanted.iter().collect::<Vec<_>>(),
            &got.iter().collect::<Vec<_>>(),
            found,
        );
    }
}

fn compare_objects(
    path: &str,
    expected: &[&Value],
    actual: &[&Value],
    found: &mut Vec<Difference>,
) {
    let (wanted, got) = (fields(expected), fields(actual));
    for (name, values) in &wanted {
        let below = format!("{path}/{name}");
        match got.get(name) {
            Some(others) => compare(&below, values, others, found),
            None => found.push(Difference {
                path: below,
                what: "missing".to_owned(),
            }),
        }
    }
    for name in got.keys().filter(|name| !wanted.contains_key(*name)) {
        found.push(Difference {
            path: format!("{path}/{name}"),
            what: "not expected".to_owned(),
        });
    }
}

fn fields<'a>(objects: &[&'a Value]) -> BTreeMap<&'a str, Vec<&'a Value>> {
    let mut fields: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for (name, value) in objects
        .iter()
        .filter_map(|object| object.as_object())
        .flatten()
    {
        fields.entry(name).or_default().push(value);
    }
    fields
}

fn kinds<'a>(values: &[&'a Value]) -> BTreeMap<&'static str, Vec<&'a Value>> {
    let mut kinds: BTreeMap<&'static str, Vec<&Value>> = BTreeMap::new();
    for value in values {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        kinds.entry(kind).or_default().push(value);
    }
    kinds
}

/// Whether a path matches a pattern: `*` stands for one step, `**` for any number of them.
pub fn path_matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    steps_match(&pattern, &path)
}

fn steps_match(pattern: &[&str], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((&"**", rest)) => (0..=path.len()).any(|taken| steps_match(rest, &path[taken..])),
        Some((first, rest)) => path.split_first().is_some_and(|(step, below)| {
            (*first == "*" || first == step) && steps_match(rest, below)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(expected: Value, actual: Value) -> Vec<String> {
        differences(&expected, &actual)
            .into_iter()
            .map(|found| format!("{} {}", found.path, found.what))
            .collect()
    }

    #[test]
    fn values_do_not_count_but_fields_and_kinds_do() {
        assert_eq!(
            paths(
                json!({"a": 1, "b": [true]}),
                json!({"a": 2, "b": [false, true]})
            ),
            [""; 0]
        );
        assert_eq!(
            paths(
                json!({"a": 1, "b": "x", "c": 1}),
                json!({"a": "1", "b": "y", "d": 1})
            ),
            [
                "/a expected number, got string",
                "/c missing",
                "/d not expected"
            ]
        );
    }

    #[test]
    fn elements_are_taken_together_and_an_empty_list_matches() {
        assert_eq!(
            paths(json!([{"a": 1}, {"b": 1}]), json!([{"a": 1, "b": 2}])),
            [""; 0]
        );
        assert_eq!(paths(json!({"l": [{"a": 1}]}), json!({"l": []})), [""; 0]);
        assert_eq!(
            paths(json!({"l": [{"a": 1}]}), json!({"l": [{"b": 1}]})),
            ["/l/*/a missing", "/l/*/b not expected"]
        );
    }

    #[test]
    fn patterns_stand_for_steps() {
        assert!(path_matches("/flags/*", "/flags/port"));
        assert!(!path_matches("/flags/*", "/flags/a/b"));
        assert!(path_matches("/**/id", "/a/*/id"));
        assert!(path_matches("/flags/**", "/flags/a/b"));
        assert!(!path_matches("/a", "/b"));
    }
}
