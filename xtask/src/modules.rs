//! Which files a crate's targets reach through `mod`: the others are dead.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::source::{code_only, tokens};

/// Every file that `root` (a target's first file) reaches, itself included.
pub(crate) fn reachable(root: &Path) -> BTreeSet<PathBuf> {
    let mut reached = BTreeSet::new();
    visit(root, &folder_of_root(root), &mut reached);
    reached
}

/// A root's modules live beside it, whatever it is called; other files' in a folder of their name.
fn folder_of_root(root: &Path) -> PathBuf {
    root.parent().unwrap_or(root).to_owned()
}

fn visit(file: &Path, folder: &Path, reached: &mut BTreeSet<PathBuf>) {
    let Ok(source) = std::fs::read_to_string(file) else {
        return;
    };
    if !reached.insert(file.to_owned()) {
        return;
    }
    for module in declarations(&source) {
        let candidates = match &module.path {
            // A path attribute is relative to the file that carries it.
            Some(path) => vec![file.parent().unwrap_or(file).join(path)],
            None => {
                let inside = module
                    .inside
                    .iter()
                    .fold(folder.to_owned(), |folder, name| folder.join(name));
                vec![
                    inside.join(format!("{}.rs", module.name)),
                    inside.join(&module.name).join("mod.rs"),
                ]
            }
        };
        for candidate in candidates.iter().filter(|candidate| candidate.is_file()) {
            let next = if candidate.file_name().is_some_and(|name| name == "mod.rs") {
                candidate.parent().unwrap_or(candidate).to_owned()
            } else {
                candidate.with_extension("")
            };
            visit(candidate, &next, reached);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Declaration {
    name: String,
    /// Inline modules around it, outermost first.
    inside: Vec<String>,
    path: Option<String>,
}

/// The `mod name;` of a file, with the inline modules they are in.
fn declarations(source: &str) -> Vec<Declaration> {
    let code = code_only(source);
    let words = tokens(&code);
    let lines: Vec<&str> = source.lines().collect();
    let mut found = Vec::new();
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    for (at, (line, word)) in words.iter().enumerate() {
        match *word {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                while inside
                    .last()
                    .is_some_and(|(_, opened_at)| depth <= *opened_at)
                {
                    inside.pop();
                }
            }
            "mod" => match (words.get(at + 1), words.get(at + 2)) {
                (Some((_, name)), Some((_, ";"))) => found.push(Declaration {
                    name: (*name).to_owned(),
                    inside: inside.iter().map(|(name, _)| name.clone()).collect(),
                    path: path_attribute(&lines, *line),
                }),
                (Some((_, name)), Some((_, "{"))) => inside.push(((*name).to_owned(), depth)),
                _ => {}
            },
            _ => {}
        }
    }
    found
}

/// `#[path = "…"]` on the line of the declaration or on attribute lines right above it.
fn path_attribute(lines: &[&str], line: usize) -> Option<String> {
    let own = lines.get(line - 1)?;
    let above = lines[..line - 1]
        .iter()
        .rev()
        .take_while(|above| above.trim_start().starts_with("#["));
    std::iter::once(own).chain(above).find_map(|text| {
        let rest = text.split("#[path = \"").nth(1)?;
        rest.split('"').next().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn declarations_know_their_inline_modules_and_paths() {
        let source = "mod a;\npub(crate) mod b { fn f() { if x { y } } mod c; }\n#[path = \"odd/place.rs\"]\nmod d;\n\
                      // mod e;\nmod f { mod g {} mod h; }\nmod i;";
        let found: Vec<_> = declarations(source)
            .into_iter()
            .map(|declaration| {
                (
                    declaration.name,
                    declaration.inside.join("/"),
                    declaration.path,
                )
            })
            .collect();
        let expected = [
            ("a", "", None),
            ("c", "b", None),
            ("d", "", Some("odd/place.rs")),
            ("h", "f", None),
            ("i", "", None),
        ]
        .map(|(name, inside, path)| (name.to_owned(), inside.to_owned(), path.map(str::to_owned)));
        assert_eq!(found, expected);
    }

    #[test]
    fn files_no_mod_names_are_not_reached() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let root = file("lib.rs", "mod a; mod b;");
        let a = file("a.rs", "mod inner;");
        let inner = file("a/inner.rs", "");
        let b = file("b/mod.rs", "mod deep;");
        let deep = file("b/deep.rs", "");
        let dead = file("dead.rs", "");
        let reached = reachable(&root);
        assert_eq!(reached, BTreeSet::from([root, a, inner, b, deep]));
        assert!(!reached.contains(&dead));
    }
}
