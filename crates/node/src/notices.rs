//! What the cores say, in the log. Most of it is provoked by peers, so each level has a budget: a
//! flood of messages that a core ignores must fill neither the disk nor the time of its thread.

use crate::log_budget::LogBudget;
use tepui_model::effects::{Level, Notice};

/// Warnings a second. One is enough to see what is wrong; nobody reads a thousand.
const WARNINGS: u32 = 100;
/// Other lines a second: room for thousands of followers that register at once.
const INFOS: u32 = 5_000;

/// Writes the notices of one core.
#[derive(Debug)]
pub(crate) struct Notices {
    warnings: LogBudget,
    infos: LogBudget,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            warnings: LogBudget::new(WARNINGS),
            infos: LogBudget::new(INFOS),
        }
    }
}

impl Notices {
    /// One line, or a count in a later one.
    pub(crate) fn write(&self, Notice { level, text }: &Notice) {
        match level {
            Level::Debug => tracing::debug!("{text}"),
            Level::Info => match self.infos.take() {
                Some(0) => tracing::info!("{text}"),
                Some(more) => tracing::info!(more, "{text}"),
                None => {}
            },
            Level::Warning => match self.warnings.take() {
                Some(0) => tracing::warn!("{text}"),
                Some(more) => tracing::warn!(more, "{text}"),
                None => {}
            },
            // Never provoked by a peer alone, and never to be missed.
            Level::Error => tracing::error!("{text}"),
        }
    }
}
