//! Oversubscription from a follower's flags: what is offered a second time, and who takes it back.

use crate::flags::{FlagError, Settings};
use tepui_follower::{Config, estimator::Estimator, modules::Modules, qos::LoadController};
use tepui_model::units;

pub(super) fn apply(settings: &Settings, config: &mut Config) -> Result<(), FlagError> {
    let modules = settings.parsed("modules", Modules::parse)?;
    let modules = modules.unwrap_or_default();
    let estimator = |name: &str| Estimator::new(name, modules.parameters(name));
    config.estimator = settings.parsed("resource_estimator", estimator)?;
    let controller = |name: &str| LoadController::new(name, modules.parameters(name));
    config.qos_controller = settings.parsed("qos_controller", controller)?;
    let interval = settings.parsed("oversubscribed_resources_interval", units::parse_duration)?;
    if let Some(interval) = interval {
        config.oversubscribed_resources_interval = interval;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::follower;
    use std::time::Duration;

    const MODULES: &str = r#"--modules={"libraries": [{"file": "/usr/lib/libx.so", "modules": [
        {"name": "org_apache_mesos_FixedResourceEstimator",
         "parameters": [{"key": "resources", "value": "cpus:14"}]},
        {"name": "org_apache_mesos_LoadQoSController",
         "parameters": [{"key": "load_threshold_15min", "value": "4"}]}]}]}"#;

    fn config(flags: &[&str]) -> Result<Config, String> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let resolved = Settings::resolve(vec![follower::FLAGS], &flags, |_| None, None);
        let (settings, _) = resolved.map_err(|error| error.to_string())?;
        let address = ([127, 0, 0, 1], 5051).into();
        let mut config = Config::new(address, "h", "/w");
        apply(&settings, &mut config).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn modules_are_parameters_of_what_is_asked_for_by_name() {
        let off = config(&[MODULES]).unwrap();
        assert_eq!((off.estimator, off.qos_controller), (None, None));
        assert_eq!(
            off.oversubscribed_resources_interval,
            Duration::from_secs(15)
        );
        let on = config(&[
            MODULES,
            "--resource_estimator=org_apache_mesos_FixedResourceEstimator",
            "--qos_controller=org_apache_mesos_LoadQoSController",
            "--oversubscribed_resources_interval=1mins",
        ])
        .unwrap();
        let Some(Estimator::Fixed(resources)) = on.estimator else {
            panic!("no estimator")
        };
        assert_eq!(resources.to_string(), "cpus{REV}:14");
        let controller = on.qos_controller.unwrap();
        assert_eq!((controller.five, controller.fifteen), (None, Some(4.0)));
        assert_eq!(
            on.oversubscribed_resources_interval,
            Duration::from_secs(60)
        );
    }

    #[test]
    fn what_is_not_built_in_is_refused_with_the_name_of_the_flag() {
        for (flags, parts) in [
            (
                &["--resource_estimator=mine"][..],
                ["'--resource_estimator'", "module 'mine' unknown"],
            ),
            (
                &["--qos_controller=mine"],
                ["'--qos_controller'", "module 'mine' unknown"],
            ),
            (
                &["--qos_controller=org_apache_mesos_LoadQoSController"],
                ["'--qos_controller'", "in --modules"],
            ),
            (
                &[r#"--modules={"libraries": [{"modules": [{"name": "mine"}]}]}"#],
                ["'--modules'", "module 'mine' unknown"],
            ),
            (
                &["--modules=/etc/modules.json"],
                ["'--modules'", "it is not JSON"],
            ),
        ] {
            let error = config(flags).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
