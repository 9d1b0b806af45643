//! Bugs that can be switched on, to see whether the simulator finds them. Without the feature
//! `planted` none of this is in a build: [`planted`] is `false`.

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal,)*) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Planted { $($(#[$doc])* $bug,)* }

        impl Planted {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug),*];
            /// What it is called.
            pub fn name(self) -> &'static str {
                match self { $(Self::$bug => $name),* }
            }
        }
    };
}

bugs! {
    /// A leader goes on to act when its lease is over.
    ActsAfterItsLease = "acts-after-its-lease",
    /// Writes to the registry do not check who leads.
    SkipsFencing = "skips-fencing",
    /// A leader tells a follower that it is registered before that is durable.
    AnswersBeforeDurable = "answers-before-durable",
    /// A follower says that a task ended before that is durable.
    ReportsBeforeDurable = "reports-before-durable",
    /// A restarted follower forgets updates that were not acknowledged.
    ForgetsUpdates = "forgets-updates",
    /// Whatever an acknowledgement names, it counts for the update that waits.
    TrustsAcknowledgements = "trusts-acknowledgements",
    /// An executor that ended has its tasks' end reported although they ended before.
    EndsTwice = "ends-twice",
    /// What a task held that was lost on a follower that is still there is not offered again.
    KeepsLostResources = "keeps-lost-resources",
    /// A rescinded offer's resources are not offered again.
    KeepsRescinded = "keeps-rescinded",
    /// A follower that re-registers has one of its tasks ignored.
    DropsRecoveredTask = "drops-recovered-task",
    /// Tasks of a follower that comes back stay unreachable.
    LeavesUnreachable = "leaves-unreachable",
    /// Updates are not sent again.
    NeverRetries = "never-retries",
}

#[cfg(feature = "planted")]
mod switch {
    use super::Planted;
    use std::cell::Cell;

    thread_local!(static BUG: Cell<Option<Planted>> = const { Cell::new(None) });

    impl Planted {
        /// Whether there can be any.
        pub const CAN_BE: bool = true;
        /// Switches one on for this thread, and all others off.
        pub fn plant(bug: Option<Self>) {
            BUG.set(bug);
        }
    }

    /// Whether this bug is on.
    pub fn planted(bug: Planted) -> bool {
        BUG.get() == Some(bug)
    }
}

#[cfg(not(feature = "planted"))]
mod switch {
    use super::Planted;

    impl Planted {
        /// Whether there can be any.
        pub const CAN_BE: bool = false;
        /// Does nothing.
        pub fn plant(_: Option<Self>) {}
    }

    /// Whether this bug is on: never.
    #[inline(always)]
    pub const fn planted(_: Planted) -> bool {
        false
    }
}

pub use switch::planted;
