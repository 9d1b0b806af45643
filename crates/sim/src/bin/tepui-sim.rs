//! `tepui-sim`: plays seeds and plans, and says how to see again what failed.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};
use tepui_sim::{Options, Outcome, Plan, Planted, run, shrink};

const USAGE: &str = "usage: tepui-sim [--seeds FROM..TO | --seed N | --plan FILE] [--jobs N]
                 [--trace] [--print] [--shrink] [--check-every N] [--keep-going] [--bug NAME]";

#[derive(Default)]
struct Arguments {
    seeds: Option<(u64, u64)>,
    plan: Option<String>,
    jobs: Option<usize>,
    trace: bool,
    print: bool,
    shrink: bool,
    keep_going: bool,
    check_every: Option<u64>,
    bug: Option<String>,
}

fn arguments() -> Option<Arguments> {
    let mut all = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => {
                let range = words.next()?;
                let (from, to) = range.split_once("..")?;
                all.seeds = Some((from.parse().ok()?, to.parse().ok()?));
            }
            "--seed" => {
                let seed = words.next()?.parse().ok()?;
                all.seeds = Some((seed, seed + 1));
            }
            "--plan" => all.plan = Some(words.next()?),
            "--jobs" => all.jobs = Some(words.next()?.parse().ok()?),
            "--check-every" => all.check_every = Some(words.next()?.parse().ok()?),
            "--bug" => all.bug = Some(words.next()?),
            "--trace" => all.trace = true,
            "--print" => all.print = true,
            "--shrink" => all.shrink = true,
            "--keep-going" => all.keep_going = true,
            _ => return None,
        }
    }
    Some(all)
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let bug = match &arguments.bug {
        None => None,
        Some(name) => match Planted::ALL.iter().find(|bug| bug.name() == name) {
            Some(bug) if Planted::CAN_BE => Some(*bug),
            _ => {
                let names: Vec<_> = Planted::ALL.iter().map(|bug| bug.name()).collect();
                eprintln!("bugs (build with --features planted): {}", names.join(", "));
                return ExitCode::from(2);
            }
        },
    };
    // What a core says when it panics is in the outcome.
    if !arguments.trace {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let options = Options {
        trace: arguments.trace,
        check_every: arguments.check_every.unwrap_or(8).max(1),
    };
    let one = match (&arguments.plan, arguments.seeds) {
        (Some(path), _) => match std::fs::read_to_string(path).map(|text| Plan::parse(&text)) {
            Ok(Ok(plan)) => Some(plan),
            Ok(Err(error)) => {
                eprintln!("{path}: {error}");
                return ExitCode::from(2);
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::from(2);
            }
        },
        (None, Some((from, to))) if to == from + 1 => Some(Plan::generate(from)),
        _ => None,
    };
    match one {
        Some(plan) => play(&plan, &arguments, options, bug),
        None => {
            let (from, to) = arguments.seeds.unwrap_or((0, 1000));
            hunt(from, to, &arguments, options, bug)
        }
    }
}

fn play(plan: &Plan, arguments: &Arguments, options: Options, bug: Option<Planted>) -> ExitCode {
    Planted::plant(bug);
    if arguments.print {
        print!("{plan}");
    }
    let outcome = run(plan, options);
    println!(
        "{:.1}s, {} events, {} terms, {} updates, hash {:016x}",
        outcome.at.as_secs_f64(),
        outcome.events,
        outcome.terms,
        outcome.updates,
        outcome.hash
    );
    let Some(failure) = outcome.failure else {
        println!("all is well");
        return ExitCode::SUCCESS;
    };
    println!("FAILED: {failure}");
    if arguments.shrink {
        let quiet = Options {
            trace: false,
            ..options
        };
        let (smaller, why) = shrink::shrink(plan, quiet, 500);
        println!("# {why}\n{smaller}");
    }
    ExitCode::FAILURE
}

fn hunt(
    from: u64,
    to: u64,
    arguments: &Arguments,
    options: Options,
    bug: Option<Planted>,
) -> ExitCode {
    let next = AtomicU64::new(from);
    let done = AtomicU64::new(0);
    let events = AtomicU64::new(0);
    let failed: Mutex<Vec<(u64, Outcome)>> = Mutex::default();
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.unwrap_or(1) {
            scope.spawn(|| {
                Planted::plant(bug);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let plan = Plan::generate(seed);
                    let mut outcome = run(&plan, options);
                    if bug.is_some() && outcome.failure.is_some() {
                        // It must be that bug which is found.
                        Planted::plant(None);
                        if run(&plan, options).failure.is_some() {
                            outcome.failure = None;
                        }
                        Planted::plant(bug);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    events.fetch_add(outcome.events, Ordering::Relaxed);
                    if let Some(why) = &outcome.failure {
                        println!("seed {seed}: {why}");
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push((seed, outcome));
                        if !arguments.keep_going {
                            next.store(to, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let done = done.into_inner();
    println!(
        "{done} seeds in {seconds:.1}s: {:.1} seeds/s, {:.0} events/s",
        done as f64 / seconds,
        events.into_inner() as f64 / seconds
    );
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|(seed, _)| *seed);
    match failed.first() {
        None => ExitCode::SUCCESS,
        Some((seed, _)) => {
            println!(
                "{} failed; see the first again: tepui-sim --seed {seed} --trace",
                failed.len()
            );
            ExitCode::FAILURE
        }
    }
}
