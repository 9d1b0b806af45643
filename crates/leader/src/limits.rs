//! `--rate_limits`: how many messages of drivers are handled per second (`Master::consume`,
//! `throttled` and `exceededCapacity` in `src/master/master.cpp`,
//! `docs/framework-rate-limiting.md`).
//!
//! One queue per principal that has a limit, and one that all others share. A message for which
//! there is no permit waits; when too many wait, it is dropped and its sender gets an error, which
//! makes a driver abort. That a link broke waits in the same queue, so that what was sent before is
//! handled before. Only drivers that are registered are limited: as in the reference neither
//! followers nor v1 schedulers are.
//!
//! Bound: a principal without a capacity, or with a greater one, has [`WAITING_MAX`].

use crate::{Leader, Level, ProcessName, timers::Timer};
use std::{collections::BTreeMap, collections::VecDeque, time::Duration};
use tepui_model::Time;
use tepui_protocol::{
    json,
    peer::{PeerMessage, Pid},
    v1,
};

/// Most messages that wait in one queue, whatever the capacity says.
pub const WAITING_MAX: usize = 1_000_000;

/// Permits of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    /// Between two messages.
    interval: Duration,
    /// Messages that may wait.
    capacity: usize,
}

/// Who may send how much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// By principal. Who is named without a rate is not limited.
    principals: BTreeMap<String, Option<Rate>>,
    /// What all that are not named share.
    others: Option<Rate>,
}

/// Why limits are not.
#[derive(Debug, thiserror::Error)]
pub enum RateLimitsError {
    /// Not the JSON it has to be.
    #[error("{0}")]
    Json(#[from] json::JsonError),
    /// A principal with two limits.
    #[error("Duplicate principal {0} found in RateLimits configuration")]
    Duplicate(String),
    /// A rate that lets nothing through, or none.
    #[error("Invalid {field}: {value}. It must be a positive number")]
    Rate {
        /// `qps` or `aggregate_default_qps`.
        field: &'static str,
        /// What it says.
        value: f64,
    },
}

impl RateLimits {
    /// Reads the JSON form.
    pub fn parse(text: &str) -> Result<Self, RateLimitsError> {
        let limits: v1::RateLimits = json::decode(text.as_bytes())?;
        let mut principals = BTreeMap::new();
        for limit in limits.limits {
            let rate = rate("qps", limit.qps, limit.capacity)?;
            if principals.insert(limit.principal.clone(), rate).is_some() {
                return Err(RateLimitsError::Duplicate(limit.principal));
            }
        }
        let (qps, capacity) = (
            limits.aggregate_default_qps,
            limits.aggregate_default_capacity,
        );
        let others = rate("aggregate_default_qps", qps, capacity)?;
        Ok(Self { principals, others })
    }
}

fn rate(
    field: &'static str,
    qps: Option<f64>,
    capacity: Option<u64>,
) -> Result<Option<Rate>, RateLimitsError> {
    let Some(qps) = qps else {
        return Ok(None);
    };
    if qps.is_nan() || qps <= 0.0 {
        return Err(RateLimitsError::Rate { field, value: qps });
    }
    let capacity = capacity.and_then(|capacity| usize::try_from(capacity).ok());
    Ok(Some(Rate {
        interval: Duration::try_from_secs_f64(1.0 / qps).unwrap_or(Duration::MAX),
        capacity: capacity.unwrap_or(WAITING_MAX).min(WAITING_MAX),
    }))
}

/// The queue of a principal, or the one of all others.
pub(crate) type QueueName = Option<String>;

/// What waits.
#[derive(Debug)]
enum Waiting {
    Message(Pid, ProcessName, PeerMessage),
    Broken(Pid),
}

#[derive(Debug)]
struct Queue {
    rate: Rate,
    /// When there is a permit again.
    next: Time,
    waiting: VecDeque<Waiting>,
}

impl Queue {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            next: Time::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Takes a permit if there is one and nobody is before.
    fn try_acquire(&mut self, now: Time) -> bool {
        let free = self.waiting.is_empty() && self.next <= now;
        if free {
            self.next = now + self.rate.interval;
        }
        free
    }
}

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    principals: BTreeMap<String, Option<Queue>>,
    others: Option<Queue>,
}

impl Limits {
    pub(crate) fn new(limits: Option<&RateLimits>) -> Self {
        let Some(limits) = limits else {
            return Self::default();
        };
        let queue =
            |(principal, rate): (&String, &Option<Rate>)| (principal.clone(), rate.map(Queue::new));
        Self {
            principals: limits.principals.iter().map(queue).collect(),
            others: limits.others.map(Queue::new),
        }
    }

    fn queue(&mut self, principal: Option<&str>) -> Option<(QueueName, &mut Queue)> {
        if let Some(principal) = principal
            && let Some(own) = self.principals.get_mut(principal)
        {
            return own
                .as_mut()
                .map(|queue| (Some(principal.to_owned()), queue));
        }
        self.others.as_mut().map(|queue| (None, queue))
    }

    fn named(&mut self, name: &QueueName) -> Option<&mut Queue> {
        match name {
            Some(principal) => self.principals.get_mut(principal)?.as_mut(),
            None => self.others.as_mut(),
        }
    }

    fn all(&self) -> impl Iterator<Item = (QueueName, &Queue)> {
        let named =
            |(name, queue): (&String, _)| Some((Some(name.clone()), Option::as_ref(queue)?));
        let others = self.others.iter().map(|queue| (None, queue));
        self.principals.iter().filter_map(named).chain(others)
    }
}

impl Leader {
    /// A message, at its time. Those of registered drivers are counted and may have to wait.
    pub(crate) fn peer(&mut self, from: Pid, to: ProcessName, message: PeerMessage) {
        let Some(driver) = self.state.driver_at(&from) else {
            return self.take_message(from, to, message);
        };
        let info = driver.info.clone();
        let principal = info.principal.as_deref();
        self.count_received(principal);
        let now = self.now;
        let Some((name, queue)) = self.limits.queue(principal) else {
            return self.handle_driver(from, to, message);
        };
        let capacity = queue.rate.capacity;
        if queue.waiting.len() >= capacity {
            let text = format!(
                "Message {} dropped: capacity({capacity}) exceeded",
                message.name()
            );
            self.notice(Level::Warning, format!("{from}: {text}"));
            return self.driver_error(from, text);
        }
        if queue.try_acquire(now) {
            return self.handle_driver(from, to, message);
        }
        let at = queue.next;
        queue.waiting.push_back(Waiting::Message(from, to, message));
        self.timers.set(Timer::Permit(name), at);
    }

    /// A driver's link broke: behind what it said before.
    pub(crate) fn peer_link_broken(&mut self, pid: Pid) {
        let driver = self.state.driver_at(&pid);
        let info = driver.map(|framework| framework.info.clone());
        let now = self.now;
        let queue = info.and_then(|info| self.limits.queue(info.principal.as_deref()));
        let Some((name, queue)) = queue else {
            return self.link_broken(&pid);
        };
        if queue.waiting.len() > WAITING_MAX || queue.try_acquire(now) {
            return self.link_broken(&pid);
        }
        let at = queue.next;
        queue.waiting.push_back(Waiting::Broken(pid));
        self.timers.set(Timer::Permit(name), at);
    }

    /// There is a permit for the first that waits.
    pub(crate) fn permit(&mut self, name: QueueName) {
        let now = self.now;
        let Some(queue) = self.limits.named(&name) else {
            return;
        };
        let Some(first) = queue.waiting.pop_front() else {
            return;
        };
        queue.next = now + queue.rate.interval;
        if !queue.waiting.is_empty() {
            let at = queue.next;
            self.timers.set(Timer::Permit(name), at);
        }
        match first {
            Waiting::Message(from, to, message) => self.handle_driver(from, to, message),
            Waiting::Broken(pid) => self.link_broken(&pid),
        }
    }

    fn handle_driver(&mut self, from: Pid, to: ProcessName, message: PeerMessage) {
        // Who it is now: the message may end its framework.
        let info = self.state.driver_at(&from).map(|f| f.info.clone());
        self.take_message(from, to, message);
        if let Some(info) = info {
            self.count_processed(info.principal.as_deref());
        }
    }

    pub(crate) fn check_limits(&self) {
        for (name, queue) in self.limits.all() {
            assert!(queue.waiting.len() <= WAITING_MAX + 1, "few messages wait");
            assert_eq!(
                self.timers.is_set(&Timer::Permit(name.clone())),
                !queue.waiting.is_empty(),
                "the queue of {name:?} moves on exactly while something waits"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_form_is_read() {
        let limits = RateLimits::parse(
            r#"{"limits": [{"principal": "foo", "qps": 0.5, "capacity": 100000},
                           {"principal": "bar", "qps": 300}, {"principal": "baz"}],
                "aggregate_default_qps": 333, "aggregate_default_capacity": 1000000}"#,
        );
        let limits = limits.expect("valid limits");
        let foo = Rate {
            interval: Duration::from_secs(2),
            capacity: 100_000,
        };
        assert_eq!(limits.principals["foo"], Some(foo));
        assert_eq!(
            limits.principals["bar"].map(|rate| rate.capacity),
            Some(WAITING_MAX)
        );
        assert_eq!(limits.principals["baz"], None);
        assert!(limits.others.is_some());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let cases = [
            (
                r#"{"limits": [{"principal": "a"}, {"principal": "a"}]}"#,
                "Duplicate principal a found in RateLimits configuration",
            ),
            (
                r#"{"limits": [{"principal": "a", "qps": 0}]}"#,
                "Invalid qps: 0. It must be a positive number",
            ),
            (
                r#"{"aggregate_default_qps": -1.5}"#,
                "Invalid aggregate_default_qps: -1.5. It must be a positive number",
            ),
        ];
        for (text, expected) in cases {
            let error = RateLimits::parse(text).expect_err(text);
            assert_eq!(error.to_string(), expected);
        }
        assert!(RateLimits::parse("[]").is_err());
        assert!(RateLimits::parse(r#"{"limits": [{"qps": 1}]}"#).is_err());
    }
}
