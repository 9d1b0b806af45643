//! Load and memory of the machine, as `/system/stats.json` and the `system/*` metrics give them
//! (`3rdparty/libprocess/include/process/system.hpp`).

use serde_json::Value;
use std::fs;

/// What is known; a machine that does not tell a thing has no entry for it.
pub fn stats() -> Vec<(&'static str, f64)> {
    let mut stats = Vec::new();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let names = ["load_1min", "load_5min", "load_15min"];
    let loads = names.into_iter().zip(load.split_whitespace());
    stats.extend(loads.filter_map(|(name, load)| Some((name, load.parse().ok()?))));
    if let Ok(cpus) = std::thread::available_parallelism() {
        stats.push(("cpus_total", cpus.get() as f64));
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    for (line, name) in [
        ("MemTotal:", "mem_total_bytes"),
        ("MemFree:", "mem_free_bytes"),
    ] {
        if let Some(bytes) = kilobytes(&memory, line) {
            stats.push((name, bytes * 1024.0));
        }
    }
    stats
}

/// The document of `/system/stats.json`.
pub fn stats_json() -> Value {
    let named = stats().into_iter().map(|(name, value)| {
        let whole = matches!(name, "cpus_total" | "mem_total_bytes" | "mem_free_bytes");
        let name = match name.strip_prefix("load_") {
            Some(period) => format!("avg_load_{period}"),
            None => name.to_owned(),
        };
        // Counts are whole numbers here, unlike in the metrics.
        let value = if whole {
            Value::from(value as u64)
        } else {
            Value::from(value)
        };
        (name, value)
    });
    named.collect()
}

fn kilobytes(memory: &str, line: &str) -> Option<f64> {
    let rest = memory.lines().find_map(|l| l.strip_prefix(line))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linux_machine_tells_everything() {
        let names: Vec<_> = stats_json()
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        assert_eq!(
            names,
            [
                "avg_load_15min",
                "avg_load_1min",
                "avg_load_5min",
                "cpus_total",
                "mem_free_bytes",
                "mem_total_bytes"
            ]
        );
    }
}
