//! A whole cluster in one process, from one seed: the production cores among simulated networks,
//! disks, processes and ZooKeeper.
//!
//! A [`Plan`] says who there is and what goes wrong when; [`run`] plays it and says what did not
//! hold. Everything that the plan leaves open is decided by its seed, so the same plan is the same run
//! to the last message.
//!
//! | there is | in |
//! |---|---|
//! | events, hosts, what travels | `event`, `env` |
//! | leaders: the shell around `tepui_leader::Leader` | `leader`, `candidate` |
//! | followers: around `tepui_follower::Follower` and executor cores | `follower`, `locals`, `disk`, `processes` |
//! | schedulers | `framework` |
//! | an operator who drains machines | `operator` |
//! | connections, sessions | `network`, `zookeeper` |
//! | faults | `plan`, `world` |
//! | what must hold | `check`, `world` (at the end) |
//! | smaller plans that still fail | `shrink` |

mod candidate;
mod check;
mod disk;
mod env;
mod event;
mod follower;
mod framework;
mod leader;
mod locals;
mod network;
mod operator;
mod plan;
mod processes;
pub mod shrink;
mod world;
mod zookeeper;

pub use event::Host;
pub use plan::{Fault, Plan, Planned, Unreadable};
pub use tepui_model::planted::{Planted, planted};
pub use world::Outcome;

use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// How to play a plan.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Says what happens, on standard error.
    pub trace: bool,
    /// Cores check themselves after every so many of their steps.
    pub check_every: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trace: false,
            check_every: 8,
        }
    }
}

/// Plays a plan. A core that panics has failed.
pub fn run(plan: &Plan, options: Options) -> Outcome {
    let world = World::new(plan.clone(), options.trace, options.check_every);
    catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome {
            failure: Some(format!("panic: {}", text.unwrap_or_default())),
            at: std::time::Duration::ZERO,
            events: 0,
            terms: 0,
            updates: 0,
            hash: 0,
        }
    })
}
