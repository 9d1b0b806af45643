//! When to probe a task, with what, and what a probe's outcome means.
//!
//! A *check* reports what it found; a *health check* judges it and may have the task killed
//! (`docs/health-checks.md`, `src/checks/checker_process.cpp`). Both share the [`Prober`], which
//! knows only about time: first after the delay, then an interval after each outcome.

mod check;
mod health;

pub(crate) use check::{Check, empty_status};
pub(crate) use health::Health;

use crate::io::{Probe, ProbeId};
use std::time::Duration;
use tepui_model::Time;
use tepui_protocol::v1;

/// What to probe.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    Http {
        scheme: String,
        host: &'static str,
        port: u16,
        path: String,
    },
    Tcp {
        host: &'static str,
        port: u16,
    },
    Command(v1::CommandInfo),
}

impl Target {
    /// The probe, or the command that still needs a container to run in.
    pub(crate) fn probe(&self) -> Result<Probe, &v1::CommandInfo> {
        match self {
            Self::Http {
                scheme,
                host,
                port,
                path,
            } => Ok(Probe::Http {
                scheme: scheme.clone(),
                host: (*host).to_owned(),
                port: *port,
                path: path.clone(),
            }),
            Self::Tcp { host, port } => Ok(Probe::Tcp {
                host: (*host).to_owned(),
                port: *port,
            }),
            Self::Command(command) => Err(command),
        }
    }
}

/// Decides when the next probe is due.
#[derive(Debug)]
pub(crate) struct Prober {
    pub(crate) target: Target,
    interval: Duration,
    pub(crate) timeout: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Waiting(Time),
    InFlight(ProbeId),
    Stopped,
}

impl Prober {
    fn new(target: Target, now: Time, delay: f64, interval: f64, timeout: f64) -> Self {
        // Zero means that a probe may take as long as it likes.
        let timeout = Some(seconds(timeout))
            .filter(|t| !t.is_zero())
            .unwrap_or(Duration::MAX);
        Self {
            target,
            interval: seconds(interval),
            timeout,
            state: State::Waiting(now + seconds(delay)),
        }
    }

    pub(crate) fn is_due(&self, now: Time) -> bool {
        matches!(self.state, State::Waiting(at) if at <= now)
    }

    pub(crate) fn sent(&mut self, probe: ProbeId) {
        self.state = State::InFlight(probe);
    }

    /// Whether `probe` is the one in flight; if so the next one is scheduled.
    pub(crate) fn answered(&mut self, now: Time, probe: ProbeId) -> bool {
        let ours = self.state == State::InFlight(probe);
        if ours {
            self.state = State::Waiting(now + self.interval);
        }
        ours
    }

    /// No more probes; the one in flight, if any, is to be cancelled.
    pub(crate) fn stop(&mut self) -> Option<ProbeId> {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::InFlight(probe) => Some(probe),
            State::Waiting(_) | State::Stopped => None,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        match self.state {
            State::Waiting(at) => Some(at),
            State::InFlight(_) | State::Stopped => None,
        }
    }
}

/// Negative and absurd numbers are refused by the leader; here they must only not hurt.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}
