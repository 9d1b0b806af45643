//! What an operator call must hold before anything looks at it, in the reference's order and words
//! (`src/slave/validation.cpp`, `src/common/validation.cpp`).
//!
//! Commands, containers and resources of containers to be launched are checked where they are
//! launched; until that is built those calls are refused by name.

use tepui_protocol::v1::{
    ContainerId,
    agent::{
        Call,
        call::{Type, attach_container_input},
    },
};

/// Longest id of a container (`MAX_CONTAINER_ID_LENGTH` of `src/slave/constants.hpp`).
const LONGEST_CONTAINER_ID: usize = 242;

/// Longest id of anything: ids become names of directories.
const LONGEST_ID: usize = 255;

/// Checks a call. The text goes behind `Failed to validate agent::Call: `.
pub fn operator(call: &Call) -> Result<(), String> {
    // An unknown type reads like none, as it does in the reference.
    let kind = call.r#type.and_then(|kind| Type::try_from(kind).ok());
    let Some(kind) = kind else {
        return expecting("type");
    };
    if let Some((part, there)) = part(call, kind)
        && !there
    {
        return expecting(part);
    }
    match kind {
        Type::AttachContainerInput => attach_input(call),
        Type::AddResourceProviderConfig
            if (call.add_resource_provider_config.as_ref())
                .is_some_and(|c| c.info.id.is_some()) =>
        {
            Err("Expecting 'add_resource_provider_config.info.id' to be unset".to_owned())
        }
        Type::UpdateResourceProviderConfig
            if (call.update_resource_provider_config.as_ref())
                .is_some_and(|c| c.info.id.is_some()) =>
        {
            Err("Expecting 'update_resource_provider_config.info.id' to be unset".to_owned())
        }
        _ => match container(call, kind) {
            Some((part, id, nested)) => {
                valid_container(part, id)?;
                match nested && id.parent.is_none() {
                    true => expecting(&format!("{part}.container_id.parent")),
                    false => Ok(()),
                }
            }
            None => Ok(()),
        },
    }
}

/// The part that a type of call is about, and whether it is there.
#[allow(deprecated, reason = "clients still make the older calls")]
fn part(call: &Call, kind: Type) -> Option<(&'static str, bool)> {
    macro_rules! part {
        ($field:ident) => {
            (stringify!($field), call.$field.is_some())
        };
    }
    Some(match kind {
        Type::GetMetrics => part!(get_metrics),
        Type::SetLoggingLevel => part!(set_logging_level),
        Type::ListFiles => part!(list_files),
        Type::ReadFile => part!(read_file),
        Type::ReadLog => part!(read_log),
        Type::LaunchNestedContainer => part!(launch_nested_container),
        Type::WaitNestedContainer => part!(wait_nested_container),
        Type::KillNestedContainer => part!(kill_nested_container),
        Type::RemoveNestedContainer => part!(remove_nested_container),
        Type::LaunchNestedContainerSession => part!(launch_nested_container_session),
        Type::AttachContainerInput => part!(attach_container_input),
        Type::AttachContainerOutput => part!(attach_container_output),
        Type::LaunchContainer => part!(launch_container),
        Type::WaitContainer => part!(wait_container),
        Type::KillContainer => part!(kill_container),
        Type::RemoveContainer => part!(remove_container),
        Type::AddResourceProviderConfig => part!(add_resource_provider_config),
        Type::UpdateResourceProviderConfig => part!(update_resource_provider_config),
        Type::RemoveResourceProviderConfig => part!(remove_resource_provider_config),
        Type::MarkResourceProviderGone => part!(mark_resource_provider_gone),
        _ => return None,
    })
}

/// The container that a call is about: the name of the part that names it, its id, and whether it
/// must have a parent.
#[allow(deprecated, reason = "clients still make the older calls")]
pub(crate) fn container(call: &Call, kind: Type) -> Option<(&'static str, &ContainerId, bool)> {
    macro_rules! id {
        ($field:ident, $nested:literal) => {
            (
                stringify!($field),
                &call.$field.as_ref()?.container_id,
                $nested,
            )
        };
    }
    Some(match kind {
        Type::LaunchNestedContainer => id!(launch_nested_container, true),
        Type::WaitNestedContainer => id!(wait_nested_container, true),
        Type::KillNestedContainer => id!(kill_nested_container, true),
        Type::RemoveNestedContainer => id!(remove_nested_container, true),
        Type::LaunchNestedContainerSession => id!(launch_nested_container_session, true),
        Type::AttachContainerOutput => id!(attach_container_output, false),
        Type::LaunchContainer => id!(launch_container, false),
        Type::WaitContainer => id!(wait_container, false),
        Type::KillContainer => id!(kill_container, false),
        Type::RemoveContainer => id!(remove_container, false),
        _ => return None,
    })
}

fn attach_input(call: &Call) -> Result<(), String> {
    use attach_container_input::Type as Input;
    let attach = call.attach_container_input.clone().unwrap_or_default();
    match attach.r#type.and_then(|kind| Input::try_from(kind).ok()) {
        None => expecting("attach_container_input.type"),
        Some(Input::Unknown) => Err("'attach_container_input.type' is unknown".to_owned()),
        Some(Input::ContainerId) => valid_container(
            "attach_container_input",
            &attach.container_id.unwrap_or_default(),
        ),
        Some(Input::ProcessIo) => Ok(()),
    }
}

fn valid_container(part: &str, id: &ContainerId) -> Result<(), String> {
    container_id(id).map_err(|error| format!("'{part}.container_id' is invalid: {error}"))
}

/// The deepest nesting first reported is the outermost id: each level names its parent's problem.
fn container_id(id: &ContainerId) -> Result<(), String> {
    let mut prefix = String::new();
    let mut level = Some(id);
    // A loop, not a recursion: how deep a peer nests is the peer's choice.
    while let Some(id) = level {
        one_container_id(&id.value).map_err(|error| format!("{prefix}{error}"))?;
        prefix.push_str("'ContainerID.parent' is invalid: ");
        level = id.parent.as_deref();
    }
    Ok(())
}

fn one_container_id(id: &str) -> Result<(), String> {
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
    let unusable = |byte: u8| byte.is_ascii_control() || byte == b'/' || byte == b'\\';
    if id.bytes().any(unusable) {
        return Err(format!("'{id}' contains invalid characters"));
    }
    if id.len() > LONGEST_CONTAINER_ID {
        return Err(format!(
            "'ContainerID.value' '{id}' exceeds the maximum length ({LONGEST_CONTAINER_ID})"
        ));
    }
    // Dots separate the levels of a nested id where it is written as text.
    if id.contains(['.', ' ']) {
        return Err(format!(
            "'ContainerID.value' '{id}' contains invalid characters"
        ));
    }
    Ok(())
}

fn expecting(field: &str) -> Result<(), String> {
    Err(format!("Expecting '{field}' to be present"))
}

#[cfg(test)]
mod tests {
    #![allow(deprecated, reason = "clients still make the older calls")]

    use super::*;
    use tepui_protocol::v1::agent::call;

    fn typed(kind: Type) -> Call {
        Call {
            r#type: Some(kind.into()),
            ..Default::default()
        }
    }

    fn kill_nested(levels: &[&str]) -> Call {
        let container_id = levels
            .iter()
            .rev()
            .fold(None, |parent: Option<ContainerId>, value| {
                Some(ContainerId {
                    value: (*value).to_owned(),
                    parent: parent.map(Box::new),
                })
            });
        Call {
            kill_nested_container: Some(call::KillNestedContainer {
                container_id: container_id.unwrap_or_default(),
                ..Default::default()
            }),
            ..typed(Type::KillNestedContainer)
        }
    }

    #[test]
    fn a_type_is_needed_and_known() {
        let unknown = Call {
            r#type: Some(4711),
            ..Default::default()
        };
        for call in [Call::default(), unknown] {
            assert_eq!(
                operator(&call),
                Err("Expecting 'type' to be present".to_owned())
            );
        }
        assert_eq!(operator(&typed(Type::Unknown)), Ok(()));
        assert_eq!(operator(&typed(Type::GetState)), Ok(()));
    }

    #[test]
    fn calls_carry_the_part_they_are_named_after() {
        for kind in [
            Type::GetMetrics,
            Type::ReadFile,
            Type::LaunchContainer,
            Type::AttachContainerInput,
            Type::MarkResourceProviderGone,
        ] {
            let field = kind.as_str_name().to_lowercase();
            assert_eq!(
                operator(&typed(kind)),
                Err(format!("Expecting '{field}' to be present"))
            );
        }
    }

    #[test]
    fn ids_of_containers_are_usable_on_every_level() {
        let long = "x".repeat(243);
        for (levels, error) in [
            (vec!["a", "b"], ""),
            (
                vec!["a"],
                "Expecting 'kill_nested_container.container_id.parent' to be present",
            ),
            (
                vec!["", "b"],
                "'kill_nested_container.container_id' is invalid: ID must not be empty",
            ),
            (
                vec!["a/b", "c"],
                "'kill_nested_container.container_id' is invalid: 'a/b' contains invalid characters",
            ),
            (
                vec!["a", "b c"],
                "'kill_nested_container.container_id' is invalid: 'ContainerID.parent' is invalid: \
                 'ContainerID.value' 'b c' contains invalid characters",
            ),
            (
                vec!["a", "b", ".."],
                "'kill_nested_container.container_id' is invalid: 'ContainerID.parent' is invalid: \
                 'ContainerID.parent' is invalid: '..' is disallowed",
            ),
        ] {
            assert_eq!(
                operator(&kill_nested(&levels)).err().unwrap_or_default(),
                error
            );
        }
        let error = operator(&kill_nested(&[&long, "b"]));
        assert!(error.is_err_and(|error| error.ends_with("exceeds the maximum length (242)")));
    }
}
