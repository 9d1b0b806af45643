//! What `execute` says besides the task's own output.
//!
//! A status line on a terminal, rewritten in place; nothing of that when standard error is not one,
//! so that scripts see only the task. A task that could not run, or was ended by somebody else, says
//! why on standard error in either case: its exit status would not tell. Called as `mesos-execute` it prints the lines of the
//! reference's tool on standard output instead.

use std::io::{IsTerminal, Write};
use tepui_client::proto::TaskStatus;
use tepui_model::tasks::is_terminal;

/// How much to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Silent,
    Terminal,
    Lines,
}

/// Says how a job gets on.
#[derive(Debug)]
pub(crate) struct Progress {
    style: Style,
    shown: bool,
}

impl Progress {
    /// For people: a status line, if anybody looks.
    pub(crate) fn for_people() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            style: if terminal {
                Style::Terminal
            } else {
                Style::Silent
            },
            shown: false,
        }
    }

    /// The lines of `mesos-execute`.
    pub(crate) fn lines() -> Self {
        Self {
            style: Style::Lines,
            shown: false,
        }
    }

    /// Something happened.
    pub(crate) fn line(&mut self, text: &str) {
        match self.style {
            Style::Silent => {}
            Style::Terminal => self.status(text),
            Style::Lines => {
                let _ = writeln!(std::io::stdout(), "{text}");
            }
        }
    }

    /// Something goes on.
    pub(crate) fn status(&mut self, text: &str) {
        if self.style == Style::Terminal {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[2K\x1b[2m{text}\x1b[0m");
            let _ = err.flush();
            self.shown = true;
        }
    }

    /// A task changed its state.
    pub(crate) fn update(&mut self, status: &TaskStatus) {
        let (id, state) = (&status.task_id.value, status.state().as_str_name());
        match self.style {
            Style::Silent => explain(status),
            // The output of the task begins: get out of its way.
            Style::Terminal => match status.state() {
                tepui_client::proto::TaskState::TaskStarting => {
                    self.status(&format!("{id}: starting"))
                }
                _ => {
                    self.clear();
                    explain(status);
                }
            },
            Style::Lines => {
                let mut out = std::io::stdout().lock();
                let _ = writeln!(out, "Received status update {state} for task '{id}'");
                if !status.message().is_empty() {
                    let _ = writeln!(out, "  message: '{}'", status.message());
                }
                if status.source.is_some() {
                    let _ = writeln!(out, "  source: {}", status.source().as_str_name());
                }
                if status.reason.is_some() {
                    let _ = writeln!(out, "  reason: {}", status.reason().as_str_name());
                }
                if let Some(healthy) = status.healthy {
                    let _ = writeln!(out, "  healthy?: {}", u8::from(healthy));
                }
            }
        }
    }

    /// Takes the status line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[2K");
            let _ = err.flush();
        }
    }
}

/// Why a task ended, when it was not its command that ended it.
fn explain(status: &TaskStatus) {
    if is_terminal(status.state()) && status.reason.is_some() {
        let (id, state) = (&status.task_id.value, status.state().as_str_name());
        let (reason, message) = (status.reason().as_str_name(), status.message());
        anstream::eprintln!("\x1b[1;31m{state}\x1b[0m {id}: {message} ({reason})");
    }
}
