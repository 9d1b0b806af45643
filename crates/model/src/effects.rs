//! What all cores share of their contract: the list they put effects on, and words for the log.

use std::sync::Arc;

/// Who asks, once authenticated.
pub type Principal = Arc<str>;

/// Where a core puts its effects, in the order in which they are to be carried out.
#[derive(Debug)]
pub struct Effects<E>(pub Vec<E>);

impl<E> Default for Effects<E> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<E> Effects<E> {
    /// Adds one.
    pub fn push(&mut self, effect: E) {
        self.0.push(effect);
    }
    /// Takes all.
    pub fn drain(&mut self) -> impl Iterator<Item = E> + '_ {
        self.0.drain(..)
    }
}

/// What the log should say; the shell turns it into structured fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How bad.
    pub level: Level,
    /// A full sentence without the time.
    pub text: String,
}

/// Level of a [`Notice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Routine of one entity.
    Debug,
    /// Something an operator may want to follow.
    Info,
    /// Something is wrong with a peer or a request.
    Warning,
    /// An operator has to do something.
    Error,
}
