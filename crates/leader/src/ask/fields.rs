//! Reading requests in JSON: what is wrong is named by its place, such as `changes[2].set_quota.role`.

use serde_json::{Map, Value};
use std::{collections::BTreeSet, sync::Arc};
use tepui_allocator::FrameworkCapabilities;
use tepui_model::{Quantities, Scalar, resources::Name, roles};
use thiserror::Error;

/// A request that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct AskError(pub(super) String);

pub(super) type Asked<T> = Result<T, AskError>;

/// An object of a request.
pub(super) struct Fields<'a> {
    /// Where it is; empty for the whole request.
    place: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// An object that has no fields but these.
    pub(super) fn new(place: &str, value: &'a Value, known: &[&str]) -> Asked<Self> {
        let Some(map) = value.as_object() else {
            return Err(wrong(place, "an object is expected"));
        };
        let fields = Self {
            place: place.to_owned(),
            map,
        };
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => {
                let known = known.join(", ");
                Err(wrong(
                    &fields.at(key),
                    &format!("there is no such field here, only {known}"),
                ))
            }
            None => Ok(fields),
        }
    }

    /// The place of a field.
    pub(super) fn at(&self, name: &str) -> String {
        match self.place.is_empty() {
            true => name.to_owned(),
            false => format!("{}.{name}", self.place),
        }
    }

    /// A field; null is as good as none.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Asked<Option<&'a str>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_str() {
            Some(text) if !text.is_empty() => Ok(Some(text)),
            _ => Err(wrong(&self.at(name), "a text is expected")),
        }
    }

    pub(super) fn needed(&self, name: &str) -> Asked<&'a str> {
        self.text(name)?
            .ok_or_else(|| wrong(&self.at(name), "it is needed"))
    }

    pub(super) fn role(&self, name: &str) -> Asked<Option<Arc<str>>> {
        self.text(name)?
            .map(|text| role(&self.at(name), text))
            .transpose()
    }

    pub(super) fn needed_role(&self, name: &str) -> Asked<Arc<str>> {
        role(&self.at(name), self.needed(name)?)
    }

    pub(super) fn number(&self, name: &str) -> Asked<f64> {
        let number = self.get(name).and_then(Value::as_f64);
        number.ok_or_else(|| wrong(&self.at(name), "a number is expected"))
    }

    /// A count from 1 to `most`; `default` if there is none.
    pub(super) fn count(&self, name: &str, default: u32, most: u32) -> Asked<u32> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        count
            .filter(|count| (1..=most).contains(count))
            .ok_or_else(|| {
                wrong(
                    &self.at(name),
                    &format!("a whole number from 1 to {most} is expected"),
                )
            })
    }

    /// Amounts, as text (`cpus:1;mem:64`) or as an object (`{"cpus": 1}`); nothing if there are none.
    pub(super) fn quantities(&self, name: &str) -> Asked<Quantities> {
        let amounts = self.amounts(name)?;
        Ok(amounts
            .iter()
            .map(|(name, amount)| (name.as_str(), *amount))
            .collect())
    }

    /// The same, with zeros.
    pub(super) fn amounts(&self, name: &str) -> Asked<Vec<(Name, Scalar)>> {
        let place = self.at(name);
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => amounts(&place, text),
            Some(Value::Object(map)) => (map.iter())
                .map(|(name, value)| {
                    let number = value.as_f64();
                    number
                        .and_then(|number| Some((Name::new(name), amount(number)?)))
                        .ok_or_else(|| wrong(&place, &format!("'{name}' needs an amount")))
                })
                .collect(),
            Some(_) => Err(wrong(
                &place,
                "amounts are expected, such as 'cpus:1;mem:64'",
            )),
        }
    }

    /// Objects in a list; no list is an empty one.
    pub(super) fn list(&self, name: &str, most: usize) -> Asked<Vec<(String, &'a Value)>> {
        let Some(value) = self.get(name) else {
            return Ok(Vec::new());
        };
        let place = self.at(name);
        let Some(list) = value.as_array() else {
            return Err(wrong(&place, "a list is expected"));
        };
        if list.len() > most {
            return Err(wrong(&place, &format!("there may be {most} at most")));
        }
        let placed = list.iter().enumerate();
        Ok(placed
            .map(|(i, value)| (format!("{place}[{i}]"), value))
            .collect())
    }

    /// Capabilities of a framework by their names on the wire.
    pub(super) fn capabilities(&self, name: &str) -> Asked<FrameworkCapabilities> {
        let mut names = BTreeSet::new();
        for (place, value) in self.list(name, 100)? {
            let Some(text) = value.as_str() else {
                return Err(wrong(&place, "the name of a capability is expected"));
            };
            names.insert((place, text));
        }
        let mut has = FrameworkCapabilities::default();
        for (place, text) in names {
            set_capability(&mut has, text)
                .ok_or_else(|| wrong(&place, &format!("'{text}' makes no difference to offers")))?;
        }
        Ok(has)
    }
}

fn set_capability(has: &mut FrameworkCapabilities, name: &str) -> Option<()> {
    let flag = match name {
        "GPU_RESOURCES" => &mut has.gpu_resources,
        "REVOCABLE_RESOURCES" => &mut has.revocable_resources,
        "SHARED_RESOURCES" => &mut has.shared_resources,
        "MULTI_ROLE" => &mut has.multi_role,
        "RESERVATION_REFINEMENT" => &mut has.reservation_refinement,
        "REGION_AWARE" => &mut has.region_aware,
        _ => return None,
    };
    *flag = true;
    Some(())
}

/// The body of a request.
pub(super) fn parse(body: &[u8]) -> Asked<Value> {
    serde_json::from_slice(body).map_err(|error| AskError(format!("The body is no JSON: {error}")))
}

pub(super) fn wrong(place: &str, what: &str) -> AskError {
    match place.is_empty() {
        true => AskError(format!("The request: {what}")),
        false => AskError(format!("{place}: {what}")),
    }
}

pub(super) fn role(place: &str, text: &str) -> Asked<Arc<str>> {
    roles::validate(text).map_err(|error| wrong(place, &error.to_string()))?;
    Ok(Arc::from(text))
}

/// `cpus:1;mem:64`. Zero is an amount.
fn amounts(place: &str, text: &str) -> Asked<Vec<(Name, Scalar)>> {
    let parts = text.split([';', ',']).map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, number) = part
                .split_once(':')
                .ok_or_else(|| wrong(place, &format!("'{part}' is not NAME:AMOUNT")))?;
            let value: Option<f64> = number.trim().parse().ok();
            let value = value.and_then(amount).filter(|_| !name.trim().is_empty());
            let value = value.ok_or_else(|| {
                let text = format!("'{part}' has no amount: only such resources can be asked for");
                wrong(place, &text)
            })?;
            Ok((Name::new(name.trim()), value))
        })
        .collect()
}

/// No more than any cluster has.
fn amount(value: f64) -> Option<Scalar> {
    (value.is_finite() && (0.0..=1e12).contains(&value)).then(|| Scalar::from_f64(value))
}
