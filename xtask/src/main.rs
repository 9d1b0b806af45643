//! Chores of this repository: `cargo xtask tidy | licenses | flags | ci`.
//!
//! What a compiler or a linter cannot see is checked here: that every module says what it is for, that no file is dead,
//! that tests do not sleep, that the cores stay pure and the crates point one way, and that every dependency's licence is
//! one we accept. Deliberately without dependencies beyond a JSON parser, so that it builds in seconds.

mod crates;
mod flags;
mod licenses;
mod links;
mod metadata;
mod modules;
mod source;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask <tidy | licenses | flags | ci>
  tidy      rules about our own files and the shape of the crate graph
  licenses  every dependency's licence is on deny.toml's list and comes from the registry
  flags     writes docs/flags-*.md from the flag tables of the binary
  ci        the first two, and everything else the test command runs (scripts/test)";

/// One broken rule: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    place: String,
    problem: String,
}

impl Finding {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Finding {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

fn main() -> ExitCode {
    let root = repository_root();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["tidy"] => tidy(&root),
        ["licenses"] => licences(&root),
        ["flags"] => flags::write(&root),
        ["ci"] => run_test_script(&root),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder: xtask's own is one below it.
fn repository_root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

fn tidy(root: &Path) -> Result<String, String> {
    let metadata = metadata::Metadata::load(root)?;
    let (mut findings, files) = tidy::check(root, &metadata)?;
    findings.extend(crates::check_purity(&metadata));
    findings.extend(crates::check_arrows(&metadata));
    report(
        "tidy",
        findings,
        &format!("{files} files, {} crates", metadata.members().count()),
    )
}

fn licences(root: &Path) -> Result<String, String> {
    let metadata = metadata::Metadata::load(root)?;
    let deny = std::fs::read_to_string(root.join("deny.toml"))
        .map_err(|error| format!("deny.toml: {error}"))?;
    let allowed = licenses::allowed_list(&deny)?;
    let findings = licenses::check(&metadata, &allowed);
    report(
        "licenses",
        findings,
        &format!("{} packages", metadata.packages().count()),
    )
}

fn run_test_script(root: &Path) -> Result<String, String> {
    let status = Command::new(root.join("scripts/test"))
        .current_dir(root)
        .status()
        .map_err(|error| format!("scripts/test: {error}"))?;
    if status.success() {
        Ok("ci: ok".to_owned())
    } else {
        Err(format!("ci: scripts/test ended with {status}"))
    }
}

fn report(task: &str, mut findings: Vec<Finding>, looked_at: &str) -> Result<String, String> {
    findings.sort();
    findings.dedup();
    if findings.is_empty() {
        return Ok(format!("{task}: ok ({looked_at})"));
    }
    let mut text = String::new();
    for Finding { place, problem } in &findings {
        text.push_str(&format!("{place}: {problem}\n"));
    }
    text.push_str(&format!("{task}: {} to fix ({looked_at})", findings.len()));
    Err(text)
}
