//! Role names: what is a valid one, and how they nest. Follows `src/common/roles.cpp` and
//! `docs/roles.md`; the error texts are the reference's, frameworks see them.

use thiserror::Error;

/// The role of nobody in particular; unreserved resources are said to be in it.
pub const DEFAULT_ROLE: &str = "*";

/// Why a text is no role name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum RoleError {
    #[error("Role names cannot be the empty string")]
    Empty,
    #[error("Role '{0}' cannot start with a slash")]
    LeadingSlash(String),
    #[error("Role '{0}' cannot end with a slash")]
    TrailingSlash(String),
    #[error("Role '{0}' cannot contain two adjacent slashes")]
    AdjacentSlashes(String),
    #[error("Role '{0}' cannot include '{1}' as a component")]
    ReservedComponent(String, &'static str),
    #[error("Role component '{0}' is invalid because it starts with a dash")]
    LeadingDash(String),
    #[error("Role component '{0}' is invalid because it contains backspace or whitespace")]
    Whitespace(String),
}

/// Checks a role name.
pub fn validate(role: &str) -> Result<(), RoleError> {
    if role == DEFAULT_ROLE {
        return Ok(());
    }
    if role.starts_with('/') {
        return Err(RoleError::LeadingSlash(role.into()));
    }
    if role.ends_with('/') {
        return Err(RoleError::TrailingSlash(role.into()));
    }
    if role.contains("//") {
        return Err(RoleError::AdjacentSlashes(role.into()));
    }
    if role.is_empty() {
        return Err(RoleError::Empty);
    }
    role.split('/')
        .try_for_each(|component| validate_component(role, component))
}

/// The name one level up; `None` for a top-level role.
pub fn parent(role: &str) -> Option<&str> {
    role.rsplit_once('/').map(|(parent, _)| parent)
}

/// The names above, nearest first.
pub fn ancestors(role: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(role), |role| parent(role))
}

/// Whether `role` lies below `ancestor`.
pub fn is_strict_subrole(role: &str, ancestor: &str) -> bool {
    role.strip_prefix(ancestor)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Whether `role` is `top` or lies below it.
pub fn is_in_subtree(role: &str, top: &str) -> bool {
    role == top || is_strict_subrole(role, top)
}

fn validate_component(role: &str, component: &str) -> Result<(), RoleError> {
    for reserved in [".", "..", "*"] {
        if component == reserved {
            return Err(RoleError::ReservedComponent(role.into(), reserved));
        }
    }
    if component.starts_with('-') {
        return Err(RoleError::LeadingDash(component.into()));
    }
    // Tab to carriage return, space, delete.
    if component
        .bytes()
        .any(|b| matches!(b, 0x09..=0x0d | 0x20 | 0x7f))
    {
        return Err(RoleError::Whitespace(component.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(role: &str) -> String {
        validate(role).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn names_are_judged_in_the_words_of_the_reference() {
        for (role, expected) in [
            ("*", "ok"),
            ("eng", "ok"),
            ("eng/web-1.x", "ok"),
            ("...", "ok"),
            ("", "Role names cannot be the empty string"),
            ("/eng", "Role '/eng' cannot start with a slash"),
            ("eng/", "Role 'eng/' cannot end with a slash"),
            (
                "eng//web",
                "Role 'eng//web' cannot contain two adjacent slashes",
            ),
            ("eng/.", "Role 'eng/.' cannot include '.' as a component"),
            ("..", "Role '..' cannot include '..' as a component"),
            ("eng/*", "Role 'eng/*' cannot include '*' as a component"),
            (
                "eng/-a",
                "Role component '-a' is invalid because it starts with a dash",
            ),
            (
                "a b",
                "Role component 'a b' is invalid because it contains backspace or whitespace",
            ),
        ] {
            assert_eq!(text(role), expected);
        }
    }

    #[test]
    fn nesting_goes_by_whole_components() {
        assert!(is_strict_subrole("eng/web", "eng"));
        assert!(!is_strict_subrole("engine", "eng"));
        assert!(!is_strict_subrole("eng", "eng"));
        assert!(is_in_subtree("eng", "eng"));
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(parent("a"), None);
    }
}
