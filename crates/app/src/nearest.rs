//! "Did you mean": the nearest known name to a mistyped one.

/// The name within a third of its length of edits, if any.
pub(crate) fn nearest(
    text: &str,
    names: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    names
        .into_iter()
        .map(|name| (distance(text, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap of neighbours) from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["mesos_mode", "mesos_log_dir", "mesos_work_dir"];
        assert_eq!(nearest("mesos_mdoe", names), Some("mesos_mode"));
        assert_eq!(nearest("mesos_logdir", names), Some("mesos_log_dir"));
        assert_eq!(nearest("zookeeper", names), None);
    }
}
