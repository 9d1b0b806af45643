//! `--modules`: parameters for what is built in under the names that the reference loads from libraries
//! (`include/mesos/module/module.proto`, `docs/modules.md`). No library is ever loaded, so a name that is
//! not built in is an error: what was asked for would not happen.

use crate::{estimator::Estimator, qos::LoadController};
use serde_json::Value;
use std::collections::BTreeMap;

/// What can be configured.
const BUILT_IN: [&str; 2] = [Estimator::FIXED, LoadController::NAME];

/// Parameters by module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules(BTreeMap<String, Vec<(String, String)>>);

impl Modules {
    /// Reads the JSON of the flag. Where a list is due, one object stands for a list of one: the
    /// reference's documentation writes it so.
    pub fn parse(text: &str) -> Result<Self, String> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        if !json.is_object() {
            return Err("it is not a JSON object with 'libraries'".to_owned());
        }
        let mut modules = BTreeMap::new();
        for library in list(json.get("libraries")) {
            for module in list(library.get("modules")) {
                let name = text_of(module, "name").ok_or("a module without a 'name'")?;
                if !BUILT_IN.contains(&name) {
                    return Err(format!(
                        "module '{name}' unknown: libraries are not loaded, and what is built in is called {}",
                        BUILT_IN.join(", ")
                    ));
                }
                let parameters: Option<Vec<_>> = list(module.get("parameters"))
                    .iter()
                    .map(|p| {
                        Some((
                            text_of(p, "key")?.to_owned(),
                            text_of(p, "value")?.to_owned(),
                        ))
                    })
                    .collect();
                let parameters = parameters.ok_or_else(|| {
                    format!("a parameter of module '{name}' that is not a 'key' and a 'value'")
                })?;
                if modules.insert(name.to_owned(), parameters).is_some() {
                    return Err(format!("module '{name}' is there twice"));
                }
            }
        }
        Ok(Self(modules))
    }

    /// Of one module; none if the flag does not name it.
    pub fn parameters(&self, name: &str) -> &[(String, String)] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Array(values)) => values,
        Some(value) => std::slice::from_ref(value),
        None => &[],
    }
}

fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}
