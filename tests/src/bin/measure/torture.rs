//! Everything dies: three ZooKeeper servers, three leaders, five followers and a framework, each on a machine of its own
//! (a network namespace), while faults hit them round after round. At the end every task is accounted for exactly once.
//!
//! What is compared: what the framework has written down, what the tasks themselves have written down, and what the
//! last leader says.

use crate::{
    framework::{FOLLOWER_RESOURCES, is_end, now, read},
    load::Failure,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tepui_tests::{
    machines::Machines,
    network::Network,
    programs::python,
    wait::{eventually, eventually_some},
    zookeeper::{Ensemble, Place},
};

const SERVERS: usize = 3;
const LEADERS: usize = 3;
const FOLLOWERS: usize = 5;
/// Tasks that the framework keeps alive.
const TASKS: usize = 500;
/// How long a session with ZooKeeper lasts without a word.
const SESSION: &str = "2secs";
/// How long a part stays dead, stopped or cut off.
const FAULT: Duration = Duration::from_secs(4);
/// How long the cluster may take to be whole again after a fault.
const WHOLE: Duration = Duration::from_secs(90);

/// What happens to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillLeader,
    KillStandby,
    KillFollower,
    KillTwoFollowers,
    KillServer,
    KillFramework,
    StopLeader,
    CutLeaderOff,
    CutLeaderFromServers,
    CutLeaderFromFollower,
    CutFollowerOff,
    CutFollowerOneWay,
    CutServerOff,
    KillLeaderAndServer,
    KillLeaderAndFollower,
}

/// In this order, again and again; those that end a leadership come most often.
const FAULTS: [Fault; 18] = [
    Fault::KillLeader,
    Fault::KillFollower,
    Fault::CutLeaderOff,
    Fault::KillFramework,
    Fault::KillServer,
    Fault::KillLeader,
    Fault::CutFollowerOff,
    Fault::StopLeader,
    Fault::KillTwoFollowers,
    Fault::CutLeaderFromServers,
    Fault::KillStandby,
    Fault::KillLeaderAndFollower,
    Fault::CutFollowerOneWay,
    Fault::CutServerOff,
    Fault::KillLeaderAndServer,
    Fault::CutLeaderFromFollower,
    Fault::KillFollower,
    Fault::KillLeader,
];

/// `rounds` faults; fails if a task is lost or was there twice.
pub(crate) fn measure(rounds: usize) -> Result<(), Failure> {
    if !Network::is_possible() {
        return Err("needs root, for network namespaces".into());
    }
    let mut cluster = Torn::start()?;
    let mut counts: BTreeMap<Fault, usize> = BTreeMap::new();
    let mut gaps = Vec::new();
    let started = Instant::now();
    for round in 0..rounds {
        let fault = FAULTS[round % FAULTS.len()];
        *counts.entry(fault).or_default() += 1;
        let gap = cluster.round(fault, round)?;
        gaps.extend(gap);
        let gap = gap.map_or_else(String::new, |gap| {
            format!(", {:.2} s without a scheduling leader", gap)
        });
        println!(
            "{:>6.1} s round {round}: {fault:?}{gap}; {} alive",
            started.elapsed().as_secs_f64(),
            cluster.alive(),
        );
    }
    println!("faults: {counts:?}");
    gaps.sort_by(f64::total_cmp);
    if let (Some(median), Some(most)) = (gaps.get(gaps.len() / 2), gaps.last()) {
        println!(
            "from the end of a leader to offers of the next: {} times, median {median:.2} s, longest {most:.2} s (session {SESSION})",
            gaps.len()
        );
    }
    cluster.finish()
}

struct Torn {
    network: Network,
    ensemble: Ensemble,
    machines: Machines,
    zk: String,
    /// Where the framework writes; its machine is the last one.
    folder: PathBuf,
    framework: Option<Child>,
    steady: Option<Child>,
}

impl Torn {
    fn start() -> Result<Self, Failure> {
        let network = Network::new(SERVERS + LEADERS + FOLLOWERS + 1);
        let places: Vec<Place> = (0..SERVERS).map(|at| network.place(at)).collect();
        let ensemble = Ensemble::start_at(&places);
        let zk = ensemble.url("/mesos");
        let mut machines = Machines::new();
        let session = format!("--zk_session_timeout={SESSION}");
        for leader in 0..LEADERS {
            machines.add_leader(&network.place(SERVERS + leader), &zk, &[&session]);
        }
        machines.wait_for_leader();
        let resources = format!("--resources={FOLLOWER_RESOURCES}");
        for follower in 0..FOLLOWERS {
            let flags = [
                session.as_str(),
                &resources,
                "--registration_backoff_factor=100ms",
                "--executor_reregistration_timeout=10secs",
            ];
            machines.add_follower(&network.place(SERVERS + LEADERS + follower), &zk, &flags);
        }
        machines.wait_until_whole();
        let folder = machines.folder().join("framework");
        fs::create_dir_all(&folder)?;
        let mut cluster = Self {
            network,
            ensemble,
            machines,
            zk,
            folder,
            framework: None,
            steady: None,
        };
        cluster.start_framework()?;
        cluster.start_steady()?;
        let full = eventually(WHOLE, || cluster.alive() >= TASKS * 9 / 10);
        if !full {
            return Err(format!(
                "only {} tasks run\n{}",
                cluster.alive(),
                cluster.machines.logs()
            )
            .into());
        }
        println!("{} tasks run on {FOLLOWERS} followers", cluster.alive());
        Ok(cluster)
    }

    fn framework_machine(&self) -> String {
        self.network.name(SERVERS + LEADERS + FOLLOWERS)
    }

    fn start_framework(&mut self) -> Result<(), Failure> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))?;
        let child = Command::new("ip")
            .args(["netns", "exec", &self.framework_machine()])
            .arg(std::env::current_exe()?)
            .args(["framework", &self.zk])
            .arg(&self.folder)
            .arg(TASKS.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.framework = Some(child);
        Ok(())
    }

    fn start_steady(&mut self) -> Result<(), Failure> {
        let file = |name: &str| fs::File::create(self.folder.join(name));
        let child = Command::new("ip")
            .args(["netns", "exec", &self.framework_machine()])
            .arg(python())
            .args(["-B", "-u"])
            .arg(tepui_tests::crate_folder().join("clients/pymesos_ha.py"))
            .args([self.zk.as_str(), "200", "5"])
            .stdin(Stdio::null())
            .stdout(file("steady.out")?)
            .stderr(file("steady.err")?)
            .spawn()?;
        self.steady = Some(child);
        Ok(())
    }

    fn kill_framework(&mut self) {
        if let Some(mut child) = self.framework.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Tasks that the framework believes to be alive.
    fn alive(&self) -> usize {
        Account::read(&self.folder).alive().count()
    }

    fn leader_machine(&self, leader: usize) -> usize {
        SERVERS + leader
    }

    fn follower_machine(&self, follower: usize) -> usize {
        SERVERS + LEADERS + follower
    }

    /// One fault and its end; how long nobody scheduled, if a leadership ended.
    fn round(&mut self, fault: Fault, round: usize) -> Result<Option<f64>, Failure> {
        let leader = self.machines.wait_for_leader();
        let standby = (leader + 1) % LEADERS;
        let (server, follower) = (round % SERVERS, round % FOLLOWERS);
        let other = (follower + 1) % FOLLOWERS;
        let at = now();
        // Whether the leadership must have changed hands when the fault ends.
        let mut deposed = true;
        match fault {
            Fault::KillLeader => self.machines.leaders[leader].kill(),
            Fault::KillLeaderAndServer => {
                self.ensemble.kill(server);
                self.machines.leaders[leader].kill();
            }
            Fault::KillLeaderAndFollower => {
                self.machines.followers[follower].kill();
                self.machines.leaders[leader].kill();
            }
            Fault::StopLeader => self.machines.leaders[leader].signal(Signal::STOP),
            Fault::CutLeaderOff => self.network.cut_off(self.leader_machine(leader)),
            Fault::CutLeaderFromServers => {
                for server in 0..SERVERS {
                    self.network
                        .cut_between(self.leader_machine(leader), server);
                }
            }
            _ => deposed = false,
        }
        match fault {
            Fault::KillStandby => self.machines.leaders[standby].kill(),
            Fault::KillFollower => self.machines.followers[follower].kill(),
            Fault::KillTwoFollowers => {
                self.machines.followers[follower].kill();
                self.machines.followers[other].kill();
            }
            Fault::KillServer => self.ensemble.kill(server),
            Fault::KillFramework => self.kill_framework(),
            Fault::CutLeaderFromFollower => self
                .network
                .cut_between(self.leader_machine(leader), self.follower_machine(follower)),
            Fault::CutFollowerOff => self.network.cut_off(self.follower_machine(follower)),
            Fault::CutFollowerOneWay => self
                .network
                .cut_one_way(self.follower_machine(follower), self.leader_machine(leader)),
            Fault::CutServerOff => self.network.cut_off(server),
            _ => {}
        }
        let gap = deposed.then(|| self.offers_after(at)).flatten();
        let left = FAULT.saturating_sub(Duration::from_millis(now() - at));
        // Nothing to wait for: the fault is to last.
        eventually(left, || false);
        self.heal()?;
        let whole = eventually(WHOLE, || {
            self.machines.leading().is_some() && self.machines.active_followers() == FOLLOWERS
        });
        if !whole {
            let active = self.machines.active_followers();
            return Err(self.failure(&format!(
                "round {round}, {fault:?}: only {active} followers"
            )));
        }
        if deposed && gap.is_none() {
            let what = format!("round {round}, {fault:?}: no offers from a new leader");
            return Err(self.failure(&what));
        }
        Ok(gap)
    }

    /// What went wrong, and what everybody said before.
    fn failure(&self, what: &str) -> Failure {
        let said = |name: &str| {
            let text = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| !line.contains("\"launch\""))
                .collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        let (ledger, log) = (said("ledger"), said("log"));
        format!(
            "{what}\n{}\n---- framework\n{log}\n{ledger}",
            self.machines.logs()
        )
        .into()
    }

    /// Seconds until the framework has offers of a new leader.
    fn offers_after(&self, at: u64) -> Option<f64> {
        let found = eventually_some(WHOLE, || {
            let lines = read(&self.folder);
            let after = lines
                .iter()
                .filter(|line| line["at"].as_u64().is_some_and(|when| when > at));
            let mut subscribed = false;
            for line in after {
                subscribed |= line["event"] == "subscribed";
                if subscribed && line["event"] == "offers" {
                    return line["at"].as_u64();
                }
            }
            None
        });
        found.map(|when| (when - at) as f64 / 1e3)
    }

    fn heal(&mut self) -> Result<(), Failure> {
        for machine in 0..SERVERS + LEADERS + FOLLOWERS + 1 {
            self.network.heal(machine);
        }
        for server in 0..SERVERS {
            if !self.ensemble.lives(server) {
                self.ensemble.restart(server);
            }
        }
        for machine in self
            .machines
            .leaders
            .iter_mut()
            .chain(&mut self.machines.followers)
        {
            machine.signal(Signal::CONT);
            if machine.has_ended() {
                println!("{} ended by itself and is started again", machine.name);
                machine.kill();
            }
            if !machine.lives() {
                machine.start();
            }
        }
        let ended = self.framework.as_mut().map(Child::try_wait);
        match ended {
            None => self.start_framework()?,
            Some(Ok(None)) => {}
            Some(_) => return Err("the framework ended by itself".into()),
        }
        Ok(())
    }

    /// Lets all tasks end, and accounts for them.
    fn finish(mut self) -> Result<(), Failure> {
        fs::write(self.folder.join("stop"), "")?;
        let done = eventually(4 * WHOLE, || {
            Account::read(&self.folder).alive().count() == 0
        });
        let account = Account::read(&self.folder);
        if let Some(kept) = std::env::var_os("TEPUI_TORTURE_KEEP") {
            let copied = Command::new("cp")
                .arg("-r")
                .arg(self.machines.folder())
                .arg(kept)
                .status();
            println!("kept everything: {copied:?}");
        }
        if !done {
            let left: Vec<&String> = account.alive().collect();
            let state = self
                .machines
                .leading()
                .and_then(|at| self.machines.leaders[at].json("/tasks"));
            return Err(format!("{} tasks never ended: {left:?}\n{state:?}", left.len()).into());
        }
        let steady = self.steady.as_mut().map(|child| {
            let ended = eventually_some(4 * WHOLE, || child.try_wait().ok().flatten());
            ended.is_some_and(|status| status.success())
        });
        let said = fs::read_to_string(self.folder.join("steady.out")).unwrap_or_default();
        println!("pymesos: {}", said.lines().last().unwrap_or_default());
        let problems = account.problems();
        account.print();
        for problem in &problems {
            println!("PROBLEM {problem}");
        }
        if steady != Some(true) {
            let log = fs::read_to_string(self.folder.join("steady.err")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(80)..].join("\n");
            return Err(format!("pymesos did not end\n{said}\n{last}").into());
        }
        let twice = !said
            .lines()
            .last()
            .unwrap_or_default()
            .contains("\"twice\": []");
        if !problems.is_empty() || twice {
            return Err(format!(
                "{} tasks are not accounted for exactly once",
                problems.len()
            )
            .into());
        }
        Ok(())
    }
}

impl Drop for Torn {
    fn drop(&mut self) {
        self.kill_framework();
        if let Some(mut child) = self.steady.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// What became of one task.
#[derive(Debug, Default)]
struct Task {
    /// Updates with an identity that end it: their identities.
    ends: BTreeSet<String>,
    /// All states that end it, answers included.
    states: BTreeSet<String>,
    why: Vec<String>,
    /// Lines the task itself wrote.
    starts: usize,
    finishes: usize,
}

/// All tasks.
struct Account(BTreeMap<String, Task>);

impl Account {
    fn read(folder: &Path) -> Self {
        let mut tasks: BTreeMap<String, Task> = BTreeMap::new();
        for line in read(folder) {
            if let Some(task) = line["launch"].as_str() {
                tasks.entry(task.to_owned()).or_default();
            }
            let state = line["state"].as_str().unwrap_or_default();
            if let Some(task) = line["update"].as_str()
                && is_end(state)
            {
                let task = tasks.entry(task.to_owned()).or_default();
                task.states.insert(state.to_owned());
                if let Some(uuid) = line["uuid"].as_str() {
                    task.ends.insert(uuid.to_owned());
                }
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                task.why.push(format!(
                    "{state} {} {}",
                    text(&line["reason"]),
                    text(&line["message"])
                ));
            }
        }
        for (name, task) in &mut tasks {
            let truth = fs::read_to_string(folder.join("truth").join(name)).unwrap_or_default();
            task.starts = truth.lines().filter(|line| *line == "start").count();
            task.finishes = truth.lines().filter(|line| *line == "end").count();
        }
        Self(tasks)
    }

    fn alive(&self) -> impl Iterator<Item = &String> {
        self.0
            .iter()
            .filter(|(_, task)| task.states.is_empty())
            .map(|(name, _)| name)
    }

    fn problems(&self) -> Vec<String> {
        let finished = |task: &Task| task.states.contains("TASK_FINISHED");
        let mut problems = Vec::new();
        for (name, task) in &self.0 {
            let mut problem = |what: &str| problems.push(format!("{name}: {what}: {task:?}"));
            if task.states.is_empty() {
                problem("never ended");
            }
            if task.ends.len() > 1 || task.states.len() > 1 {
                problem("ended more than once");
            }
            if task.starts > 1 {
                problem("was started more than once");
            }
            if task.finishes > 0 && !finished(task) {
                problem("finished, and was reported otherwise");
            }
            if task.finishes == 0 && finished(task) {
                problem("was reported finished, and did not");
            }
        }
        problems
    }

    fn print(&self) {
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for task in self.0.values() {
            for why in &task.why {
                *states.entry(why.clone()).or_default() += 1;
            }
        }
        let finished = self.0.values().filter(|task| task.finishes > 0).count();
        println!(
            "{} tasks launched, {finished} ran to their end; how they ended:",
            self.0.len()
        );
        for (why, count) in states {
            println!("{count:>8} {why}");
        }
    }
}
