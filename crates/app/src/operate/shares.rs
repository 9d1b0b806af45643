//! `tepui roles`, `quota` and `weights`: who is promised what, and who may have how much.

use super::{OperateError, of_kind, say};
use crate::{
    inspect::{InspectError, ask, print_json},
    table::Table,
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use tepui_client::{
    operator::Operator,
    proto::{
        Resource, WeightInfo,
        master::call::{self, Type},
        quota::QuotaConfig,
        value,
    },
};
use tepui_model::{Quantities, Quota, Resources, Scalar, resources};

pub(super) fn commands() -> Vec<Command> {
    let roles = || {
        Arg::new("role")
            .required(true)
            .num_args(1..)
            .value_name("ROLE")
    };
    let amounts = |name: &'static str, long: &'static str, help: &'static str| {
        Arg::new(name).long(long).value_name("AMOUNTS").help(help)
    };
    let quota = Command::new("quota")
        .about("What roles are guaranteed, and what they may have at most")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("All quotas, and what is consumed of them"))
        .subcommand(
            Command::new("set")
                .about("Set the quota of a role; what is not said is not guaranteed and not limited")
                .arg(roles().num_args(1))
                .arg(amounts("guarantee", "guarantee", "Kept free for the role until it has it, such as 'cpus:4;mem:1024'"))
                .arg(amounts("limit", "limit", "The most it may have, such as 'cpus:8;gpus:0'"))
                .arg(
                    Arg::new("force")
                        .long("force")
                        .action(ArgAction::SetTrue)
                        .help("Even if it has more already, or the cluster has less than is guaranteed"),
                )
                .after_help(
                    "Examples:\n  tepui quota set eng --guarantee 'cpus:4;mem:4096'\n  \
                     tepui quota set eng/dev --limit 'cpus:2;gpus:0'",
                ),
        )
        .subcommand(
            Command::new("remove")
                .about("Guarantee and limit nothing any more")
                .arg(roles())
                .after_help("Example:\n  tepui quota remove eng/dev eng"),
        );
    let weights = Command::new("weights")
        .about("How much of the cluster roles get compared with others")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("Weights that were set; others weigh 1"))
        .subcommand(
            Command::new("set")
                .about("Set weights")
                .arg(
                    Arg::new("weight")
                        .required(true)
                        .num_args(1..)
                        .value_name("ROLE=WEIGHT")
                        .help("A positive number"),
                )
                .after_help("Example:\n  tepui weights set eng=2 ops=0.5"),
        );
    let roles = Command::new("roles")
        .about("Roles: who is in them, what they hold")
        .after_help("A role shows what roles below it have, too.");
    vec![roles, quota, weights]
}

/// Runs one of them.
pub(super) async fn run(
    operator: &Operator,
    name: &str,
    of: &ArgMatches,
) -> Result<(), OperateError> {
    match (name, of.subcommand()) {
        ("quota", Some(("set", of))) => set_quota(operator, of).await,
        ("quota", Some(("remove", of))) => remove_quota(operator, of).await,
        ("quota", of) => list_quota(operator, is_json(of)).await,
        ("weights", Some(("set", of))) => set_weights(operator, of).await,
        ("weights", of) => list_weights(operator, is_json(of)).await,
        _ => roles(operator, of.get_flag("json")).await,
    }
}

fn is_json(of: Option<(&str, &ArgMatches)>) -> bool {
    of.is_some_and(|(_, of)| of.get_flag("json"))
}

/// Amounts by name as people write them. Zero is an amount.
fn amounts(of: &ArgMatches, name: &str) -> Result<BTreeMap<String, value::Scalar>, OperateError> {
    let Some(text) = of.get_one::<String>(name) else {
        return Ok(BTreeMap::new());
    };
    let wrong = || OperateError::Amounts(text.clone());
    let amount = |part: &str| {
        let (name, amount) = part.split_once(':').ok_or_else(wrong)?;
        let amount: f64 = amount.trim().parse().map_err(|_| wrong())?;
        if name.trim().is_empty() || !amount.is_finite() {
            return Err(wrong());
        }
        let scalar = Scalar::from_f64(amount).to_proto();
        Ok((name.trim().to_owned(), scalar))
    };
    let parts = text.split([';', ',']).map(str::trim);
    parts.filter(|part| !part.is_empty()).map(amount).collect()
}

async fn set_quota(operator: &Operator, of: &ArgMatches) -> Result<(), OperateError> {
    let role = of.get_one::<String>("role").cloned().unwrap_or_default();
    let config = QuotaConfig {
        role: role.clone(),
        guarantees: amounts(of, "guarantee")?,
        limits: amounts(of, "limit")?,
    };
    let quota = Quota::from(&config);
    update(operator, vec![config], of.get_flag("force")).await?;
    let guarantees = &quota.guarantees;
    say(&match quota.is_default() {
        true => format!("{role} has no quota"),
        false => format!(
            "{role} is guaranteed {guarantees} and limited to {}",
            quota.limits
        ),
    });
    Ok(())
}

async fn remove_quota(operator: &Operator, of: &ArgMatches) -> Result<(), OperateError> {
    let roles = of.get_many::<String>("role").into_iter().flatten();
    let none = |role: &String| QuotaConfig {
        role: role.clone(),
        ..Default::default()
    };
    let configs: Vec<QuotaConfig> = roles.map(none).collect();
    let names: Vec<String> = configs.iter().map(|config| config.role.clone()).collect();
    update(operator, configs, false).await?;
    for role in names {
        say(&format!("{role} has no quota"));
    }
    Ok(())
}

async fn update(
    operator: &Operator,
    quota_configs: Vec<QuotaConfig>,
    force: bool,
) -> Result<(), OperateError> {
    let call = of_kind(Type::UpdateQuota, |call| {
        call.update_quota = Some(call::UpdateQuota {
            force: Some(force),
            quota_configs,
        });
    });
    operator.leader(&call).await?;
    Ok(())
}

async fn list_quota(operator: &Operator, json: bool) -> Result<(), OperateError> {
    let response = ask(operator, Type::GetQuota).await?;
    if json {
        print_json(&response);
        return Ok(());
    }
    let status = response
        .get_quota
        .ok_or(InspectError::Answer("get_quota"))?;
    let consumed = consumed(operator).await?;
    let mut table = Table::new(&["ROLE", "GUARANTEED", "LIMITED TO", "CONSUMED"]);
    for config in &status.status.configs {
        let quota = Quota::from(config);
        let consumed = consumed.get(&config.role).cloned().unwrap_or_default();
        table.row([
            config.role.clone(),
            quota.guarantees.to_string(),
            quota.limits.to_string(),
            consumed.to_string(),
        ]);
    }
    table.print();
    Ok(())
}

/// What roles consume of their quotas, which only the metrics of the v1 API say.
async fn consumed(operator: &Operator) -> Result<BTreeMap<String, Quantities>, OperateError> {
    let call = of_kind(Type::GetMetrics, |call| {
        call.get_metrics = Some(call::GetMetrics::default());
    });
    let response = operator.leader(&call).await?;
    let metrics = response.and_then(|response| response.get_metrics);
    let metrics = metrics.ok_or(InspectError::Answer("get_metrics"))?.metrics;
    let mut all: BTreeMap<String, Quantities> = BTreeMap::new();
    for metric in metrics {
        let name = metric.name.strip_prefix("allocator/mesos/quota/roles/");
        let name = name.and_then(|name| name.strip_suffix("/consumed"));
        if let Some((role, name)) = name.and_then(|name| name.rsplit_once("/resources/")) {
            let amount = Scalar::from_f64(metric.value.unwrap_or_default());
            let amounts = all.entry(role.to_owned()).or_default();
            amounts.add(&resources::Name::new(name), amount);
        }
    }
    Ok(all)
}

async fn set_weights(operator: &Operator, of: &ArgMatches) -> Result<(), OperateError> {
    let given = of.get_many::<String>("weight").into_iter().flatten();
    let weight = |text: &String| {
        let parsed = text.split_once('=');
        let parsed = parsed.and_then(|(role, weight)| Some((role, weight.parse::<f64>().ok()?)));
        let (role, weight) = parsed.ok_or_else(|| OperateError::Weight(text.clone()))?;
        Ok(WeightInfo {
            role: Some(role.to_owned()),
            weight,
        })
    };
    let weight_infos: Result<Vec<WeightInfo>, OperateError> = given.map(weight).collect();
    let weight_infos = weight_infos?;
    let call = of_kind(Type::UpdateWeights, |call| {
        let weight_infos = weight_infos.clone();
        call.update_weights = Some(call::UpdateWeights { weight_infos });
    });
    operator.leader(&call).await?;
    for info in &weight_infos {
        say(&format!("{} weighs {}", info.role(), info.weight));
    }
    Ok(())
}

async fn list_weights(operator: &Operator, json: bool) -> Result<(), OperateError> {
    let response = ask(operator, Type::GetWeights).await?;
    if json {
        print_json(&response);
        return Ok(());
    }
    let weights = response
        .get_weights
        .ok_or(InspectError::Answer("get_weights"))?;
    let mut table = Table::new(&["ROLE", "WEIGHT"]);
    for info in &weights.weight_infos {
        table.row([info.role().to_owned(), info.weight.to_string()]);
    }
    table.print();
    Ok(())
}

async fn roles(operator: &Operator, json: bool) -> Result<(), OperateError> {
    let response = ask(operator, Type::GetRoles).await?;
    if json {
        print_json(&response);
        return Ok(());
    }
    let roles = response
        .get_roles
        .ok_or(InspectError::Answer("get_roles"))?;
    let mut table = Table::new(&["ROLE", "WEIGHT", "FRAMEWORKS", "HELD"]);
    let held = |resources: &[Resource]| Resources::from_proto(resources).to_string();
    for role in &roles.roles {
        table.row([
            role.name.clone(),
            role.weight.to_string(),
            role.frameworks.len().to_string(),
            held(&role.resources),
        ]);
    }
    table.print();
    Ok(())
}
