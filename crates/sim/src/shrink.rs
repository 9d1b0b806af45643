//! Smaller plans that still fail: faults are left out, in halves and then one by one, then what is
//! left lasts shorter and there is less of everything.

use crate::{Options, Plan, run};

/// The smallest plan found that still fails, and how.
pub fn shrink(plan: &Plan, options: Options, tries: usize) -> (Plan, String) {
    let mut left = tries;
    let mut fails = |plan: &Plan| -> Option<String> {
        left = left.checked_sub(1)?;
        run(plan, options).failure
    };
    let mut best = plan.clone();
    let mut why = fails(plan).unwrap_or_default();
    let mut size = best.faults.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < best.faults.len() {
            let mut smaller = best.clone();
            let end = (at + size).min(smaller.faults.len());
            smaller.faults.drain(at..end);
            match fails(&smaller) {
                Some(failure) => (best, why) = (smaller, failure),
                None => at += size,
            }
        }
        if size == 1 {
            break;
        }
        size = size.div_ceil(2);
    }
    let less: [fn(&mut Plan); 4] = [
        |plan| plan.tasks = plan.tasks.div_ceil(2),
        |plan| plan.frameworks = 1,
        |plan| plan.followers = (plan.followers - 1).max(1),
        |plan| plan.leaders = (plan.leaders - 1).max(1),
    ];
    for change in less {
        loop {
            let mut smaller = best.clone();
            change(&mut smaller);
            smaller.forget_strangers();
            if smaller == best {
                break;
            }
            match fails(&smaller) {
                Some(failure) => (best, why) = (smaller, failure),
                None => break,
            }
        }
    }
    (best, why)
}
