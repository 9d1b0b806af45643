//! What is refused, and in which words.
//!
//! Checks, their order and their texts follow `src/master/validation.cpp` and
//! `src/common/validation.cpp`: schedulers match on some of them, people search for all of them.

pub mod call;
pub(crate) mod command;
pub(crate) mod executor;
pub(crate) mod framework;
pub(crate) mod group;
pub(crate) mod message;
pub(crate) mod offer;
pub(crate) mod operation;
pub(crate) mod quota;
pub(crate) mod resource;
pub(crate) mod task;

use std::collections::BTreeSet;

/// Longest id: ids become names of directories.
const LONGEST_ID: usize = 255;

/// Whether a text can be an id.
pub(crate) fn id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("ID must not be empty".to_owned());
    }
    if id.len() > LONGEST_ID {
        return Err(format!(
            "ID must not be greater than {LONGEST_ID} characters"
        ));
    }
    if id == "." || id == ".." {
        return Err(format!("'{id}' is disallowed"));
    }
    if id
        .bytes()
        .any(|byte| byte.is_ascii_control() || byte == b'/' || byte == b'\\')
    {
        return Err(format!("'{id}' contains invalid characters"));
    }
    Ok(())
}

/// `{ a, b }`
pub(crate) fn set_text(items: &BTreeSet<String>) -> String {
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    format!("{{ {} }}", items.join(", "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_what_directories_can_be_called() {
        for (id, expected) in [
            ("a b", ""),
            ("...", ""),
            ("", "ID must not be empty"),
            (".", "'.' is disallowed"),
            ("..", "'..' is disallowed"),
            ("a/b", "'a/b' contains invalid characters"),
            ("a\\b", "'a\\b' contains invalid characters"),
            ("a\nb", "'a\nb' contains invalid characters"),
        ] {
            assert_eq!(super::id(id).err().unwrap_or_default(), expected);
        }
        assert_eq!(super::id(&"x".repeat(255)), Ok(()));
        assert_eq!(
            super::id(&"x".repeat(256)),
            Err("ID must not be greater than 255 characters".to_owned())
        );
    }
}
