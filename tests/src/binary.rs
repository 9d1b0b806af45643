//! Finds the `tepui` binary, building it first.
//!
//! `TEPUI_BIN` names one outright (the test command builds it once and says so). Otherwise it is built with the profile and
//! into the target folder of the running test, so that a test never runs against a stale binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The binary's path; builds it on first use.
pub fn tepui() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("TEPUI_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(
                path.is_file(),
                "TEPUI_BIN names {}, which is no file",
                path.display()
            );
            path
        }
        None => build(),
    })
}

fn build() -> PathBuf {
    let own = std::env::current_exe().expect("a running test knows its own path");
    // …/TARGET/PROFILE/deps/it-hash, or …/TARGET/PROFILE/measure
    let folder = own.parent().expect("a program is in a folder");
    let profile_folder = match folder.parent() {
        Some(profile) if folder.ends_with("deps") => profile,
        _ => folder,
    };
    let target = profile_folder
        .parent()
        .expect("a profile folder is inside the target folder");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", "tepui-app", "--target-dir"])
        .arg(target);
    if profile_folder.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo
        .current_dir(crate::repository())
        .stdin(Stdio::null())
        .status()
        .expect("cargo starts");
    assert!(status.success(), "building tepui-app failed");
    profile_folder.join("tepui")
}
