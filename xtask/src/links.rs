//! Relative links in Markdown lead somewhere: to a file or folder of this repository, and to a heading that is there.
//!
//! What a link to another site leads to is not looked at: that needs a network, and is not ours to mend.

use std::path::Path;

use crate::Finding;

/// One link: the line it is on, and where it leads.
type Link<'a> = (usize, &'a str);

/// Every broken link of one file. `name` is its path for messages.
pub(crate) fn check_file(root: &Path, file: &Path, name: &str, text: &str) -> Vec<Finding> {
    links(text)
        .filter_map(|(line, target)| {
            let problem = broken(root, file, text, target)?;
            Some(Finding::new(format!("{name}:{line}"), problem))
        })
        .collect()
}

fn broken(root: &Path, file: &Path, text: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = match target.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (target, None),
    };
    let folder = file.parent().unwrap_or(root);
    let place = if path.is_empty() {
        file.to_owned()
    } else {
        folder.join(path)
    };
    let inside = place.canonicalize().is_ok_and(|place| {
        root.canonicalize()
            .is_ok_and(|root| place.starts_with(root))
    });
    if !inside {
        return Some(format!("the link '{target}' leads nowhere"));
    }
    let heading = heading?;
    let there = if path.is_empty() {
        has_heading(text, heading)
    } else {
        std::fs::read_to_string(&place).is_ok_and(|text| has_heading(&text, heading))
    };
    (!there).then(|| format!("the link '{target}' names a heading that is not there"))
}

/// Inline links outside of code.
fn links(text: &str) -> impl Iterator<Item = Link<'_>> {
    prose(text).flat_map(|(number, line)| {
        let mut found = Vec::new();
        let mut rest = line;
        // Every second piece between backticks is code.
        while let Some(at) = rest.find(['`', ']']) {
            let (mark, after) = rest[at..].split_at(1);
            rest = after;
            if mark == "`" {
                rest = rest.split_once('`').map_or("", |(_, after)| after);
            } else if let Some((target, after)) =
                rest.strip_prefix('(').and_then(|r| r.split_once(')'))
            {
                let target = target.split_whitespace().next().unwrap_or_default();
                found.push((number, target));
                rest = after;
            }
        }
        found
    })
}

/// Lines outside of fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

fn has_heading(text: &str, wanted: &str) -> bool {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .any(|(_, line)| anchor(line.trim_start_matches('#')) == wanted)
}

/// The name that GitHub and others give to a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| match c {
            ' ' => '-',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("docs")).unwrap();
        std::fs::write(root.join("docs/there.md"), "# A `b`: c\n").unwrap();
        let file = root.join("docs/page.md");
        std::fs::write(&file, text).unwrap();
        check_file(root, &file, "docs/page.md", text)
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        for text in [
            "[a](there.md) and [b](../docs/there.md)",
            "[a](there.md#a-b-c)",
            "# Own\n[a](#own)",
            "[a](..) [b](../docs/)",
            "[a](https://example.com/none) [b](mailto:a@b)",
            "[a](there.md \"title\")",
        ] {
            assert_eq!(problems(text), [], "{text}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_found_with_their_line() {
        let found = problems("# T\n\n[a](gone.md)\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "docs/page.md:3");
        assert!(found[0].problem.contains("gone.md"));
        assert_eq!(problems("[a](there.md#b) [b](#none)").len(), 2);
        assert_eq!(
            problems("[a](../../../../../../etc/hosts)").len(),
            1,
            "outside of the repository"
        );
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(problems("```\n[a](gone.md)\n```\n"), []);
        assert_eq!(problems("`[a](gone.md)` and `x](y)`"), []);
        assert_eq!(problems("`code` [a](gone.md)").len(), 1);
    }
}
