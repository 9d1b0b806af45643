//! Random launches under quota limits, as many as one asks for: no role ever holds more than it may.

use crate::load::Failure;
use tepui_tests::quota::random_launches;

/// Where the random sizes come from: one number, so that a run can be done again.
const SEED: u64 = 20_261_123;

/// Launches so many tasks; a limit that is passed ends it.
pub(crate) fn measure(launches: usize) -> Result<(), Failure> {
    let figures = random_launches(launches, SEED);
    println!(
        "{} launches in {:.1} s ({:.0} a second): no limit was passed",
        figures.launched,
        figures.elapsed.as_secs_f64(),
        figures.launched as f64 / figures.elapsed.as_secs_f64()
    );
    println!(
        "added up at {} events, looked at in /roles {} times; the limit of all was reached exactly {} times ({} by memory)",
        figures.events, figures.looks, figures.rounds, figures.by_memory
    );
    println!("{:<8}{:>24}{:>24}", "role", "cpus at most", "mem at most");
    for (role, most, limit) in &figures.most {
        println!(
            "{role:<8}{:>24}{:>24}",
            format!("{} of {}", most.cpus as f64 / 1e3, limit.cpus as f64 / 1e3),
            format!("{} of {}", most.mem, limit.mem)
        );
    }
    Ok(())
}
