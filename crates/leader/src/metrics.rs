//! Counters of the core, under the reference's names (`docs/monitoring.md`).

/// Counters that the core keeps; gauges are computed from the view when somebody asks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// By name, such as `master/messages_register_slave`.
    pub counters: std::collections::BTreeMap<&'static str, u64>,
}
