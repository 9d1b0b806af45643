//! Health checks: judge outcomes, forgive early failures, count consecutive ones
//! (`src/checks/health_checker.cpp`).

use super::{Prober, Target, seconds};
use crate::io::ProbeOutcome;
use std::time::Duration;
use tepui_model::Time;
use tepui_protocol::v1::{HealthCheck, health_check::Type, network_info::Protocol};

/// The health check of one task.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) prober: Prober,
    started: Time,
    grace: Duration,
    limit: u32,
    failures: u32,
    /// It has never been healthy.
    initializing: bool,
}

/// Worth a status update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) healthy: bool,
    pub(crate) kill: bool,
}

impl Health {
    /// `None` when the description is not a health check (which the leader would have refused).
    pub(crate) fn new(info: &HealthCheck, now: Time) -> Option<Self> {
        let target = match info.r#type() {
            Type::Command => Target::Command(info.command.clone()?),
            Type::Http => {
                let http = info.http.as_ref()?;
                let host = if http.protocol() == Protocol::IPv6 {
                    "[::1]"
                } else {
                    "127.0.0.1"
                };
                Target::Http {
                    scheme: http.scheme.clone().unwrap_or_else(|| "http".to_owned()),
                    host,
                    port: u16::try_from(http.port).ok()?,
                    path: http.path().to_owned(),
                }
            }
            Type::Tcp => {
                let tcp = info.tcp.as_ref()?;
                let host = if tcp.protocol() == Protocol::IPv6 {
                    "::1"
                } else {
                    "127.0.0.1"
                };
                Target::Tcp {
                    host,
                    port: u16::try_from(tcp.port).ok()?,
                }
            }
            Type::Unknown => return None,
        };
        Some(Self {
            prober: Prober::new(
                target,
                now,
                info.delay_seconds(),
                info.interval_seconds(),
                info.timeout_seconds(),
            ),
            started: now,
            grace: seconds(info.grace_period_seconds()),
            limit: info.consecutive_failures(),
            failures: 0,
            initializing: true,
        })
    }

    /// What to report, if anything.
    pub(crate) fn judge(&mut self, now: Time, outcome: &ProbeOutcome) -> Option<Verdict> {
        if is_healthy(outcome) {
            self.success()
        } else {
            self.failure(now)
        }
    }

    fn success(&mut self) -> Option<Verdict> {
        let news = self.initializing || self.failures > 0;
        self.initializing = false;
        self.failures = 0;
        news.then_some(Verdict {
            healthy: true,
            kill: false,
        })
    }

    fn failure(&mut self, now: Time) -> Option<Verdict> {
        if self.initializing && !self.grace.is_zero() && now.since(self.started) <= self.grace {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        Some(Verdict {
            healthy: false,
            kill: self.failures >= self.limit,
        })
    }
}

fn is_healthy(outcome: &ProbeOutcome) -> bool {
    match outcome {
        ProbeOutcome::Http(status) => (200..400).contains(status),
        ProbeOutcome::Connected => true,
        ProbeOutcome::Exited(status) => status.success(),
        ProbeOutcome::Failed(_) | ProbeOutcome::TimedOut => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_protocol::v1::health_check::TcpCheckInfo;

    fn at(seconds: u64) -> Time {
        Time::default() + Duration::from_secs(seconds)
    }

    fn health(grace: f64, limit: u32) -> Health {
        let info = HealthCheck {
            r#type: Some(Type::Tcp as i32),
            tcp: Some(TcpCheckInfo {
                port: 80,
                ..Default::default()
            }),
            grace_period_seconds: Some(grace),
            consecutive_failures: Some(limit),
            ..Default::default()
        };
        Health::new(&info, at(0)).unwrap()
    }

    const BAD: ProbeOutcome = ProbeOutcome::TimedOut;
    const SICK: Option<Verdict> = Some(Verdict {
        healthy: false,
        kill: false,
    });
    const DEADLY: Option<Verdict> = Some(Verdict {
        healthy: false,
        kill: true,
    });
    const WELL: Option<Verdict> = Some(Verdict {
        healthy: true,
        kill: false,
    });

    #[test]
    fn failures_within_the_grace_period_are_forgiven_until_it_was_healthy_once() {
        let mut health = health(10.0, 3);
        assert_eq!(health.judge(at(5), &BAD), None);
        assert_eq!(health.judge(at(6), &ProbeOutcome::Connected), WELL);
        assert_eq!(health.judge(at(7), &BAD), SICK);
    }

    #[test]
    fn consecutive_failures_beyond_the_limit_are_deadly() {
        let mut health = health(0.0, 2);
        assert_eq!(health.judge(at(1), &BAD), SICK);
        assert_eq!(health.judge(at(2), &ProbeOutcome::Connected), WELL);
        assert_eq!(health.judge(at(3), &ProbeOutcome::Connected), None);
        assert_eq!(health.judge(at(4), &BAD), SICK);
        assert_eq!(health.judge(at(5), &BAD), DEADLY);
    }

    #[test]
    fn redirections_are_healthy_and_client_errors_are_not() {
        assert!(is_healthy(&ProbeOutcome::Http(200)));
        assert!(is_healthy(&ProbeOutcome::Http(302)));
        assert!(!is_healthy(&ProbeOutcome::Http(404)));
        assert!(!is_healthy(&ProbeOutcome::Http(101)));
    }
}
