//! Writes `docs/flags-*.md`. The binary prints them from its own tables; a test of `tepui-app` fails when they are not the
//! committed ones.

use std::path::Path;
use std::process::Command;

/// The pages, by the names the binary knows them under.
const PAGES: &[&str] = &["leader", "follower", "execute", "emulate"];

/// Writes every page; the summary names them.
pub(crate) fn write(root: &Path) -> Result<String, String> {
    for page in PAGES {
        let text = printed(root, page)?;
        let path = root.join(format!("docs/flags-{page}.md"));
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(format!(
        "flags: wrote docs/flags-{{{}}}.md",
        PAGES.join(",")
    ))
}

fn printed(root: &Path, page: &str) -> Result<Vec<u8>, String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--package", "tepui-app", "--", "config"])
        .arg(format!("--markdown-flags={page}"))
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("flags: cannot print '{page}': {said}"))
    }
}
