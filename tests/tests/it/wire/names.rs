//! What recorded ids, addresses and uuids are called in this run.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Recorded texts shorter than this are exchanged only when they are the whole of a value.
const LONG_ENOUGH_INSIDE: usize = 9;

/// Recorded texts and bytes, and what stands for them here.
#[derive(Debug, Default)]
pub(crate) struct Names {
    texts: BTreeMap<String, String>,
    raws: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Names {
    /// From now on `ours` stands for `recorded`.
    pub(crate) fn bind(&mut self, recorded: &str, ours: &str) {
        self.texts.insert(recorded.to_owned(), ours.to_owned());
        // Bytes are base64 in JSON: uuids.
        if let (Ok(recorded), Ok(ours)) = (STANDARD.decode(recorded), STANDARD.decode(ours))
            && recorded.len() == 16
            && ours.len() == 16
        {
            self.raws.insert(recorded, ours);
        }
    }

    /// Whether `recorded` as a whole has a name here.
    pub(crate) fn knows(&self, recorded: &str) -> bool {
        self.texts.contains_key(recorded)
    }

    /// What bytes are exchanged for, as a whole.
    pub(crate) fn raw(&self, recorded: &[u8]) -> Option<&[u8]> {
        self.raws.get(recorded).map(Vec::as_slice)
    }

    /// A text with what it holds exchanged.
    pub(crate) fn text(&self, recorded: &str) -> String {
        if let Some(ours) = self.texts.get(recorded) {
            return ours.clone();
        }
        let mut longest_first: Vec<_> = self
            .texts
            .iter()
            .filter(|(from, _)| from.len() >= LONG_ENOUGH_INSIDE && recorded.contains(*from))
            .collect();
        longest_first.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        longest_first
            .into_iter()
            .fold(recorded.to_owned(), |text, (from, to)| {
                text.replace(from, to)
            })
    }

    /// A document with every string exchanged.
    pub(crate) fn document(&self, recorded: &Value) -> Value {
        match recorded {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(values) => values.iter().map(|value| self.document(value)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), self.document(value)))
                .collect(),
            other => other.clone(),
        }
    }
}
