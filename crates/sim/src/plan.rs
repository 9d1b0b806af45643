//! What goes wrong, and when: plans, as files and made up from a seed.
//!
//! A plan is lines of words; `#` begins a comment. See `docs/simulator.md`.
//!
//! ```text
//! seed 42
//! leaders 3
//! followers 4
//! frameworks 2
//! tasks 15
//! calm 90s
//! 12.5s crash leader0 for 3s
//! 20s partition leader0 follower1 for 10s
//! ```

use crate::event::Host;
use std::{fmt, time::Duration};
use tepui_model::Rng;

/// Everything that a run depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Decides everything that the plan does not.
    pub seed: u64,
    /// How many processes want to lead.
    pub leaders: u8,
    /// How many machines there are.
    pub followers: u8,
    /// How many schedulers there are.
    pub frameworks: u8,
    /// How many tasks each of them wants to run.
    pub tasks: u32,
    /// From then on nothing goes wrong.
    pub calm: Duration,
    /// What goes wrong before.
    pub faults: Vec<Planned>,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// When.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
    /// What.
    pub fault: Fault,
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A process is killed, and started again afterwards.
    Crash(Host),
    /// A machine fails, and all that runs on it.
    Power(Host),
    /// A process does nothing.
    Pause(Host),
    /// Nothing passes from one to the other; what passes back is not acknowledged.
    Cut(Host, Host),
    /// Nothing passes between two.
    Partition(Host, Host),
    /// Nothing passes between one and all others.
    Isolate(Host),
    /// All connections of a process break at once.
    Reset(Host),
    /// Messages from one to the other take up to so much longer.
    Slow(Host, Host, Duration),
    /// Messages from one to the other arrive twice, or overtake each other, in so many percent.
    Unruly(Host, Host, u8),
    /// ZooKeeper has no quorum.
    NoQuorum,
    /// Nothing can be written to a follower's disk.
    DiskFull(Host),
    /// Each write takes so much longer.
    DiskSlow(Host, Duration),
    /// A clock shows so much more from now on.
    Clock(Host, Duration),
    /// So many percent of the commands cannot be started.
    Launches(Host, u8),
    /// A scheduler leaves so many percent of its updates without the right acknowledgement.
    Careless(Host, u8),
    /// An operator drains a machine, and takes it back afterwards.
    Drain(Host),
}

impl Fault {
    /// Whom it happens to.
    fn hosts(&self) -> [Option<Host>; 2] {
        match self {
            Self::Cut(a, b)
            | Self::Partition(a, b)
            | Self::Slow(a, b, _)
            | Self::Unruly(a, b, _) => [Some(*a), Some(*b)],
            Self::Crash(a)
            | Self::Power(a)
            | Self::Pause(a)
            | Self::Isolate(a)
            | Self::Reset(a)
            | Self::DiskFull(a)
            | Self::DiskSlow(a, _)
            | Self::Clock(a, _)
            | Self::Launches(a, _)
            | Self::Careless(a, _)
            | Self::Drain(a) => [Some(*a), None],
            Self::NoQuorum => [None, None],
        }
    }
}

fn time(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(a) => write!(f, "crash {a}"),
            Self::Power(a) => write!(f, "power {a}"),
            Self::Pause(a) => write!(f, "pause {a}"),
            Self::Cut(a, b) => write!(f, "cut {a} {b}"),
            Self::Partition(a, b) => write!(f, "partition {a} {b}"),
            Self::Isolate(a) => write!(f, "isolate {a}"),
            Self::Reset(a) => write!(f, "reset {a}"),
            Self::Slow(a, b, by) => write!(f, "slow {a} {b} {}", time(*by)),
            Self::Unruly(a, b, share) => write!(f, "unruly {a} {b} {share}"),
            Self::NoQuorum => write!(f, "noquorum"),
            Self::DiskFull(a) => write!(f, "diskfull {a}"),
            Self::DiskSlow(a, by) => write!(f, "diskslow {a} {}", time(*by)),
            Self::Clock(a, by) => write!(f, "clock {a} {}", time(*by)),
            Self::Launches(a, share) => write!(f, "launches {a} {share}"),
            Self::Careless(a, share) => write!(f, "careless {a} {share}"),
            Self::Drain(a) => write!(f, "drain {a}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "leaders {}", self.leaders)?;
        writeln!(f, "followers {}", self.followers)?;
        writeln!(f, "frameworks {}", self.frameworks)?;
        writeln!(f, "tasks {}", self.tasks)?;
        writeln!(f, "calm {}", time(self.calm))?;
        for planned in &self.faults {
            let (at, lasts) = (time(planned.at), time(planned.lasts));
            writeln!(f, "{at} {} for {lasts}", planned.fault)?;
        }
        Ok(())
    }
}

/// A line of a plan is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the plan is not understood: '{text}'")]
pub struct Unreadable {
    /// Counted from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

impl Plan {
    /// Reads a plan.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut plan = Self {
            seed: 0,
            leaders: 3,
            followers: 3,
            frameworks: 1,
            tasks: 10,
            calm: Duration::from_secs(30),
            faults: Vec::new(),
        };
        let unreadable = |line: usize| Unreadable {
            line: line + 1,
            text: text.lines().nth(line).unwrap_or_default().to_owned(),
        };
        let mut lines = Vec::new();
        for (line, text) in text.lines().enumerate() {
            let words = text.split('#').next().unwrap_or_default();
            let words: Vec<&str> = words.split_whitespace().collect();
            if !words.is_empty() && plan.line(&words).is_none() {
                return Err(unreadable(line));
            }
            lines.resize(plan.faults.len(), line);
        }
        let stranger = plan.faults.iter().position(|planned| !plan.has(planned));
        match stranger.and_then(|at| lines.get(at)) {
            Some(line) => Err(unreadable(*line)),
            None => Ok(plan),
        }
    }

    /// Whether there is everybody that something happens to.
    fn has(&self, planned: &Planned) -> bool {
        let hosts = planned.fault.hosts();
        hosts.into_iter().flatten().all(|host| match host {
            Host::Leader(n) => n < self.leaders,
            Host::Follower(n) => n < self.followers,
            Host::Framework(n) => n < self.frameworks,
            Host::ZooKeeper => true,
        })
    }

    /// Leaves out what happens to nobody.
    pub(crate) fn forget_strangers(&mut self) {
        let mut faults = std::mem::take(&mut self.faults);
        faults.retain(|planned| self.has(planned));
        self.faults = faults;
    }

    fn line(&mut self, words: &[&str]) -> Option<()> {
        match words {
            ["seed", n] => self.seed = n.parse().ok()?,
            ["leaders", n] => self.leaders = n.parse().ok()?,
            ["followers", n] => self.followers = n.parse().ok()?,
            ["frameworks", n] => self.frameworks = n.parse().ok()?,
            ["tasks", n] => self.tasks = n.parse().ok()?,
            ["calm", at] => self.calm = seconds(at)?,
            [at, fault @ .., "for", lasts] => self.faults.push(Planned {
                at: seconds(at)?,
                lasts: seconds(lasts)?,
                fault: parse_fault(fault)?,
            }),
            _ => return None,
        }
        Some(())
    }

    /// Makes one up.
    pub fn generate(seed: u64) -> Self {
        let mut rng = Rng::seed(seed ^ 0x7e97_1d00_5eed_0001);
        let leaders = [1, 2, 3, 3, 3][rng.below(5) as usize];
        let followers = 2 + rng.below(4) as u8;
        let frameworks = 1 + rng.below(2) as u8;
        let mut plan = Self {
            seed,
            leaders,
            followers,
            frameworks,
            tasks: 8 + rng.below(18) as u32,
            calm: Duration::from_secs(40 + rng.below(110)),
            faults: Vec::new(),
        };
        // Many runs have few kinds of faults, and much of those.
        let kinds: Vec<u64> = match rng.below(3) {
            0 => vec![rng.below(KINDS), rng.below(KINDS)],
            _ => (0..KINDS).collect(),
        };
        let count = rng.below(40);
        for _ in 0..count {
            let kind = kinds[rng.below(kinds.len() as u64) as usize];
            let at = millis(rng.below(plan.calm.as_millis() as u64));
            let long = rng.unit() < 0.3;
            let lasts = millis(50 + rng.below(if long { 40_000 } else { 6_000 }));
            let fault = plan.fault(kind, &mut rng);
            let lasts = lasts.min(plan.calm.saturating_sub(at));
            plan.faults.push(Planned { at, lasts, fault });
        }
        plan.all_along(seed);
        plan.drains(seed);
        plan.faults.sort_by_key(|planned| planned.at);
        plan
    }

    /// What is amiss from the beginning, in half of the plans.
    fn all_along(&mut self, seed: u64) {
        let mut rng = Rng::seed(seed ^ 0x7e97_1d00_5eed_0002);
        let kind = rng.below(4);
        let mut faults = Vec::new();
        if kind == 0 {
            for n in 0..self.frameworks {
                let share = 5 + rng.below(25) as u8;
                faults.push(Fault::Careless(Host::Framework(n), share));
            }
        }
        if kind == 1 {
            for n in 0..self.leaders {
                let share = 20 + rng.below(70) as u8;
                faults.push(Fault::Unruly(Host::Leader(n), Host::ZooKeeper, share));
            }
        }
        self.faults.extend(faults.into_iter().map(|fault| Planned {
            at: Duration::ZERO,
            lasts: self.calm,
            fault,
        }));
    }

    /// Machines are drained in a quarter of the plans.
    fn drains(&mut self, seed: u64) {
        let mut rng = Rng::seed(seed ^ 0x7e97_1d00_5eed_0003);
        if rng.below(4) > 0 {
            return;
        }
        for _ in 0..1 + rng.below(4) {
            let at = millis(rng.below(self.calm.as_millis() as u64));
            let lasts = millis(500 + rng.below(40_000)).min(self.calm.saturating_sub(at));
            let fault = Fault::Drain(self.machine(&mut rng));
            self.faults.push(Planned { at, lasts, fault });
        }
    }

    fn any(&self, rng: &mut Rng) -> Host {
        match rng.below(5) {
            0 | 1 => Host::Leader(rng.below(self.leaders.into()) as u8),
            2 | 3 => self.machine(rng),
            _ => Host::Framework(rng.below(self.frameworks.into()) as u8),
        }
    }

    fn machine(&self, rng: &mut Rng) -> Host {
        Host::Follower(rng.below(self.followers.into()) as u8)
    }

    /// Two that speak to each other.
    fn pair(&self, rng: &mut Rng) -> (Host, Host) {
        let leader = Host::Leader(rng.below(self.leaders.into()) as u8);
        let (a, b) = match rng.below(6) {
            0 => (
                leader,
                Host::Framework(rng.below(self.frameworks.into()) as u8),
            ),
            1 => (self.any(rng), Host::ZooKeeper),
            _ => (leader, self.machine(rng)),
        };
        if rng.below(2) == 0 { (a, b) } else { (b, a) }
    }

    fn fault(&self, kind: u64, rng: &mut Rng) -> Fault {
        match kind {
            0..=3 => Fault::Crash(self.any(rng)),
            4 => Fault::Power(self.machine(rng)),
            5 => Fault::Pause(self.any(rng)),
            6 => {
                let (a, b) = self.pair(rng);
                Fault::Cut(a, b)
            }
            7 | 8 => {
                let (a, b) = self.pair(rng);
                Fault::Partition(a, b)
            }
            9 => Fault::Isolate(self.any(rng)),
            10 => Fault::Reset(self.any(rng)),
            11 => {
                let (a, b) = self.pair(rng);
                Fault::Slow(a, b, millis(1 + rng.below(4000)))
            }
            12 => {
                let (a, b) = self.pair(rng);
                Fault::Unruly(a, b, 1 + rng.below(40) as u8)
            }
            13 => Fault::NoQuorum,
            14 => Fault::DiskFull(self.machine(rng)),
            15 => Fault::DiskSlow(self.machine(rng), millis(1 + rng.below(3000))),
            16 => Fault::Clock(self.any(rng), millis(1 + rng.below(30_000))),
            _ => Fault::Launches(self.machine(rng), 10 + rng.below(90) as u8),
        }
    }
}

const KINDS: u64 = 18;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn parse_fault(words: &[&str]) -> Option<Fault> {
    let host = |text: &&str| Host::parse(text);
    Some(match words {
        ["crash", a] => Fault::Crash(host(a)?),
        ["power", a] => Fault::Power(host(a)?),
        ["pause", a] => Fault::Pause(host(a)?),
        ["cut", a, b] => Fault::Cut(host(a)?, host(b)?),
        ["partition", a, b] => Fault::Partition(host(a)?, host(b)?),
        ["isolate", a] => Fault::Isolate(host(a)?),
        ["reset", a] => Fault::Reset(host(a)?),
        ["slow", a, b, by] => Fault::Slow(host(a)?, host(b)?, seconds(by)?),
        ["unruly", a, b, share] => Fault::Unruly(host(a)?, host(b)?, share.parse().ok()?),
        ["noquorum"] => Fault::NoQuorum,
        ["diskfull", a] => Fault::DiskFull(host(a)?),
        ["diskslow", a, by] => Fault::DiskSlow(host(a)?, seconds(by)?),
        ["clock", a, by] => Fault::Clock(host(a)?, seconds(by)?),
        ["launches", a, share] => Fault::Launches(host(a)?, share.parse().ok()?),
        ["careless", a, share] => Fault::Careless(host(a)?, share.parse().ok()?),
        ["drain", a] => Fault::Drain(host(a)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_as_they_are_written() {
        for seed in 0..200 {
            let plan = Plan::generate(seed);
            assert_eq!(Plan::parse(&plan.to_string()).as_ref(), Ok(&plan));
        }
        let bad = Plan::parse("seed 1\n1s crash nobody for 2s").expect_err("nobody is nobody");
        assert_eq!(bad.line, 2);
        let text = "1s noquorum for 1s\n# who?\n1s crash follower3 for 2s\nfollowers 3";
        let bad = Plan::parse(text).expect_err("there is no such follower");
        assert_eq!(bad.line, 3);
    }
}
