//! Checkpoints between Mesos and us: what an agent of Mesos 1.11 left is taken over, its executors included where they still
//! run, and what our follower leaves is read by a reader of its own of that format.

use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::libprocess::Peer;
use tepui_tests::processes::new_mark;
use tepui_tests::scheduler::{Framework, launch};
use tepui_tests::wait::eventually;

use super::{PATIENCE, custom_task, marked_task, subscription, wait_for_processes};
use crate::drivers::libmesos::{decode, encode, internal};

const AGENT: &str = "0289a414-2458-45c9-80e9-c49e4aab7adf-S0";
/// Its only executor runs a long task.
const FRAMEWORK: &str = "0289a414-2458-45c9-80e9-c49e4aab7adf-0003";
const RUN: &str = "executors/long/runs/985abfe8-7fef-433b-9acf-f8c1b526b69b";

/// Unpacks what was recorded of an agent of Mesos that was killed while it ran tasks.
fn unpack(folder: &Path) -> PathBuf {
    let packed =
        tepui_tests::repository().join("crates/node/tests/fixtures/checkpoint-running-meta.tar.gz");
    let done = Command::new("tar")
        .arg("-xzf")
        .arg(packed)
        .arg("-C")
        .arg(folder)
        .status();
    assert!(done.is_ok_and(|status| status.success()));
    let meta = folder.join("meta");
    fs::rename(folder.join("checkpoint-running-meta"), &meta).expect("renamed");
    meta
}

/// A port whose number takes two bytes in a message, as the recorded one does.
fn small_port() -> SocketAddr {
    let start = 12_000 + std::process::id() % 4_000;
    let mut all = (0..4_000_u32).map(|n| 12_000 + (start + n) % 4_000);
    let free = all.find_map(|port| {
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?));
        TcpListener::bind(address).is_ok().then_some(address)
    });
    free.expect("a free port")
}

/// A cluster whose follower is started in the work directory of the recorded agent, on its address; `change` changes that
/// before. What the recorded boot was is this one, unless it says otherwise.
fn taken_over(change: impl FnOnce(&Path)) -> Cluster {
    let address = small_port();
    let mut cluster = Cluster::builder()
        .apart()
        .at(Part::Follower, address)
        .start();
    cluster.kill(Part::Follower);
    let work = cluster.folder().join("follower");
    fs::remove_dir_all(&work).expect("removed");
    fs::create_dir(&work).expect("made");
    let meta = unpack(&work);
    let info = meta.join("slaves").join(AGENT).join("slave.info");
    let mut bytes = fs::read(&info).expect("a file");
    // `port` is the last field: 15051.
    assert!(bytes.ends_with(&[0x40, 0xcb, 0x75]));
    bytes.truncate(bytes.len() - 2);
    let port = address.port();
    bytes.extend([(port & 0x7f) as u8 | 0x80, (port >> 7) as u8]);
    fs::write(info, bytes).expect("written");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    fs::write(meta.join("boot_id"), boot.trim()).expect("written");
    change(&meta);
    let flags = [
        ("hostname", "follower.test"),
        (
            "resources",
            "cpus:4;mem:4096;disk:10240;ports:[31000-32000]",
        ),
        (
            "attributes",
            "node_id:follower1;rack:r1;speed:2.5;slots:[1-4]",
        ),
    ];
    cluster.restart_with(Part::Follower, &flags);
    cluster
}

/// A task as the leader knows it, in a list of its framework.
fn task(cluster: &Cluster, list: &str) -> Option<Value> {
    let state = cluster.json("/state");
    let kinds = ["frameworks", "completed_frameworks"];
    let all = kinds
        .iter()
        .flat_map(|kind| state[*kind].as_array().into_iter().flatten());
    let framework = all
        .into_iter()
        .find(|framework| framework["id"] == FRAMEWORK)?;
    framework[list]
        .as_array()?
        .iter()
        .find(|task| task["id"] == "long")
        .cloned()
}

fn is_agent(cluster: &Cluster) -> bool {
    let slaves = cluster.json("/slaves");
    let mut slaves = slaves["slaves"].as_array().into_iter().flatten();
    slaves.any(|slave| slave["id"] == AGENT && slave["active"] == true)
}

#[test]
fn a_follower_in_the_work_directory_of_a_mesos_agent_is_that_agent() {
    let cluster = taken_over(|_| {});
    assert!(
        eventually(PATIENCE, || is_agent(&cluster)),
        "{}",
        cluster.logs()
    );
    // Its executors do not run any more: nobody has heard of that yet.
    let ended = || {
        let task = task(&cluster, "completed_tasks").or_else(|| task(&cluster, "tasks"))?;
        (task["state"] == "TASK_FAILED").then_some(())
    };
    assert!(
        eventually(PATIENCE, || ended().is_some()),
        "{}",
        cluster.json("/state")
    );
}

/// Stands for a `mesos-executor` that outlived its agent.
struct Executor {
    child: Child,
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn an_executor_of_a_mesos_agent_that_still_runs_reconnects_and_goes_on() {
    let peer = Peer::new();
    let child = Command::new("sleep")
        .arg("3600")
        .process_group(0)
        .spawn()
        .expect("a process");
    let mut executor = Executor { child };
    let cluster = taken_over(|meta| {
        let pids = meta
            .join("slaves")
            .join(AGENT)
            .join("frameworks")
            .join(FRAMEWORK)
            .join(RUN)
            .join("pids");
        fs::write(pids.join("forked.pid"), executor.child.id().to_string()).expect("written");
        fs::write(pids.join("libprocess.pid"), peer.pid("executor(1)")).expect("written");
    });
    let asked = internal("ReconnectExecutorMessage");
    let asked = peer.expect("executor(1)", &asked, PATIENCE);
    assert_eq!(decode(&asked.name, &asked.body)["slave_id"]["value"], AGENT);
    let name = internal("ReregisterExecutorMessage");
    let back = json!({"executor_id": {"value": "long"}, "framework_id": {"value": FRAMEWORK}});
    let follower = format!("slave(1)@{}", cluster.follower);
    peer.send("executor(1)", &follower, &name, &encode(&name, &back))
        .expect("sent");
    peer.expect(
        "executor(1)",
        &internal("ExecutorReregisteredMessage"),
        PATIENCE,
    );
    let runs = || {
        let task = task(&cluster, "tasks")?;
        (task["state"] == "TASK_RUNNING").then_some(())
    };
    assert!(
        eventually(PATIENCE, || is_agent(&cluster) && runs().is_some()),
        "{}",
        cluster.json("/state")
    );
    assert!(executor.child.try_wait().is_ok_and(|ended| ended.is_none()));
    // It is watched.
    executor.child.kill().expect("killed");
    executor.child.wait().expect("ended");
    let failed = || {
        let task = task(&cluster, "tasks").or_else(|| task(&cluster, "completed_tasks"))?;
        (task["state"] == "TASK_FAILED").then_some(())
    };
    assert!(
        eventually(PATIENCE, || failed().is_some()),
        "{}",
        cluster.json("/state")
    );
}

/// Reads checkpoints as an agent of Mesos would, from what one left; counts what it has read.
#[derive(Default)]
struct Reader {
    frameworks: usize,
    executors: usize,
    tasks: usize,
    updates: usize,
    acknowledged: usize,
}

/// Name, and whether it is a directory, of what lies in a directory.
fn entries(directory: &Path) -> Vec<(String, bool)> {
    let Ok(all) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let all = all.map(|entry| entry.expect("an entry"));
    all.map(|entry| {
        let kind = entry.file_type().expect("a type");
        (
            entry.file_name().into_string().expect("a name"),
            kind.is_dir(),
        )
    })
    .collect()
}

/// The messages of a file, each behind its length.
fn records(path: &Path, name: &str) -> Vec<Value> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut rest = bytes.as_slice();
    let mut all = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        assert!(length <= after.len(), "{} is cut off", path.display());
        all.push(decode(name, &after[..length]));
        rest = &after[length..];
    }
    assert!(rest.is_empty(), "{} goes on", path.display());
    all
}

fn one(path: &Path, name: &str) -> Value {
    let mut all = records(path, name);
    assert_eq!(all.len(), 1, "{}", path.display());
    all.remove(0)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Reader {
    fn read(meta: &Path) -> Self {
        let mut reader = Self::default();
        assert_eq!(text(&meta.join("boot_id")).trim().len(), 36);
        let slaves = meta.join("slaves");
        let latest = fs::read_link(slaves.join("latest")).expect("a link");
        let id = latest.file_name().and_then(|name| name.to_str());
        let id = id.expect("an agent");
        let agent = slaves.join(id);
        let info = one(&agent.join("slave.info"), "mesos.v1.AgentInfo");
        assert_eq!(info["id"]["value"], id);
        assert_eq!(info["checkpoint"], true);
        for (framework, _) in entries(&agent.join("frameworks")) {
            reader.framework(&agent.join("frameworks").join(&framework), &framework);
        }
        reader
    }

    fn framework(&mut self, directory: &Path, id: &str) {
        let info = one(&directory.join("framework.info"), "mesos.v1.FrameworkInfo");
        assert_eq!(info["id"]["value"], id);
        assert_eq!(info["checkpoint"], true);
        let pid = text(&directory.join("framework.pid"));
        assert!(pid.contains('@') && pid.contains(':'), "{pid}");
        for (name, is_directory) in entries(directory) {
            let known = ["framework.info", "framework.pid", "executors"];
            assert!(known.contains(&name.as_str()), "{name} in {id}");
            assert_eq!(is_directory, name == "executors");
        }
        for (executor, _) in entries(&directory.join("executors")) {
            let path = directory.join("executors").join(&executor);
            self.executor(&path, id, &executor);
        }
        self.frameworks += 1;
    }

    fn executor(&mut self, directory: &Path, framework: &str, id: &str) {
        let info = one(&directory.join("executor.info"), "mesos.v1.ExecutorInfo");
        assert_eq!(info["executor_id"]["value"], id);
        assert_eq!(info["framework_id"]["value"], framework);
        let generated = text(&directory.join("executor_generated_for_command_task"));
        assert!(["0", "1"].contains(&generated.as_str()), "{generated}");
        let runs = directory.join("runs");
        let latest = fs::read_link(runs.join("latest")).expect("a link");
        assert!(latest.is_absolute());
        for (run, is_directory) in entries(&runs) {
            if run == "latest" {
                assert!(!is_directory);
                assert!(latest.ends_with(latest.file_name().expect("a run")));
                continue;
            }
            self.run(&runs.join(run), framework, id);
        }
        self.executors += 1;
    }

    fn run(&mut self, directory: &Path, framework: &str, executor: &str) {
        for (name, _) in entries(directory) {
            let known = ["executor.sentinel", "pids", "tasks"];
            assert!(
                known.contains(&name.as_str()),
                "{name} in a run of {executor}"
            );
        }
        for (name, _) in entries(&directory.join("pids")) {
            let content = text(&directory.join("pids").join(&name));
            match name.as_str() {
                "forked.pid" => assert!(content.parse::<u32>().is_ok(), "{content}"),
                "libprocess.pid" => assert!(content.contains('@'), "{content}"),
                "http.marker" => assert_eq!(content, ""),
                _ => panic!("{name} among the pids of {executor}"),
            }
        }
        for (task, _) in entries(&directory.join("tasks")) {
            let path = directory.join("tasks").join(&task);
            let info = one(&path.join("task.info"), "mesos.v1.Task");
            assert_eq!(info["task_id"]["value"], task);
            assert_eq!(info["framework_id"]["value"], framework);
            assert_eq!(info["state"], "TASK_STAGING");
            for (name, _) in entries(&path) {
                // The last one is ours, and an agent of Mesos does not look for it.
                let known = ["task.info", "task.updates", "task.launch"];
                assert!(known.contains(&name.as_str()), "{name} in task {task}");
            }
            if path.join("task.updates").exists() {
                self.task_updates(&path.join("task.updates"), &task);
            }
            self.tasks += 1;
        }
    }

    fn task_updates(&mut self, path: &Path, task: &str) {
        let mut known = Vec::new();
        for record in records(path, &internal("StatusUpdateRecord")) {
            if record["type"] == "UPDATE" {
                let update = &record["update"];
                assert_eq!(update["status"]["task_id"]["value"], task);
                assert!(update["uuid"].is_string());
                known.push(update["uuid"].clone());
                self.updates += 1;
            } else {
                assert_eq!(record["type"], "ACK");
                assert!(
                    known.contains(&record["uuid"]),
                    "an unknown update of {task}"
                );
                self.acknowledged += 1;
            }
        }
    }
}

#[test]
fn a_reader_of_the_format_of_mesos_reads_what_mesos_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = Reader::read(&unpack(folder.path()));
    let counts = [read.frameworks, read.executors, read.tasks];
    assert_eq!(counts, [2, 4, 4]);
    assert!(read.updates > read.acknowledged && read.acknowledged > 0);
}

#[test]
fn the_same_reader_reads_everything_that_our_follower_left() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let mut framework = Framework::subscribe_with(cluster.leader, &subscription("read", json!({})));
    let offer = framework.offer();
    let tasks = vec![
        marked_task("ended", &offer, "true", &mark),
        marked_task("runs", &offer, "exec sleep 3600", &mark),
        custom_task("custom", &offer, "own", &mark),
    ];
    framework.must(launch(&offer, tasks));
    framework.until("ended", "TASK_FINISHED");
    framework.until("runs", "TASK_RUNNING");
    framework.until("custom", "TASK_RUNNING");
    wait_for_processes(&mark, 2);
    // The acknowledgement of the last update is on its way to the disk.
    let meta = cluster.folder().join("follower/meta");
    assert!(eventually(PATIENCE, || {
        let acknowledged = meta.join("slaves/latest/frameworks").join(&framework.id);
        let updates = "executors/own/runs/latest/tasks/custom/task.updates";
        fs::read(acknowledged.join(updates)).is_ok_and(|bytes| bytes.len() > 200)
    }));
    cluster.kill(Part::Follower);
    let read = Reader::read(&meta);
    let counts = [read.frameworks, read.executors, read.tasks];
    assert_eq!(counts, [1, 3, 3]);
    assert!(read.updates >= 4 && read.acknowledged >= 3);
    assert!(meta.join("containers").is_dir(), "ours, beside it");
}
