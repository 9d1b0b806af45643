//! Measuring, and what comes of it: a table, and how times grow.

use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;

/// A cell of the grid: followers and frameworks.
pub(crate) type Size = (usize, usize);

/// Microseconds per operation, by what was measured and where.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<&'static str>,
    cells: BTreeMap<(&'static str, Size), f64>,
    /// Only this runs within [`counted`].
    counted: Option<String>,
}

/// For tools that count instructions: `valgrind --tool=callgrind --toggle-collect='*counted*'`.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

/// Microseconds this thread had a processor.
fn spent() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

impl Table {
    pub(crate) fn new(counted: Option<String>) -> Self {
        Self {
            counted,
            ..Self::default()
        }
    }
    /// Times `work`, which does `operations` of them.
    pub(crate) fn time<T>(
        &mut self,
        what: &'static str,
        size: Size,
        operations: usize,
        work: impl FnOnce() -> T,
    ) -> T {
        let (mut work, mut result) = (Some(work), None);
        let mut run = || result = work.take().map(|work| work());
        let started = spent();
        if self.counted.as_deref() == Some(what) {
            counted(&mut run);
            println!("{what}: {operations} operations");
        } else {
            run();
        }
        let each = (spent() - started) / operations.max(1) as f64;
        if !self.rows.contains(&what) {
            self.rows.push(what);
        }
        self.cells.insert((what, size), each);
        eprintln!("{size:?} {what}: {operations} x {each:.2} us");
        result.expect("it ran")
    }

    /// Prints everything as a table of Markdown, microseconds per operation.
    pub(crate) fn print(&self) {
        let mut sizes: Vec<Size> = self.cells.keys().map(|(_, size)| *size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        print!("| |");
        for (followers, frameworks) in &sizes {
            print!(" {followers} × {frameworks} |");
        }
        println!(" ~ followers | ~ frameworks |");
        println!("|---|{}", "---|".repeat(sizes.len() + 2));
        for what in &self.rows {
            print!("| {what} |");
            for size in &sizes {
                match self.cells.get(&(*what, *size)) {
                    Some(each) => print!(" {each:.2} |"),
                    None => print!(" |"),
                }
            }
            let most = sizes
                .iter()
                .copied()
                .fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
            let growth = |pick: fn(Size) -> usize, fixed: fn(Size) -> usize| {
                let points = sizes
                    .iter()
                    .filter(|size| fixed(**size) == fixed(most))
                    .filter_map(|size| {
                        Some((pick(*size) as f64, *self.cells.get(&(*what, *size))?))
                    });
                exponent(points.collect())
            };
            println!(
                " {} | {} |",
                growth(|s| s.0, |s| s.1),
                growth(|s| s.1, |s| s.0)
            );
        }
    }
}

/// The slope of the line through the logarithms: 0 stays, 1 grows alike.
fn exponent(points: Vec<(f64, f64)>) -> String {
    if points.len() < 2 {
        return String::new();
    }
    let logs: Vec<(f64, f64)> = points
        .iter()
        .map(|(x, y)| (x.ln(), y.max(1e-3).ln()))
        .collect();
    let count = logs.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| logs.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let above: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let below: f64 = logs.iter().map(|p| (p.0 - x).powi(2)).sum();
    format!("{:.2}", above / below)
}
