//! The flag tables as pages of the documentation (`docs/flags-*.md`), so that there is one list.
//!
//! `tepui config --markdown-flags=PAGE` prints a page, `cargo xtask flags` writes all of them, and the
//! test below fails when a committed page is not what the tables say.

use super::{Flag, Support, emulate, execute, follower, leader, mixed};
use std::fmt::Write;

/// One page: its name (`docs/flags-NAME.md`), title, first words, and tables.
struct Page {
    name: &'static str,
    title: &'static str,
    intro: &'static str,
    sections: &'static [(&'static str, &'static [Flag])],
}

const PAGES: &[Page] = &[
    Page {
        name: "leader",
        title: "Flags of a leader",
        intro: "Of `tepui leader` (also called as `mesos-master`) and of the leader in `tepui mixed`.",
        sections: &[("", leader::FLAGS)],
    },
    Page {
        name: "follower",
        title: "Flags of a follower",
        intro: "Of `tepui follower` (also called as `mesos-agent` or `mesos-slave`) and of the follower in `tepui mixed`.",
        sections: &[
            ("", follower::FLAGS),
            ("Only in `tepui mixed`", mixed::FLAGS),
        ],
    },
    Page {
        name: "execute",
        title: "Flags of `tepui execute`",
        intro: "Of `tepui execute` (also called as `mesos-execute`). Only `--master` can also come from the environment (`MESOS_MASTER`).",
        sections: &[("", execute::FLAGS)],
    },
    Page {
        name: "emulate",
        title: "Flags of `tepui emulate`",
        intro: "Of `tepui emulate` ([emulator.md](emulator.md)). Only `--master` can also come from the environment (`MESOS_MASTER`).",
        sections: &[("", emulate::FLAGS)],
    },
];

/// The text of a page; `None` when there is none of that name.
pub(crate) fn page(name: &str) -> Option<String> {
    PAGES.iter().find(|page| page.name == name).map(render)
}

/// Names of all pages, for messages.
pub(crate) fn names() -> String {
    PAGES.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}

fn render(page: &Page) -> String {
    let mut text = format!(
        "# {}\n\n<!-- Written by `cargo xtask flags` from crates/app/src/flags: change it there. -->\n\n{} How flags, \
         environment variables and files are written is in [configuration.md](configuration.md), which also \
         explains the last column; a flag without an entry there works.\n",
        page.title, page.intro
    );
    for (title, flags) in page.sections {
        if !title.is_empty() {
            let _ = write!(text, "\n## {title}\n");
        }
        text.push_str("\n| flag | default | what for | not there |\n|---|---|---|---|\n");
        for flag in *flags {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                names_of(flag),
                default_of(flag),
                cell(flag.help),
                support_of(flag.support)
            );
        }
    }
    text
}

/// `--[no-]name`, then older names.
fn names_of(flag: &Flag) -> String {
    let (name, older) = flag.names.split_first().unwrap_or((&"", &[]));
    let no = if flag.boolean { "[no-]" } else { "" };
    let mut text = format!("`--{no}{name}`");
    for (index, alias) in older.iter().enumerate() {
        let lead = if index == 0 { " (older: " } else { ", " };
        let _ = write!(text, "{lead}`--{no}{alias}`");
    }
    if !older.is_empty() {
        text.push(')');
    }
    text
}

fn default_of(flag: &Flag) -> String {
    match flag.default {
        None | Some("") => String::new(),
        Some(default) => format!("`{}`", cell(default)),
    }
}

fn support_of(support: Support) -> String {
    match support {
        Support::Works => String::new(),
        Support::NoEffect(why) => format!("no effect: {}", cell(why)),
        Support::Later(feature) => format!("later: {}", cell(feature)),
        Support::Refused(feature) => format!("refused: {}", cell(feature)),
    }
}

/// A bar would end the cell, a line break the row.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_pages_are_what_the_tables_say() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
        for Page { name, .. } in PAGES {
            let path = format!("{docs}/flags-{name}.md");
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                page(name).as_deref() == Some(committed.as_str()),
                "{path} is out of date: run `cargo xtask flags`"
            );
        }
        assert_eq!(page("nothing"), None);
    }

    #[test]
    fn a_row_shows_every_name_and_keeps_its_cells_apart() {
        let flag = Flag {
            names: &["new", "old", "older"],
            boolean: true,
            default: Some("a|b"),
            support: Support::Later("x"),
            help: "this\nor that",
        };
        assert_eq!(
            names_of(&flag),
            "`--[no-]new` (older: `--[no-]old`, `--[no-]older`)"
        );
        assert_eq!(default_of(&flag), "`a\\|b`");
        assert_eq!(cell(flag.help), "this or that");
        assert_eq!(support_of(flag.support), "later: x");
    }
}
