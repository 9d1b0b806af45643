//! What an agent of Mesos left while tasks ran, read back, and how a follower goes on from it: as that
//! agent did when it was restarted (`fixtures/recovery.json`, recorded on loopback).

use prost::Message;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tepui_follower::{
    Config, Follower,
    io::{Effect, Effects, Input, ProcessName},
    recovered::{EndedRun, Fate, Recovered, RecoveredExecutor, RecoveredLink},
};
use tepui_model::{
    Rng, Time,
    container::{ContainerEvent, ContainerId, ExitStatus},
};
use tepui_node::follower::recover;
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::TaskState,
};

const BOOT: &str = "d6ac14af-ed25-429e-a737-1b78c8053dfe\n";
const ID: &str = "0289a414-2458-45c9-80e9-c49e4aab7adf-S0";
/// Runs a long task.
const LONG: &str = "0289a414-2458-45c9-80e9-c49e4aab7adf-0003";

/// A work directory with the recorded checkpoints.
fn work_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let packed = include_bytes!("../fixtures/checkpoint-running-meta.tar.gz").as_slice();
    tar::Archive::new(flate2::read::GzDecoder::new(packed))
        .unpack(dir.path())
        .expect("unpacked");
    let unpacked = dir.path().join("checkpoint-running-meta");
    fs::rename(unpacked, dir.path().join("meta")).expect("renamed");
    dir
}

fn framework(dir: &Path, id: &str) -> PathBuf {
    let followers = dir.join("meta/slaves");
    followers.join(ID).join("frameworks").join(id)
}

fn long(dir: &Path) -> PathBuf {
    framework(dir, LONG).join("executors/long")
}

fn long_task(dir: &Path) -> PathBuf {
    let run = "runs/985abfe8-7fef-433b-9acf-f8c1b526b69b";
    long(dir).join(run).join("tasks/long")
}

fn read(dir: &Path) -> Recovered {
    recover(dir, BOOT, 150)
        .expect("readable")
        .expect("something")
}

/// The executors of the framework of the long task.
fn executors(recovered: &Recovered) -> &[RecoveredExecutor] {
    let named = |info: &tepui_protocol::v1::FrameworkInfo| {
        info.id.as_ref().is_some_and(|id| id.value == LONG)
    };
    let framework = recovered.frameworks.iter().find(|f| named(&f.info));
    framework.map_or(&[], |f| f.executors.as_slice())
}

#[test]
fn the_checkpoints_of_an_agent_of_mesos_are_read() {
    let dir = work_dir();
    let recovered = read(dir.path());
    assert!(recovered.problems.is_empty(), "{:?}", recovered.problems);
    assert_eq!(recovered.id.as_str(), ID);
    assert!(!recovered.rebooted);
    assert_eq!(recovered.drain, None);
    assert_eq!(recovered.frameworks.len(), 2);
    // A v1 scheduler has no pid, a driver has one.
    assert_eq!(recovered.frameworks[0].pid, None);
    let driver = recovered.frameworks[1].pid.as_ref().expect("a pid");
    assert!(driver.name.starts_with("scheduler-"));
    assert_eq!(recovered.frameworks[1].executors.len(), 3);

    let [executor] = executors(&recovered) else {
        panic!("one executor")
    };
    assert!(executor.generated && !executor.completed);
    assert_eq!(executor.container, "985abfe8-7fef-433b-9acf-f8c1b526b69b");
    assert_eq!(executor.process, Some(3142));
    let pid = "executor(1)@127.0.0.1:41829".parse().expect("a pid");
    assert_eq!(executor.link, RecoveredLink::Driver(pid));
    let task = &executor.tasks[0];
    assert_eq!(task.task.name, "long");
    let states: Vec<_> = task.updates.iter().map(|u| u.status.state()).collect();
    assert_eq!(states, [TaskState::TaskStarting, TaskState::TaskRunning]);
    assert_eq!(task.acknowledged.len(), 2);
    assert!(executor.earlier_runs.is_empty());
}

#[test]
fn a_new_work_directory_or_one_of_a_follower_that_never_registered_has_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(recover(dir.path(), BOOT, 150).expect("readable"), None);
    let dir = work_dir();
    let info = dir.path().join("meta/slaves").join(ID).join("slave.info");
    fs::write(&info, "").expect("written");
    assert_eq!(recover(dir.path(), BOOT, 150).expect("readable"), None);
    fs::remove_file(info).expect("removed");
    assert_eq!(recover(dir.path(), BOOT, 150).expect("readable"), None);
}

#[test]
fn a_damaged_slave_info_is_an_error_since_nobody_knows_whose_tasks_these_are() {
    let dir = work_dir();
    let info = dir.path().join("meta/slaves").join(ID).join("slave.info");
    let whole = fs::read(&info).expect("a file");
    fs::write(&info, &whole[..whole.len() - 1]).expect("written");
    assert!(recover(dir.path(), BOOT, 150).is_err());
    // Somebody else's is none of ours.
    fs::write(&info, whole).expect("written");
    let slaves = dir.path().join("meta/slaves");
    fs::rename(slaves.join(ID), slaves.join("other")).expect("renamed");
    fs::remove_file(slaves.join("latest")).expect("removed");
    symlink("other", slaves.join("latest")).expect("linked");
    assert!(recover(dir.path(), BOOT, 150).is_err());
}

#[test]
fn another_boot_id_is_a_reboot_and_a_missing_one_is_not() {
    let dir = work_dir();
    let other = "0188bc4e-4f13-4a6c-a7a5-6d1b3cbb0f8f";
    let other = recover(dir.path(), other, 150).expect("readable");
    assert!(other.expect("something").rebooted);
    fs::remove_file(dir.path().join("meta/boot_id")).expect("removed");
    assert!(!read(dir.path()).rebooted);
}

#[test]
fn a_torn_last_update_is_cut_off_and_said() {
    let dir = work_dir();
    let path = long_task(dir.path()).join("task.updates");
    let whole = fs::read(&path).expect("a file");
    for lost in [1, 3, 20, 23] {
        fs::write(&path, &whole[..whole.len() - lost]).expect("written");
        let recovered = read(dir.path());
        assert_eq!(recovered.problems.len(), 1, "{:?}", recovered.problems);
        assert!(
            recovered.problems[0]
                .text
                .contains("task.updates: its last record")
        );
        assert_eq!(executors(&recovered)[0].tasks[0].acknowledged.len(), 1);
        let again = read(dir.path());
        assert!(again.problems.is_empty(), "it was cut off");
        assert_eq!(again.frameworks, recovered.frameworks);
    }
    assert!(!path.with_extension("updates.damaged").exists());
}

#[test]
fn damage_in_the_middle_of_updates_keeps_what_is_before_it_and_the_file_aside() {
    let dir = work_dir();
    let path = long_task(dir.path()).join("task.updates");
    let mut damaged = fs::read(&path).expect("a file");
    let first = 4 + u32::from_le_bytes([damaged[0], damaged[1], damaged[2], damaged[3]]) as usize;
    for byte in &mut damaged[first + 4..first + 12] {
        *byte = 0xff;
    }
    fs::write(&path, &damaged).expect("written");
    let recovered = read(dir.path());
    assert!(recovered.problems[0].text.contains("is damaged"));
    assert_eq!(executors(&recovered)[0].tasks[0].updates.len(), 1);
    assert!(
        recovered.problems[0]
            .text
            .ends_with(&format!("cut off after {first} bytes"))
    );
    let aside = path.with_extension("updates.damaged");
    assert_eq!(fs::read(aside).expect("kept"), damaged);
    assert!(read(dir.path()).problems.is_empty());
}

#[test]
fn a_damaged_file_costs_what_it_describes_and_nothing_else() {
    let run = "executors/long/runs/985abfe8-7fef-433b-9acf-f8c1b526b69b";
    let cases = [
        ("framework.info", [true, false, false]),
        ("executors/long/executor.info", [false, true, false]),
        (&format!("{run}/tasks/long/task.info"), [false, false, true]),
        (&format!("{run}/pids/forked.pid"), [false; 3]),
        (&format!("{run}/tasks/long/task.launch"), [false; 3]),
    ];
    for (file, lost) in cases {
        for content in [&[0xff_u8; 9][..], &[9, 0], &[1, 0, 0, 0, 0xff]] {
            let dir = work_dir();
            let path = framework(dir.path(), LONG).join(file);
            fs::write(&path, content).expect("written");
            let recovered = read(dir.path());
            assert_eq!(recovered.problems.len(), 1, "{:?}", recovered.problems);
            assert!(recovered.problems[0].damage);
            assert!(recovered.problems[0].text.contains(file));
            // Everything is still known by name.
            let of = recovered.frameworks.iter().find(|framework| {
                framework
                    .info
                    .id
                    .as_ref()
                    .is_some_and(|id| id.value == LONG)
            });
            let framework = of.expect("the framework");
            let executor = &framework.executors[0];
            let task = &executor.tasks[0];
            assert_eq!(executor.info.executor_id.value, "long");
            assert_eq!(task.task.task_id.value, "long");
            let damaged = [&framework.damaged, &executor.damaged, &task.damaged];
            assert_eq!(damaged.map(Option::is_some), lost, "{file}");
        }
    }
    // Without its file, too: nothing is left out in silence.
    let dir = work_dir();
    fs::remove_file(long(dir.path()).join("executor.info")).expect("removed");
    let recovered = read(dir.path());
    assert!(recovered.problems[0].text.contains("is missing"));
    assert!(!recovered.problems[0].damage);
    assert!(executors(&recovered)[0].damaged.is_some());
}

#[test]
fn markers_and_runs_are_told_apart() {
    let dir = work_dir();
    let runs = long(dir.path()).join("runs");
    let run = runs.join("985abfe8-7fef-433b-9acf-f8c1b526b69b");
    fs::create_dir(runs.join("older")).expect("made");
    fs::remove_file(run.join("pids/libprocess.pid")).expect("removed");
    let unknown = read(dir.path());
    assert_eq!(executors(&unknown)[0].link, RecoveredLink::Unknown);
    assert_eq!(executors(&unknown)[0].earlier_runs[0].0, "older");
    fs::write(run.join("pids/http.marker"), "").expect("written");
    fs::write(run.join("executor.sentinel"), "").expect("written");
    let http = read(dir.path());
    assert_eq!(executors(&http)[0].link, RecoveredLink::Http);
    assert!(executors(&http)[0].completed);
    assert!(http.problems.is_empty(), "{:?}", http.problems);
    // Half removed, half made.
    fs::remove_dir_all(&runs).expect("removed");
    assert!(executors(&read(dir.path())).is_empty());
    assert!(read(dir.path()).problems.is_empty());
}

/// The long task's run, `count` times more, as those of executors that have ended.
fn add_ended(dir: &Path, count: usize) {
    let from = long(dir);
    let run = from.join("runs/985abfe8-7fef-433b-9acf-f8c1b526b69b");
    for number in 0..count {
        let name = format!("ended-{number:02}");
        let to = from.with_file_name(&name);
        let run_to = to.join(format!("runs/{number:08}-7fef-433b-9acf-f8c1b526b69b"));
        fs::create_dir_all(run_to.join("tasks/long")).expect("made");
        fs::write(
            to.join("executor.info"),
            renamed(&from.join("executor.info"), &name),
        )
        .expect("written");
        for file in ["tasks/long/task.info", "tasks/long/task.updates"] {
            fs::copy(run.join(file), run_to.join(file)).expect("copied");
        }
        symlink(&run_to, to.join("runs/latest")).expect("linked");
        let sentinel = fs::File::create(run_to.join("executor.sentinel")).expect("written");
        let ended = SystemTime::now() - Duration::from_secs(3600 * (1 + number as u64));
        let times = fs::FileTimes::new().set_modified(ended);
        sentinel.set_times(times).expect("an old file");
    }
}

/// An `executor.info` with another id.
fn renamed(path: &Path, name: &str) -> Vec<u8> {
    let bytes = fs::read(path).expect("a file");
    let mut info = tepui_protocol::v1::ExecutorInfo::decode(&bytes[4..]).expect("an executor");
    info.executor_id.value = name.to_owned();
    let mut framed = (info.encoded_len() as u32).to_le_bytes().to_vec();
    framed.extend(info.encode_to_vec());
    framed
}

fn ended(recovered: &Recovered) -> &[EndedRun] {
    let named = |info: &tepui_protocol::v1::FrameworkInfo| {
        info.id.as_ref().is_some_and(|id| id.value == LONG)
    };
    let framework = recovered.frameworks.iter().find(|f| named(&f.info));
    framework.map_or(&[], |f| f.ended.as_slice())
}

#[test]
fn of_what_has_ended_the_last_is_history_and_the_rest_merely_named() {
    let dir = work_dir();
    add_ended(dir.path(), 10);
    let recovered = recover(dir.path(), BOOT, 3).expect("readable");
    let recovered = recovered.expect("something");
    assert!(recovered.problems.is_empty(), "{:?}", recovered.problems);
    let names: Vec<_> = executors(&recovered)
        .iter()
        .map(|executor| executor.info.executor_id.value.as_str())
        .collect();
    // The oldest first, so that it is the first to be forgotten.
    assert_eq!(names, ["ended-02", "ended-01", "ended-00", "long"]);
    let completed = executors(&recovered).iter().filter(|e| e.completed);
    assert_eq!(completed.count(), 3);
    let forgotten = ended(&recovered);
    assert_eq!(forgotten.len(), 7);
    for run in forgotten {
        let number: u64 = run.executor.as_str()[6..].parse().expect("a number");
        assert!(run.last);
        assert_eq!(
            run.run.as_ref().map(ToString::to_string),
            Some(format!("{number:08}-7fef-433b-9acf-f8c1b526b69b"))
        );
        let hours = run.age.as_secs() / 3600;
        assert_eq!(hours, number + 1, "how long ago it ended");
    }
}

#[test]
fn damage_to_what_has_ended_is_no_reason_to_stop_and_nothing_is_cut() {
    let dir = work_dir();
    add_ended(dir.path(), 3);
    let executor = |number: usize| long(dir.path()).with_file_name(format!("ended-{number:02}"));
    fs::write(executor(0).join("executor.info"), "damaged").expect("written");
    let run = "runs/00000001-7fef-433b-9acf-f8c1b526b69b";
    let updates = executor(1).join(run).join("tasks/long/task.updates");
    let whole = fs::read(&updates).expect("a file");
    fs::write(&updates, &whole[..whole.len() - 1]).expect("written");
    let recovered = read(dir.path());
    assert!(recovered.problems.is_empty(), "{:?}", recovered.problems);
    assert_eq!(
        executors(&recovered).len(),
        2,
        "one that ended, one that runs"
    );
    assert_eq!(ended(&recovered).len(), 2);
    let after = fs::read(&updates).expect("a file");
    assert_eq!(after.len(), whole.len() - 1);
}

#[test]
fn a_framework_of_which_all_has_ended_long_ago_is_not_read() {
    let dir = work_dir();
    let frameworks = framework(dir.path(), LONG);
    fs::remove_dir_all(long(dir.path()).join("runs")).expect("removed");
    fs::write(frameworks.join("framework.info"), "damaged").expect("written");
    let recovered = read(dir.path());
    assert!(recovered.problems.is_empty(), "{:?}", recovered.problems);
    assert!(executors(&recovered).is_empty());
    // Nothing is left of its executor but a directory.
    assert_eq!(ended(&recovered)[0].run, None);
}

#[test]
fn what_was_not_launched_yet_when_the_follower_was_killed_is_nothing_but_to_be_removed() {
    let dir = work_dir();
    let executor = long(dir.path()).with_file_name("begun");
    let task = executor.join("runs/c/tasks/begun");
    fs::create_dir_all(&task).expect("made");
    symlink(executor.join("runs/c"), executor.join("runs/latest")).expect("linked");
    for file in [
        executor.join("executor.info.new"),
        task.join("task.launch.new"),
        task.join("task.info.new"),
    ] {
        fs::write(file, "x").expect("written");
    }
    let recovered = read(dir.path());
    assert!(recovered.problems.is_empty(), "{:?}", recovered.problems);
    assert_eq!(executors(&recovered).len(), 1);
    let [begun] = ended(&recovered) else {
        panic!("one executor")
    };
    assert_eq!(begun.executor.as_str(), "begun");
    assert!(begun.last);
    // A file that has its name says that it was launched.
    fs::rename(task.join("task.info.new"), task.join("task.info")).expect("renamed");
    let recovered = read(dir.path());
    assert_eq!(executors(&recovered).len(), 2);
    assert!(!recovered.problems.is_empty());
}

#[test]
fn what_was_removed_halfway_is_removed_to_the_end() {
    let dir = work_dir();
    add_ended(dir.path(), 2);
    let executor = |number: usize| long(dir.path()).with_file_name(format!("ended-{number:02}"));
    // As `removal` goes about it: directories first, what says that it ended last.
    fs::remove_file(executor(0).join("executor.info")).expect("removed");
    fs::remove_file(executor(0).join("runs/latest")).expect("removed");
    fs::remove_dir_all(executor(1).join("runs/00000001-7fef-433b-9acf-f8c1b526b69b"))
        .expect("removed");
    let recovered = read(dir.path());
    assert!(recovered.problems.is_empty(), "{:?}", recovered.problems);
    assert_eq!(executors(&recovered).len(), 1);
    let runs: Vec<_> = ended(&recovered)
        .iter()
        .map(|run| run.run.is_some())
        .collect();
    assert_eq!(runs.iter().filter(|run| **run).count(), 1);
    assert_eq!(runs.len(), 2);
}

fn recorded(at: usize) -> (Pid, PeerMessage) {
    let all: Value =
        serde_json::from_str(include_str!("../fixtures/recovery.json")).expect("the recording");
    let text = |name: &str| all[at][name].as_str().expect("a text").to_owned();
    let digits = text("body_hex");
    let pairs = (0..digits.len()).step_by(2);
    let body: Vec<u8> = pairs
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits"))
        .collect();
    let message = PeerMessage::decode(&text("message"), body.into()).expect("a message");
    (text("from").parse().expect("a pid"), message)
}

/// A follower in the place of the recorded agent.
struct Restarted {
    core: Follower,
    now: Time,
    sent: Vec<(Pid, PeerMessage)>,
}

impl Restarted {
    fn new(mut recovered: Recovered) -> Self {
        let mut config = Config::new(
            "127.0.0.1:15051".parse().expect("an address"),
            "follower.test",
            "/var/lib/mesos/basic/a",
        );
        let resources = "cpus:4;mem:4096;disk:10240;ports:[31000-32000]";
        config.resources = tepui_follower::resources::startup(resources, "*", Default::default())
            .expect("resources");
        config.attributes = tepui_follower::resources::attributes(
            "node_id:follower1;rack:r1;speed:2.5;slots:[1-4]",
        )
        .expect("attributes");
        let now = Time::from_nanos(1_000_000_000_000);
        let core = Follower::new(config, now, Rng::seed(7), Some(recovered.id.clone()));
        let mut this = Self {
            core,
            now,
            sent: Vec::new(),
        };
        let mut fx = Effects::default();
        // What the shell would see of these processes.
        for framework in &mut recovered.frameworks {
            for executor in &mut framework.executors {
                executor.fate = Fate::Running;
            }
        }
        this.core.recover(now, recovered, &mut fx);
        this.take(fx);
        this
    }
    fn take(&mut self, mut fx: Effects) {
        self.core.check();
        self.sent
            .extend(fx.drain().filter_map(|effect| match effect {
                Effect::Send { to, message, .. } => Some((to, message)),
                _ => None,
            }));
    }
    fn step(&mut self, input: Input) {
        let mut fx = Effects::default();
        self.core.handle(self.now, input, &mut fx);
        self.take(fx);
    }
    fn hears(&mut self, (from, message): (Pid, PeerMessage)) {
        let to = ProcessName::Follower;
        self.step(Input::Peer { from, to, message });
    }
    fn sent_to(&mut self, to: &Pid) -> Vec<PeerMessage> {
        let sent = std::mem::take(&mut self.sent);
        let of = sent.into_iter().filter(|(pid, _)| pid == to);
        of.map(|(_, message)| message).collect()
    }
}

/// Ours in the order of the recorded one, which has none.
fn in_order(mut message: i::ReregisterSlaveMessage) -> i::ReregisterSlaveMessage {
    let key = |info: &tepui_protocol::v1::FrameworkInfo| info.id.clone().map(|id| id.value);
    message.frameworks.sort_by_key(key);
    message
        .tasks
        .sort_by_key(|task| (task.framework_id.value.clone(), task.task_id.value.clone()));
    message
}

#[test]
fn a_follower_goes_on_from_these_checkpoints_as_the_recorded_agent_did() {
    let dir = work_dir();
    let mut follower = Restarted::new(read(dir.path()));
    let (executor, back) = recorded(1);
    assert_eq!(follower.sent_to(&executor), [recorded(0).1]);
    // The executors of the tasks that had ended were gone by then.
    let ended: Vec<_> = {
        let view = follower.core.view();
        let executors = view.frameworks.values().flat_map(|f| f.executors.values());
        let ended = executors.filter(|e| e.id.as_str() != "long");
        ended.map(|e| e.container.clone()).collect()
    };
    assert_eq!(ended.len(), 3);
    for container in ended {
        exited(&mut follower, container);
    }
    follower.hears((executor.clone(), back));
    assert_eq!(follower.sent_to(&executor), [recorded(2).1]);

    let leader: Pid = "master@127.0.0.1:15050".parse().expect("a pid");
    follower.step(Input::LeaderDetected(Some(leader.clone())));
    follower.now = follower.now + Duration::from_secs(1);
    follower.step(Input::Tick);
    let ours = follower.sent_to(&leader).into_iter().next();
    let (Some(PeerMessage::ReregisterSlave(mut ours)), PeerMessage::ReregisterSlave(theirs)) =
        (ours, recorded(3).1)
    else {
        panic!("no re-registration")
    };
    assert_eq!(ours.version.as_deref(), Some("1.11.0"));
    ours.version = theirs.version.clone();
    let version = std::mem::replace(
        &mut ours.resource_version_uuid,
        theirs.resource_version_uuid.clone(),
    );
    // Ours also says what its frameworks hear next of a task; the recorded one leaves it to the leader.
    let mut next = Vec::new();
    for task in &mut ours.tasks {
        next.extend(task.status_update_state.take());
        task.status_update_uuid = None;
    }
    assert_eq!(next, [i32::from(TaskState::TaskFinished)]);
    assert_eq!(in_order(*ours), in_order(*theirs));

    follower.hears(recorded(4));
    let PeerMessage::UpdateSlave(mut known) = recorded(5).1 else {
        panic!("no UpdateSlaveMessage")
    };
    known.resource_version_uuid = version;
    let said = follower.sent_to(&leader);
    assert_eq!(said.len(), 2);
    assert!(said.contains(&PeerMessage::UpdateSlave(known)));
    // The end that nobody had acknowledged.
    assert!(said.contains(&recorded(6).1), "{said:#?}");
}

fn exited(follower: &mut Restarted, container: ContainerId) {
    let status = Some(ExitStatus::Code(0));
    let event = ContainerEvent::Exited { status };
    follower.step(Input::Container { container, event });
}
