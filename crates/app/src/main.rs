//! `tepui`: leader, follower, both on one machine (`mixed`), and the operator's commands.
//!
//! Called as `mesos-master`, `mesos-agent`, `mesos-slave` or `mesos-execute` it takes their place:
//! the same flags, the same variables. [`cli`] decides what to do, [`flags`] and [`vars`] read the
//! settings, [`role`] turns them into running nodes, [`execute`] and [`inspect`] are clients.

#![forbid(unsafe_code)]

mod access;
mod cli;
mod emulate;
mod execute;
mod flags;
mod inspect;
mod logging;
mod nearest;
mod operate;
mod progress;
mod registry;
mod role;
mod settings;
mod table;
mod tls;
mod vars;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    match cli::run(&program, args.collect()) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("\x1b[1;31merror:\x1b[0m {error}");
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}
