//! Frameworks that hold offers and do not answer them: what they hold is of no use to anybody.
//!
//! Two things are done about it. The allocator gives a framework no more than a share of the cluster in offers
//! (`--max_held_offers_share`); and whoever has held an offer for long is named in the log (`--held_offers_alarm`), again each
//! time that it has been twice as long. The reference has neither, and only takes offers back after `--offer_timeout`.

use crate::{Leader, Level, ask::names::counted, timers::Timer};
use std::time::Duration;
use tepui_model::{FrameworkId, units::format_duration};

impl Leader {
    /// A framework was made offers.
    pub(crate) fn watch_offers_of(&mut self, id: &FrameworkId) {
        let timer = Timer::HeldOffers(id.clone());
        if let Some(patience) = self.config.held_offers_alarm
            && !self.timers.is_set(&timer)
        {
            self.timers.set(timer, self.now + patience);
        }
    }

    /// Whoever holds an offer for too long is named.
    pub(crate) fn held_offers_due(&mut self, id: &FrameworkId) {
        let Some(patience) = self.config.held_offers_alarm else {
            return;
        };
        let framework = self.state.framework(id);
        let since = framework.and_then(|f| f.offers.values().map(|out| out.since).min());
        // Nothing held: the next offer sets the timer again.
        let Some(since) = since else {
            return;
        };
        let age = self.now.since(since);
        let timer = Timer::HeldOffers(id.clone());
        if age < patience {
            self.timers.set(timer, since + patience);
            return;
        }
        self.timers.set(timer, self.now + age);
        self.alarm(id, age);
    }

    fn alarm(&mut self, id: &FrameworkId, age: Duration) {
        self.count("tepui/offers/alarms");
        let Some(framework) = self.state.framework(id) else {
            return;
        };
        let offers = counted(framework.offers.size(), "offer");
        let held = framework.offered.quantities();
        let principal = match &framework.info.principal {
            Some(principal) => format!(" of principal {principal}"),
            None => String::new(),
        };
        let share = self.allocator.share(&held) * 100.0;
        let age = format_duration(Duration::from_secs(age.as_secs()));
        let budget = match self.allocator.offers_held(id) {
            Some((_, true)) => "; it gets no more until it answers some (--max_held_offers_share)",
            _ => "",
        };
        let text = format!(
            "ALARM: framework {id} ({}){principal} holds {offers} of {held}, {share:.1}% of the cluster, the oldest for {age}{budget}",
            framework.info.name
        );
        self.notice(Level::Warning, text);
    }
}
