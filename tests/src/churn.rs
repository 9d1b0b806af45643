//! Frameworks that take all they are offered for tasks of random sizes, and kill tasks at random: what they hold is counted here,
//! from what they were told alone.
//!
//! Tasks run until they are killed (followers are emulated), so a task that nobody asked to be killed is there. Amounts are
//! whole numbers, processors in thousandths, so that sums are exact.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{AddAssign, SubAssign};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::random::Random;
use crate::scheduler::Framework;

/// How long the next event may take to come. Only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long (in seconds) nobody wants to be offered again what is no room for a task: longer than any test takes.
const NEVER: u32 = 3_600;

/// Processors in thousandths, and memory in MB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of processors.
    pub cpus: u64,
    /// MB.
    pub mem: u64,
}

impl Amount {
    /// Whether this much is within another amount.
    pub fn fits(self, room: Amount) -> bool {
        self.cpus <= room.cpus && self.mem <= room.mem
    }

    /// What a JSON object of totals (`{"cpus": 1.5, "mem": 32}`) comes to.
    pub fn of_totals(totals: &Value) -> Amount {
        let number = |name: &str| totals[name].as_f64().unwrap_or(0.0);
        Amount {
            cpus: (number("cpus") * 1_000.0).round() as u64,
            mem: number("mem").round() as u64,
        }
    }

    fn of_resources(resources: &Value) -> Amount {
        let sum = |name: &str| -> f64 {
            let all = resources.as_array().into_iter().flatten();
            all.filter(|one| one["name"] == name)
                .filter_map(|one| one["scalar"]["value"].as_f64())
                .sum()
        };
        Amount {
            cpus: (sum("cpus") * 1_000.0).round() as u64,
            mem: sum("mem").round() as u64,
        }
    }

    fn resources(self) -> Value {
        json!([
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": self.cpus as f64 / 1_000.0}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": self.mem}},
        ])
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.cpus += other.cpus;
        self.mem += other.mem;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        self.cpus -= other.cpus;
        self.mem -= other.mem;
    }
}

/// Sizes of tasks, drawn evenly.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The smallest.
    pub least: Amount,
    /// The largest.
    pub most: Amount,
    /// Of how many thousandths of a processor, and MB, each size is a multiple.
    pub step: Amount,
}

impl Sizes {
    /// A size that fits in `room`: if the room that it leaves were too small for another task, all of the room.
    fn draw(&self, room: Amount, random: &mut Random) -> Option<Amount> {
        if !self.least.fits(room) {
            return None;
        }
        let draw = |least: u64, most: u64, step: u64, room: u64, random: &mut Random| {
            let drawn = random.between(least / step, most / step) * step;
            if drawn > room || room - drawn < least {
                room
            } else {
                drawn
            }
        };
        let (least, most, step) = (self.least, self.most, self.step);
        Some(Amount {
            cpus: draw(least.cpus, most.cpus, step.cpus, room.cpus, random),
            mem: draw(least.mem, most.mem, step.mem, room.mem, random),
        })
    }
}

/// A task that has not ended.
#[derive(Debug, Clone)]
pub struct Task {
    /// Whose it is, by number.
    pub framework: usize,
    /// The role that it is charged to.
    pub role: String,
    /// What it holds.
    pub amount: Amount,
    agent: Value,
    doomed: bool,
}

/// An offer that is out.
#[derive(Debug, Clone)]
struct Offer {
    role: String,
    amount: Amount,
}

/// Frameworks and what they hold.
#[derive(Debug)]
pub struct Churn {
    frameworks: Vec<Framework>,
    sender: Sender<(usize, Value)>,
    events: Receiver<(usize, Value)>,
    random: Random,
    sizes: Sizes,
    tasks: BTreeMap<String, Task>,
    offers: BTreeMap<String, Offer>,
    /// How many tasks were launched so far.
    pub launched: usize,
    /// How many of them have ended.
    pub ended: usize,
}

impl Churn {
    /// Nobody yet.
    pub fn new(sizes: Sizes, seed: u64) -> Churn {
        let (sender, events) = channel();
        Churn {
            frameworks: Vec::new(),
            sender,
            events,
            random: Random::seed(seed),
            sizes,
            tasks: BTreeMap::new(),
            offers: BTreeMap::new(),
            launched: 0,
            ended: 0,
        }
    }

    /// Subscribes a framework with these roles; its number.
    pub fn subscribe(&mut self, leader: SocketAddr, roles: &[&str]) -> usize {
        let info = json!({
            "user": "root", "name": format!("churn {}", roles.join(" ")), "roles": roles,
            "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "RESERVATION_REFINEMENT"}],
        });
        let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        let mut framework = Framework::subscribe_with(leader, &call);
        let number = self.frameworks.len();
        framework.forward(number, self.sender.clone());
        self.frameworks.push(framework);
        number
    }

    /// What those tasks hold that nobody has asked to be killed, and for which `counts` holds.
    pub fn running(&self, counts: impl Fn(&Task) -> bool) -> Amount {
        let mut sum = Amount::default();
        let alive = self.tasks.values().filter(|task| !task.doomed);
        for task in alive.filter(|task| counts(task)) {
            sum += task.amount;
        }
        sum
    }

    /// What is offered to roles for which `counts` holds.
    pub fn offered(&self, counts: impl Fn(&str) -> bool) -> Amount {
        let mut sum = Amount::default();
        for offer in self.offers.values().filter(|offer| counts(&offer.role)) {
            sum += offer.amount;
        }
        sum
    }

    /// Whether a task was asked to be killed and has not been said to have ended.
    pub fn awaits_ends(&self) -> bool {
        self.tasks.values().any(|task| task.doomed)
    }

    /// How many tasks have not ended.
    pub fn alive(&self) -> usize {
        self.tasks.len()
    }

    /// Kills each task with a chance of `percent`.
    pub fn kill_some(&mut self, percent: u64) {
        let mut kills = Vec::new();
        for (id, task) in &mut self.tasks {
            if !task.doomed && self.random.below(100) < percent {
                task.doomed = true;
                kills.push((task.framework, id.clone(), task.agent.clone()));
            }
        }
        for (framework, id, agent) in kills {
            let kill = json!({"task_id": {"value": id}, "agent_id": agent});
            self.frameworks[framework].must(json!({"type": "KILL", "kill": kill}));
        }
    }

    /// Waits for the next event and does what follows from it: tasks for all of an offer or, sometimes, for a part. `seen` looks
    /// at what is held once an event is noted, and before anything is done because of it.
    ///
    /// # Panics
    /// When none comes, or a task ends that nobody killed.
    pub fn step(&mut self, seen: impl FnOnce(&Churn)) {
        let next = self.events.recv_timeout(PATIENCE);
        let (framework, event) = next.unwrap_or_else(|_| {
            panic!(
                "no event within {PATIENCE:?}: {} launched, {} ended, offered {:?}",
                self.launched, self.ended, self.offers
            )
        });
        match event["type"].as_str() {
            Some("OFFERS") => {
                let offers = event["offers"]["offers"].as_array();
                let offers = offers.cloned().unwrap_or_default();
                for offer in &offers {
                    self.note(offer);
                }
                seen(self);
                for offer in &offers {
                    self.answer(framework, offer);
                }
            }
            Some("RESCIND") => {
                let id = text(&event["rescind"]["offer_id"]["value"]);
                self.offers.remove(&id);
            }
            Some("UPDATE") => {
                let status = &event["update"]["status"];
                self.update(status);
                seen(self);
                if !status["uuid"].is_null() {
                    let acknowledge = json!({
                        "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"],
                    });
                    self.frameworks[framework]
                        .must(json!({"type": "ACKNOWLEDGE", "acknowledge": acknowledge}));
                }
            }
            Some("SUBSCRIBED" | "HEARTBEAT") => {}
            _ => panic!("what is {event}?"),
        }
    }

    fn note(&mut self, offer: &Value) {
        let noted = Offer {
            role: text(&offer["allocation_info"]["role"]),
            amount: Amount::of_resources(&offer["resources"]),
        };
        self.offers.insert(text(&offer["id"]["value"]), noted);
    }

    fn update(&mut self, status: &Value) {
        let id = text(&status["task_id"]["value"]);
        match status["state"].as_str() {
            Some("TASK_STARTING" | "TASK_RUNNING") => {}
            Some("TASK_KILLED") => {
                let task = self.tasks.remove(&id);
                assert!(
                    task.is_some_and(|task| task.doomed),
                    "nobody killed {status}"
                );
                self.ended += 1;
            }
            _ => panic!("a task was lost: {status}"),
        }
    }

    /// Tasks for an offer. What is left of it is wanted again at once if there is room in it.
    fn answer(&mut self, framework: usize, offer: &Value) {
        // It may have been rescinded meanwhile; then its tasks would be lost, and that is told.
        let Some(noted) = self.offers.remove(&text(&offer["id"]["value"])) else {
            return;
        };
        let mut left = noted.amount;
        let mut tasks = Vec::new();
        while let Some(amount) = self.sizes.draw(left, &mut self.random) {
            if !tasks.is_empty() && self.random.below(4) == 0 {
                break;
            }
            left -= amount;
            let id = format!("task-{}", self.launched);
            self.launched += 1;
            tasks.push(json!({
                "name": id, "task_id": {"value": id}, "agent_id": offer["agent_id"], "resources": amount.resources(),
                "command": {"value": "true"},
            }));
            let task = Task {
                framework,
                role: noted.role.clone(),
                amount,
                agent: offer["agent_id"].clone(),
                doomed: false,
            };
            self.tasks.insert(id, task);
        }
        let seconds = if self.sizes.least.fits(left) {
            0
        } else {
            NEVER
        };
        let filters = json!({"refuse_seconds": seconds});
        let call = if tasks.is_empty() {
            json!({"type": "DECLINE", "decline": {"offer_ids": [offer["id"]], "filters": filters}})
        } else {
            json!({"type": "ACCEPT", "accept": {
                "offer_ids": [offer["id"]], "filters": filters,
                "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}],
            }})
        };
        self.frameworks[framework].must(call);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
