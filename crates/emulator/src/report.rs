//! What was counted.

use std::time::Duration;

/// Sums over all followers since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Followers that there are.
    pub followers: u64,
    /// Followers that are registered now.
    pub registered: u64,
    /// Followers that the leader told to shut down.
    pub shut_down: u64,
    /// Followers that the leader would not authenticate.
    pub refused: u64,
    /// Registrations that the leader confirmed.
    pub registrations: u64,
    /// Re-registrations that the leader confirmed.
    pub reregistrations: u64,
    /// Attempts to register or re-register.
    pub attempts: u64,
    /// Times an authentication succeeded.
    pub authentications: u64,
    /// Pings answered.
    pub pings: u64,
    /// Tasks taken.
    pub tasks: u64,
    /// Tasks that are there now.
    pub tasks_now: u64,
    /// Tasks that finished.
    pub tasks_finished: u64,
    /// Tasks that were killed.
    pub tasks_killed: u64,
    /// Status updates sent, repetitions among them.
    pub updates: u64,
    /// Status updates sent again for want of an acknowledgement.
    pub updates_repeated: u64,
    /// Status updates acknowledged.
    pub acknowledgements: u64,
    /// Messages to the leader.
    pub messages_out: u64,
    /// Messages from the leader.
    pub messages_in: u64,
    /// Messages from the leader that were not understood.
    pub messages_unknown: u64,
    /// Links to the leader that broke or could not be made.
    pub links_broken: u64,
}

/// A report and when it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// Since the start.
    pub elapsed: Duration,
    /// When the last of all followers was registered for the first time; none before.
    pub all_registered: Option<Duration>,
    /// What was counted.
    pub report: Report,
}
