//! Names of resources: the usual ones take no memory.

use std::{fmt, sync::Arc};

const USUAL: [&str; 6] = ["cpus", "mem", "disk", "ports", "gpus", "ephemeral_ports"];

/// Name of a resource.
#[derive(Clone)]
pub struct Name(Repr);

#[derive(Clone)]
enum Repr {
    Usual(u8),
    Other(Arc<str>),
}

impl Name {
    /// From a text.
    pub fn new(text: &str) -> Self {
        match USUAL.iter().position(|name| *name == text) {
            Some(index) => Self(Repr::Usual(index as u8)),
            None => Self(Repr::Other(text.into())),
        }
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Usual(index) => USUAL[usize::from(*index)],
            Repr::Other(text) => text,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Usual(a), Repr::Usual(b)) => a == b,
            (Repr::Other(a), Repr::Other(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
