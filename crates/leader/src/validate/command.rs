//! Commands, containers, checks and health checks: what tasks and executors share.

use tepui_protocol::v1::{
    self, CheckInfo, CommandInfo, ContainerInfo, HealthCheck, check_info, container_info,
    environment::variable, health_check, secret, volume,
};

/// Only the environment can be wrong with a command.
pub(crate) fn command(command: &CommandInfo) -> Result<(), String> {
    command
        .environment
        .iter()
        .flat_map(|environment| &environment.variables)
        .try_for_each(environment_variable)
}

fn environment_variable(variable: &v1::environment::Variable) -> Result<(), String> {
    let name = &variable.name;
    match variable.r#type() {
        variable::Type::Unknown => {
            Err("Environment variable of type 'UNKNOWN' is not allowed".to_owned())
        }
        variable::Type::Value => {
            if variable.value.is_none() {
                return Err(format!(
                    "Environment variable '{name}' of type 'VALUE' must have a value set"
                ));
            }
            if variable.secret.is_some() {
                return Err(format!(
                    "Environment variable '{name}' of type 'VALUE' must not have a secret set"
                ));
            }
            Ok(())
        }
        variable::Type::Secret => {
            let Some(value) = &variable.secret else {
                return Err(format!(
                    "Environment variable '{name}' of type 'SECRET' must have a secret set"
                ));
            };
            if variable.value.is_some() {
                return Err(format!(
                    "Environment variable '{name}' of type 'SECRET' must not have a value set"
                ));
            }
            valid_secret(value).map_err(|error| {
                format!("Environment variable '{name}' specifies an invalid secret: {error}")
            })?;
            if value
                .value
                .as_ref()
                .is_some_and(|value| value.data.contains(&0))
            {
                return Err(format!(
                    "Environment variable '{name}' specifies a secret containing null bytes, which is not allowed in \
                     the environment"
                ));
            }
            Ok(())
        }
    }
}

fn valid_secret(secret: &v1::Secret) -> Result<(), String> {
    match (secret.r#type(), &secret.reference, &secret.value) {
        (secret::Type::Reference, None, _) => {
            Err("Secret of type REFERENCE must have the 'reference' field set".to_owned())
        }
        (secret::Type::Reference, Some(reference), Some(_)) => Err(format!(
            "Secret '{}' of type REFERENCE must not have the 'value' field set",
            reference.name
        )),
        (secret::Type::Value, _, None) => {
            Err("Secret of type VALUE must have the 'value' field set".to_owned())
        }
        (secret::Type::Value, Some(_), Some(_)) => {
            Err("Secret of type VALUE must not have the 'reference' field set".to_owned())
        }
        _ => Ok(()),
    }
}

/// Volumes, and what Docker containers need.
pub(crate) fn container(container: &ContainerInfo) -> Result<(), String> {
    for volume in &container.volumes {
        valid_volume(volume).map_err(|error| format!("Invalid volume: {error}"))?;
    }
    if container.r#type() == container_info::Type::Docker {
        let Some(docker) = &container.docker else {
            return Err("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo".to_owned());
        };
        if docker
            .parameters
            .iter()
            .any(|parameter| parameter.key == "name")
        {
            return Err("Parameter in DockerInfo must not be 'name'".to_owned());
        }
    }
    Ok(())
}

fn valid_volume(volume: &v1::Volume) -> Result<(), &'static str> {
    use volume::source::Type;
    let sources = [
        volume.host_path.is_some(),
        volume.image.is_some(),
        volume.source.is_some(),
    ];
    if sources.iter().filter(|set| **set).count() != 1 {
        return Err("Only one of them should be set: 'host_path', 'image' and 'source'");
    }
    let Some(source) = &volume.source else {
        return Ok(());
    };
    let (set, error) = match source.r#type() {
        Type::DockerVolume => (
            source.docker_volume.is_some(),
            "'source.docker_volume' is not set for DOCKER_VOLUME volume",
        ),
        Type::HostPath => (
            source.host_path.is_some(),
            "'source.host_path' is not set for HOST_PATH volume",
        ),
        Type::SandboxPath => (
            source.sandbox_path.is_some(),
            "'source.sandbox_path' is not set for SANDBOX_PATH volume",
        ),
        Type::Secret => (
            source.secret.is_some(),
            "'source.secret' is not set for SECRET volume",
        ),
        Type::CsiVolume => match &source.csi_volume {
            None => (false, "'source.csi_volume' is not set for CSI volume"),
            Some(csi) => (
                csi.static_provisioning.is_some(),
                "'source.csi_volume.static_provisioning' is not set for CSI volume",
            ),
        },
        Type::Unknown => (false, "'source.type' is unknown"),
    };
    if set { Ok(()) } else { Err(error) }
}

/// `TaskInfo.health_check`
pub(crate) fn health_check(check: &HealthCheck) -> Result<(), String> {
    use health_check::Type;
    if check.r#type.is_none() {
        return Err("HealthCheck must specify 'type'".to_owned());
    }
    match check.r#type() {
        Type::Command => {
            let Some(own) = &check.command else {
                return Err("Expecting 'command' to be set for COMMAND health check".to_owned());
            };
            if own.value.is_none() {
                return Err(format!(
                    "Command health check must contain {}",
                    command_kind(own)
                ));
            }
            command(own)
                .map_err(|error| format!("Health check's `CommandInfo` is invalid: {error}"))?;
        }
        Type::Http => {
            let Some(http) = &check.http else {
                return Err("Expecting 'http' to be set for HTTP health check".to_owned());
            };
            if let Some(scheme) = http
                .scheme
                .as_ref()
                .filter(|scheme| *scheme != "http" && *scheme != "https")
            {
                return Err(format!("Unsupported HTTP health check scheme: '{scheme}'"));
            }
            if let Some(path) = http.path.as_ref().filter(|path| !path.starts_with('/')) {
                return Err(format!(
                    "The path '{path}' of HTTP health check must start with '/'"
                ));
            }
        }
        Type::Tcp => {
            if check.tcp.is_none() {
                return Err("Expecting 'tcp' to be set for TCP health check".to_owned());
            }
        }
        Type::Unknown => return Err("'UNKNOWN' is not a valid health check type".to_owned()),
    }
    non_negative(&[
        ("delay_seconds", check.delay_seconds),
        ("grace_period_seconds", check.grace_period_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ])
}

/// `TaskInfo.check`
pub(crate) fn check(check: &CheckInfo) -> Result<(), String> {
    use check_info::Type;
    if check.r#type.is_none() {
        return Err("CheckInfo must specify 'type'".to_owned());
    }
    match check.r#type() {
        Type::Command => {
            let Some(own) = &check.command else {
                return Err("Expecting 'command' to be set for COMMAND check".to_owned());
            };
            if own.command.value.is_none() {
                return Err(format!(
                    "Command check must contain {}",
                    command_kind(&own.command)
                ));
            }
            command(&own.command)
                .map_err(|error| format!("Check's `CommandInfo` is invalid: {error}"))?;
        }
        Type::Http => {
            let Some(http) = &check.http else {
                return Err("Expecting 'http' to be set for HTTP check".to_owned());
            };
            if let Some(path) = http.path.as_ref().filter(|path| !path.starts_with('/')) {
                return Err(format!(
                    "The path '{path}' of HTTP check must start with '/'"
                ));
            }
        }
        Type::Tcp => {
            if check.tcp.is_none() {
                return Err("Expecting 'tcp' to be set for TCP check".to_owned());
            }
        }
        Type::Unknown => return Err("'UNKNOWN' is not a valid check type".to_owned()),
    }
    non_negative(&[
        ("delay_seconds", check.delay_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ])
}

fn command_kind(command: &CommandInfo) -> &'static str {
    if command.shell() {
        "'shell command'"
    } else {
        "'executable path'"
    }
}

fn non_negative(fields: &[(&str, Option<f64>)]) -> Result<(), String> {
    match fields
        .iter()
        .find(|(_, value)| value.is_some_and(|value| value < 0.0))
    {
        Some((name, _)) => Err(format!("Expecting '{name}' to be non-negative")),
        None => Ok(()),
    }
}
