//! Licences and sources of everything we link, build or test with.
//!
//! The list of accepted licences is `allow` in deny.toml, so that cargo-deny and this check cannot disagree. Reading it takes
//! no TOML parser: the list is a flat array of strings.

use crate::Finding;
use crate::metadata::Metadata;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The strings of the `allow = [ … ]` array under `[licenses]`.
pub(crate) fn allowed_list(deny: &str) -> Result<Vec<String>, String> {
    let section = deny
        .split("\n[licenses]")
        .nth(1)
        .ok_or("deny.toml has no [licenses]")?;
    let array = section
        .split("allow = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let array = array.ok_or("deny.toml's [licenses] has no allow = [ … ]")?;
    Ok(array
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect())
}

pub(crate) fn check(metadata: &Metadata, allowed: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.packages() {
        let place = format!("{} {}", package.name, package.version);
        match &package.license {
            None => findings.push(Finding::new(&place, "states no licence")),
            Some(expression) if !accepts(expression, allowed) => {
                findings.push(Finding::new(
                    &place,
                    format!("licence `{expression}` is not on deny.toml's list"),
                ));
            }
            Some(_) => {}
        }
        if let Some(source) = package
            .source
            .as_deref()
            .filter(|source| *source != REGISTRY)
        {
            findings.push(Finding::new(
                &place,
                format!("comes from {source}, not from crates.io"),
            ));
        }
    }
    findings
}

/// Whether an SPDX expression can be met with the licences we accept. `/` is the old spelling of OR.
fn accepts(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser {
        words: &words,
        next: 0,
        allowed,
    };
    let accepted = parser.either();
    accepted && parser.next == words.len()
}

struct Parser<'a> {
    words: &'a [&'a str],
    next: usize,
    allowed: &'a [String],
}

impl Parser<'_> {
    fn either(&mut self) -> bool {
        let mut accepted = self.both();
        while self.take("OR") {
            // Evaluated in any case: the parser has to move past it.
            let right = self.both();
            accepted = accepted || right;
        }
        accepted
    }

    fn both(&mut self) -> bool {
        let mut accepted = self.one();
        while self.take("AND") {
            let right = self.one();
            accepted = accepted && right;
        }
        accepted
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let accepted = self.either();
            return self.take(")") && accepted;
        }
        let Some(word) = self.words.get(self.next) else {
            return false;
        };
        self.next += 1;
        let mut name = (*word).to_owned();
        if self.take("WITH") {
            name.push_str(" WITH ");
            name.push_str(self.words.get(self.next).copied().unwrap_or_default());
            self.next += 1;
        }
        self.allowed.contains(&name)
    }

    fn take(&mut self, word: &str) -> bool {
        let taken = self.words.get(self.next) == Some(&word);
        self.next += usize::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn allowed() -> Vec<String> {
        ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn expressions_are_met_or_not() {
        for (expression, expected) in [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0 OR LGPL-2.1", false),
            ("MIT/Apache-2.0", true),
            ("(MIT OR GPL-2.0) AND ISC", true),
            ("MIT AND GPL-2.0", false),
            ("(Apache-2.0 OR MIT) AND GPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("MIT garbage", false),
            ("", false),
        ] {
            assert_eq!(accepts(expression, &allowed()), expected, "{expression}");
        }
    }

    #[test]
    fn the_list_is_read_from_deny_toml() {
        let deny = "[graph]\n[licenses]\nversion = 2\nallow = [\n  \"MIT\",\n  \"0BSD\",\n]\n[bans]\nallow = [\"x\"]\n";
        assert_eq!(allowed_list(deny).unwrap(), ["MIT", "0BSD"]);
        assert!(allowed_list("[bans]").is_err());
    }

    #[test]
    fn a_copyleft_package_a_nameless_one_and_a_git_one_are_found() {
        let package = |name: &str, license: Option<&str>, source: &str| json!({"id": name, "name": name, "version": "1.0.0", "license": license, "source": source, "targets": []});
        let metadata = Metadata::from_json(&json!({"packages": [
            package("copyleft", Some("GPL-3.0"), REGISTRY),
            package("nameless", None, REGISTRY),
            package("from-git", Some("MIT"), "git+https://example.org/x"),
            package("fine", Some("MIT"), REGISTRY),
        ]}));
        let places: Vec<_> = check(&metadata, &allowed())
            .into_iter()
            .map(|finding| finding.place)
            .collect();
        assert_eq!(
            places,
            ["copyleft 1.0.0", "from-git 1.0.0", "nameless 1.0.0"]
        );
    }
}
