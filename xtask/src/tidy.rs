//! Rules about our own files: every module has docs, none is dead or too long, nothing is left half done, tests do not
//! sleep, every core carries the core lint bans, and the links of our documents lead somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::Finding;
use crate::crates::PURE;
use crate::links;
use crate::metadata::Metadata;
use crate::modules::reachable;
use crate::source::{code_only, tokens};

/// Past this a file is doing more than one thing.
const LINES_MAX: usize = 1_000;

/// The one place that waits by sleeping: every test waits through it.
const POLLING_HELPER: &str = "tests/src/wait.rs";

/// Folders that are not ours to check.
const SKIPPED: &[&str] = &[
    "target",
    ".git",
    ".test-env",
    "node_modules",
    "artifacts",
    "corpus",
];

/// All findings, and how many files were looked at.
pub(crate) fn check(root: &Path, metadata: &Metadata) -> Result<(Vec<Finding>, usize), String> {
    let mut files = Vec::new();
    collect(root, &mut files).map_err(|error| format!("{}: {error}", root.display()))?;
    files.sort();

    let mut findings = Vec::new();
    for file in &files {
        let name = relative(root, file);
        let source = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
        if has_extension(file, "md") {
            findings.extend(links::check_file(root, file, &name, &source));
        } else {
            findings.extend(check_file(&name, &source));
        }
    }
    let looked_at = files.len();
    files.retain(|file| has_extension(file, "rs"));
    findings.extend(dead_files(root, &files, metadata));
    findings.extend(missing_bans(metadata));
    Ok((findings, looked_at))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.contains(&name.to_string_lossy().as_ref()) {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && ["rs", "md"].iter().any(|e| has_extension(&entry.path(), e)) {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}

fn relative(root: &Path, file: &Path) -> String {
    file.strip_prefix(root)
        .unwrap_or(file)
        .to_string_lossy()
        .into_owned()
}

/// The rules that need nothing but the file itself.
pub(crate) fn check_file(name: &str, source: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !begins_with_docs(source) {
        findings.push(Finding::new(
            name,
            "begin with a `//!` line: what this module is for, and why",
        ));
    }
    let lines = source.lines().count();
    if lines > LINES_MAX {
        findings.push(Finding::new(
            name,
            format!("{lines} lines: split it (at most {LINES_MAX})"),
        ));
    }
    let code = code_only(source);
    let words = tokens(&code);
    findings.extend(unfinished(name, &words));
    if name != POLLING_HELPER {
        findings.extend(sleeping_tests(name, &words));
    }
    findings
}

fn begins_with_docs(source: &str) -> bool {
    source
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("#!"))
        .and_then(|line| line.strip_prefix("//!"))
        .is_some_and(|text| !text.trim().is_empty())
}

type Token<'a> = (usize, &'a str);

fn unfinished(name: &str, words: &[Token<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for window in words.windows(3) {
        let (line, first) = window[0];
        let place = format!("{name}:{line}");
        match [first, window[1].1, window[2].1] {
            ["todo" | "unimplemented" | "dbg", "!", "(" | "{" | "["] => {
                findings.push(Finding::new(
                    place,
                    format!("`{first}!` is left in: finish it or return an error"),
                ));
            }
            ["#", "[", "ignore"] => {
                findings.push(Finding::new(
                    place,
                    "an ignored test proves nothing: fix it or remove it",
                ));
            }
            _ => {}
        }
    }
    findings
}

/// A call to `sleep` in test code. Tests wait for a condition with a deadline; time in cores is an argument.
fn sleeping_tests(name: &str, words: &[Token<'_>]) -> Vec<Finding> {
    let starts = if is_test_file(name) {
        Some(0)
    } else {
        first_test_module(words)
    };
    let Some(starts) = starts else {
        return Vec::new();
    };
    words[starts..]
        .windows(3)
        .filter(|window| window[0].1 == ":" || window[0].1 == "." || !is_word(window[0].1))
        .filter(|window| window[1].1 == "sleep" && window[2].1 == "(")
        .map(|window| {
            Finding::new(
                format!("{name}:{}", window[1].0),
                "a test that sleeps is slow or flaky: wait for a condition with a deadline (tepui_tests::wait)",
            )
        })
        .collect()
}

fn is_word(token: &str) -> bool {
    token.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn is_test_file(name: &str) -> bool {
    name.starts_with("tests/")
        || name.contains("/tests/")
        || name.ends_with("/tests.rs")
        || name.ends_with("_test.rs")
}

/// Where the first `#[cfg(test)]` is: by our file order, everything after it is tests.
fn first_test_module(words: &[Token<'_>]) -> Option<usize> {
    words.windows(5).position(|window| {
        let texts: Vec<&str> = window.iter().map(|(_, text)| *text).collect();
        texts == ["[", "cfg", "(", "test", ")"]
    })
}

/// Files no target reaches. Only inside packages: elsewhere there are no modules.
fn dead_files(root: &Path, files: &[PathBuf], metadata: &Metadata) -> Vec<Finding> {
    let mut alive = BTreeSet::new();
    let mut folders = Vec::new();
    for (_, package) in metadata.members() {
        folders.push(package.manifest_dir.clone());
        for target in &package.target_roots {
            alive.extend(reachable(target));
        }
    }
    files
        .iter()
        .filter(|file| {
            folders.iter().any(|folder| file.starts_with(folder)) && !alive.contains(*file)
        })
        .map(|file| Finding::new(relative(root, file), "dead: no `mod` names it"))
        .collect()
}

/// Every core links the core bans as its clippy.toml. `protocol` is pure in what it links but its tests read recordings.
fn missing_bans(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in PURE.iter().filter(|name| **name != "tepui-protocol") {
        let Some((_, package)) = metadata.member(name) else {
            continue;
        };
        let bans =
            std::fs::read_to_string(package.manifest_dir.join("clippy.toml")).unwrap_or_default();
        if !bans.contains("std::time::Instant::now") {
            findings.push(Finding::new(
                *name,
                "a core needs clippy.toml -> ../clippy-core.toml",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(name: &str, source: &str) -> Vec<String> {
        check_file(name, source)
            .into_iter()
            .map(|finding| finding.problem)
            .collect()
    }

    #[test]
    fn a_file_without_docs_is_found() {
        assert_eq!(problems("a.rs", "fn a() {}").len(), 1);
        assert_eq!(problems("a.rs", "//!\nfn a() {}").len(), 1);
        assert_eq!(problems("a.rs", "\n//! Says why.\nfn a() {}"), [""; 0]);
        assert_eq!(
            problems("a.rs", "#!/usr/bin/env x\n//! Says why.\n"),
            [""; 0]
        );
    }

    #[test]
    fn a_long_file_is_found() {
        let long = format!("//! Docs.\n{}", "// line\n".repeat(LINES_MAX));
        assert!(problems("a.rs", &long)[0].starts_with("1001 lines"));
    }

    #[test]
    fn what_is_left_unfinished_is_found() {
        for left in [
            "todo!()",
            "unimplemented!(\"x\")",
            "dbg!(x)",
            "std::todo! { }",
        ] {
            assert_eq!(
                problems("a.rs", &format!("//! Docs.\nfn f() {{ {left}; }}")).len(),
                1,
                "{left}"
            );
        }
        assert_eq!(
            problems("a.rs", "//! Docs.\n#[test]\n#[ignore]\nfn f() {}").len(),
            1
        );
        assert_eq!(
            problems("a.rs", "//! Docs.\n#[ignore = \"slow\"]\nfn f() {}").len(),
            1
        );
        assert_eq!(
            problems(
                "a.rs",
                "//! todo!() in docs\n// dbg!(x)\nconst T: &str = \"todo!()\";"
            ),
            [""; 0]
        );
    }

    #[test]
    fn a_sleeping_test_is_found_and_a_sleeping_shell_is_not() {
        let source = "//! Docs.\nfn f() { std::thread::sleep(d); }";
        assert_eq!(problems("crates/a/tests/it/main.rs", source).len(), 1);
        assert_eq!(problems("tests/tests/it/main.rs", source).len(), 1);
        assert_eq!(problems("crates/a/src/lib.rs", source), [""; 0]);
        assert_eq!(problems(POLLING_HELPER, source), [""; 0]);
        let inside = "//! Docs.\nfn f() { sleep(d) }\n#[cfg(test)]\nmod tests { fn g() { tokio::time::sleep(d).await; } }";
        assert_eq!(problems("crates/a/src/lib.rs", inside).len(), 1);
        assert_eq!(
            problems(
                "crates/a/tests/it/main.rs",
                "//! Docs.\nfn f() { command(\"sleep(1)\"); }"
            ),
            [""; 0]
        );
    }

    #[test]
    fn a_dead_file_and_a_core_without_bans_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("crates/model/src")).unwrap();
        let lib = root.join("crates/model/src/lib.rs");
        std::fs::write(&lib, "//! Docs.\nmod used;\n").unwrap();
        std::fs::write(root.join("crates/model/src/used.rs"), "//! Docs.\n").unwrap();
        std::fs::write(root.join("crates/model/src/dead.rs"), "//! Docs.\n").unwrap();
        let metadata = Metadata::from_json(&json!({
            "packages": [{
                "id": "m", "name": "tepui-model", "manifest_path": root.join("crates/model/Cargo.toml"),
                "targets": [{"src_path": lib}],
            }],
            "workspace_members": ["m"],
        }));
        let (findings, files) = check(root, &metadata).unwrap();
        assert_eq!(files, 3);
        let places: Vec<_> = findings
            .iter()
            .map(|finding| finding.place.as_str())
            .collect();
        assert_eq!(places, ["crates/model/src/dead.rs", "tepui-model"]);
        std::fs::write(
            root.join("crates/model/clippy.toml"),
            "std::time::Instant::now",
        )
        .unwrap();
        assert_eq!(check(root, &metadata).unwrap().0.len(), 1);
        std::fs::write(root.join("README.md"), "[gone](docs/none.md)\n").unwrap();
        let (findings, _) = check(root, &metadata).unwrap();
        assert_eq!(findings.len(), 2, "a document's dead link is found too");
    }
}
