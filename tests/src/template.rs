//! Fills `$NAME` in strings of a JSON document, so that recorded or written requests can speak of ids only known at run time.

use std::collections::BTreeMap;

use serde_json::Value;

/// Names and what they stand for.
pub type Names = BTreeMap<&'static str, String>;

/// The text with every `$NAME` replaced. Longer names are tried first, so `$OFFER_ID_2` is not `$OFFER_ID` and `_2`.
pub fn fill_text(text: &str, names: &Names) -> String {
    if !text.contains('$') {
        return text.to_owned();
    }
    let mut longest_first: Vec<_> = names.iter().collect();
    longest_first.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    longest_first
        .into_iter()
        .fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("${name}"), value)
        })
}

/// The document with every string filled.
pub fn fill(document: &Value, names: &Names) -> Value {
    match document {
        Value::String(text) => Value::String(fill_text(text, names)),
        Value::Array(values) => {
            Value::Array(values.iter().map(|value| fill(value, names)).collect())
        }
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (fill_text(name, names), fill(value, names)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_filled_everywhere_longest_first() {
        let names = Names::from([("ID", "a".to_owned()), ("ID_2", "b".to_owned())]);
        assert_eq!(
            fill(&json!({"$ID": ["$ID_2/$ID", 1, null]}), &names),
            json!({"a": ["b/a", 1, null]})
        );
        assert_eq!(fill_text("$OTHER", &names), "$OTHER");
    }
}
