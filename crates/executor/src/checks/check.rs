//! Checks: report what was found whenever it differs from what was reported before
//! (`src/checks/checker.cpp`).

use super::{Prober, Target};
use crate::io::ProbeOutcome;
use tepui_model::{Time, container::ExitStatus};
use tepui_protocol::v1::{
    CheckInfo, CheckStatusInfo, check_info::Type, check_status_info as found,
};

/// The check of one task.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) prober: Prober,
    kind: Type,
    reported: CheckStatusInfo,
}

impl Check {
    /// `None` when the description is not a check (which the leader would have refused).
    pub(crate) fn new(info: &CheckInfo, now: Time) -> Option<Self> {
        let target = match info.r#type() {
            Type::Command => Target::Command(info.command.as_ref()?.command.clone()),
            Type::Http => {
                let http = info.http.as_ref()?;
                Target::Http {
                    scheme: "http".to_owned(),
                    host: "127.0.0.1",
                    port: u16::try_from(http.port).ok()?,
                    path: http.path().to_owned(),
                }
            }
            Type::Tcp => Target::Tcp {
                host: "127.0.0.1",
                port: u16::try_from(info.tcp.as_ref()?.port).ok()?,
            },
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
            kind: info.r#type(),
            reported: empty_status(info.r#type()),
        })
    }

    /// What to report, if anything.
    pub(crate) fn found(&mut self, outcome: &ProbeOutcome) -> Option<CheckStatusInfo> {
        let status = status(self.kind, outcome);
        (status != self.reported).then(|| {
            self.reported = status;
            status
        })
    }
}

/// "Checked, nothing known": what every status of a checked task carries before there is more.
pub(crate) fn empty_status(kind: Type) -> CheckStatusInfo {
    let mut status = CheckStatusInfo {
        r#type: Some(kind as i32),
        ..Default::default()
    };
    match kind {
        Type::Command => status.command = Some(found::Command::default()),
        Type::Http => status.http = Some(found::Http::default()),
        Type::Tcp => status.tcp = Some(found::Tcp::default()),
        Type::Unknown => {}
    }
    status
}

fn status(kind: Type, outcome: &ProbeOutcome) -> CheckStatusInfo {
    let mut status = empty_status(kind);
    match (kind, outcome) {
        (Type::Command, ProbeOutcome::Exited(ExitStatus::Code(code))) => {
            status.command = Some(found::Command {
                exit_code: Some(*code),
            });
        }
        (Type::Http, ProbeOutcome::Http(code)) => {
            status.http = Some(found::Http {
                status_code: Some(u32::from(*code)),
            });
        }
        (Type::Tcp, ProbeOutcome::Connected) => {
            status.tcp = Some(found::Tcp {
                succeeded: Some(true),
            })
        }
        (Type::Tcp, ProbeOutcome::Failed(_)) => {
            status.tcp = Some(found::Tcp {
                succeeded: Some(false),
            })
        }
        // Timeouts, signals, unreadable answers: the check failed, so nothing is known of the task.
        _ => {}
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_protocol::v1::check_info;

    fn tcp() -> Check {
        let info = CheckInfo {
            r#type: Some(Type::Tcp as i32),
            tcp: Some(check_info::Tcp { port: 80 }),
            ..Default::default()
        };
        Check::new(&info, Time::default()).unwrap()
    }

    #[test]
    fn the_same_finding_is_reported_once() {
        let mut check = tcp();
        let succeeded = |found: Option<CheckStatusInfo>| found.map(|s| s.tcp.unwrap().succeeded);
        assert_eq!(
            succeeded(check.found(&ProbeOutcome::Connected)),
            Some(Some(true))
        );
        assert_eq!(succeeded(check.found(&ProbeOutcome::Connected)), None);
        assert_eq!(
            succeeded(check.found(&ProbeOutcome::Failed(String::new()))),
            Some(Some(false))
        );
        assert_eq!(succeeded(check.found(&ProbeOutcome::TimedOut)), Some(None));
        assert_eq!(succeeded(check.found(&ProbeOutcome::TimedOut)), None);
    }

    #[test]
    fn a_first_probe_that_finds_nothing_reports_nothing() {
        assert_eq!(tcp().found(&ProbeOutcome::TimedOut), None);
    }

    #[test]
    fn a_port_that_is_none_makes_no_check() {
        let info = CheckInfo {
            r#type: Some(Type::Tcp as i32),
            tcp: Some(check_info::Tcp { port: 70_000 }),
            ..Default::default()
        };
        assert!(Check::new(&info, Time::default()).is_none());
    }
}
