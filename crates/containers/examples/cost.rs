//! What a container costs: memory of ours per running container and time to launch.
//!
//! With `--outlive` of those that outlive their launcher, which is killed in between: the next one
//! adopts them.
//!
//! `cargo run --release -p tepui-containers --example cost -- [CONTAINERS] [--no-cgroups] [--outlive]`

use std::{
    collections::HashMap,
    fs, io,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};
use tepui_containers::{
    linux::{Launcher, LauncherOptions, recover, start_launcher},
    message::{Frames, Report, Request},
    plan::{HostFacts, plan},
};
use tepui_model::container::{ContainerId, LaunchSpec};
use tepui_protocol::v1;

struct Client {
    launcher: Launcher,
    frames: Frames,
}

impl Client {
    fn send(&self, request: &Request) -> io::Result<()> {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.launcher.socket, rest) {
                Ok(length) => rest = &rest[length..],
                Err(rustix::io::Errno::AGAIN) => self.wait(rustix::event::PollFlags::OUT)?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn wait(&self, events: rustix::event::PollFlags) -> io::Result<()> {
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(
            self.launcher.socket.as_fd(),
            events,
        )];
        rustix::event::poll(&mut polled, None)?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Report> {
        loop {
            if let Some(frame) = self.frames.next().map_err(io::Error::other)? {
                return Report::decode(frame).map_err(io::Error::other);
            }
            self.wait(rustix::event::PollFlags::IN)?;
            let mut buffer = [0; 65536];
            let length = rustix::io::read(&self.launcher.socket, &mut buffer)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.frames.push(&buffer[..length]);
        }
    }
}

fn main() -> io::Result<()> {
    let mut containers = 500;
    let mut options = LauncherOptions::default();
    let mut outlive = false;
    for argument in std::env::args().skip(1) {
        match argument.parse() {
            Ok(number) => containers = number,
            Err(_) if argument == "--outlive" => outlive = true,
            Err(_) => options.cgroups = argument != "--no-cgroups",
        }
    }
    let mut client = Client {
        launcher: start_launcher(options)?,
        frames: Frames::default(),
    };
    let root = std::env::temp_dir().join(format!("tepui-cost-{}", std::process::id()));

    let (mut latencies, mut inits) = (Vec::new(), Vec::new());
    for number in 0..containers {
        let request = launch(&root, number, "exec sleep 1000000", outlive)?;
        let start = Instant::now();
        client.send(&request)?;
        match client.receive()? {
            Report::Launched { init, .. } => inits.push(init),
            other => return Err(io::Error::other(format!("{other:?}"))),
        }
        latencies.push(start.elapsed());
    }
    print_times("launch, one after the other", &mut latencies);
    print_memory(&inits, client.launcher.pid)?;
    if outlive {
        client = adopt(client, options, &root)?;
        print_memory(&inits, client.launcher.pid)?;
    }

    let start = Instant::now();
    for number in 0..containers {
        client.send(&Request::Destroy {
            container: id(number),
        })?;
    }
    for _ in 0..containers {
        client.receive()?;
    }
    println!(
        "destroy all: {:?}, {:?} each",
        start.elapsed(),
        start.elapsed() / containers
    );

    let start = Instant::now();
    let mut times = HashMap::new();
    for number in 0..containers {
        let request = launch(&root, number, "exit 0", outlive)?;
        times.insert(id(number), Instant::now());
        client.send(&request)?;
    }
    let mut lives = Vec::new();
    while lives.len() < containers as usize {
        if let Report::Exited { container, .. } = client.receive()? {
            lives.extend(times.get(&container).map(Instant::elapsed));
        }
    }
    println!(
        "{containers} at once, to the exit of the last: {:?}",
        start.elapsed()
    );
    print_times("  request to exit", &mut lives);

    client.launcher.stop()?;
    fs::remove_dir_all(root)
}

fn id(number: u32) -> ContainerId {
    ContainerId::top(format!("11111111-2222-4333-8444-{number:012}"))
}

/// Kills the launcher and has another one take charge.
fn adopt(client: Client, options: LauncherOptions, root: &Path) -> io::Result<Client> {
    let pid = rustix::process::Pid::from_raw(client.launcher.pid as i32);
    let pid = pid.ok_or(io::ErrorKind::NotFound)?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    client.launcher.stop()?;
    let mut client = Client {
        launcher: start_launcher(options)?,
        frames: Frames::default(),
    };
    let start = Instant::now();
    let found = recover(&root.join("state"))?;
    let read = start.elapsed();
    for one in &found {
        client.send(&one.adoption())?;
    }
    // Requests are carried out in order: the answer to this one comes after the adoptions.
    client.send(&launch(root, u32::MAX, "exit 0", false)?)?;
    while !matches!(client.receive()?, Report::Exited { .. }) {}
    let count = found.len().max(1) as u32;
    println!(
        "{} found in {read:?}, {:?} each; adopted in {:?}, {:?} each",
        found.len(),
        read / count,
        start.elapsed() - read,
        (start.elapsed() - read) / count
    );
    Ok(client)
}

fn launch(root: &Path, number: u32, command: &str, outlive: bool) -> io::Result<Request> {
    let sandbox = root.join(number.to_string());
    fs::create_dir_all(&sandbox)?;
    let spec = LaunchSpec {
        container: id(number),
        sandbox,
        latest: None,
        user: None,
        command: v1::CommandInfo {
            value: Some(command.into()),
            ..Default::default()
        },
        environment: (0..20)
            .map(|n| (format!("MESOS_VARIABLE_{n}"), "x".repeat(60)))
            .collect(),
        uris: vec![],
        container_info: None,
        resources: [].into(),
        outlives: outlive.then(|| format!("task-{number}").into()),
    };
    let host = HostFacts {
        state: Some(root.join("state")),
        ..HostFacts::default()
    };
    plan(&spec, &host)
        .map(|p| Request::Launch(Box::new(p)))
        .map_err(io::Error::other)
}

fn print_times(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{what}: p50 {:?}, p99 {:?}, max {:?}",
        at(50),
        at(99),
        at(100)
    );
}

fn print_memory(inits: &[u32], launcher: u32) -> io::Result<()> {
    let mut sum: HashMap<String, u64> = HashMap::new();
    for init in inits {
        for (field, kib) in rollup(*init)? {
            *sum.entry(field).or_default() += kib;
        }
    }
    let mean = |field: &str| sum.get(field).copied().unwrap_or(0) as f64 / inits.len() as f64;
    let launcher = rollup(launcher)?;
    println!(
        "{} inits: PSS {:.1} KiB each (private {:.1}, RSS {:.1}); page tables {:.1} KiB each; launcher: PSS {} KiB",
        inits.len(),
        mean("Pss"),
        mean("Private_Dirty") + mean("Private_Clean"),
        mean("Rss"),
        inits
            .iter()
            .filter_map(|p| status(*p, "VmPTE:"))
            .sum::<u64>() as f64
            / inits.len() as f64,
        launcher.get("Pss").copied().unwrap_or(0),
    );
    Ok(())
}

fn rollup(pid: u32) -> io::Result<HashMap<String, u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((
            name.to_owned(),
            rest.trim().strip_suffix(" kB")?.parse().ok()?,
        ))
    };
    Ok(text.lines().filter_map(field).collect())
}

fn status(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|l| {
        l.strip_prefix(field)?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    })
}
