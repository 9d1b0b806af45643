//! `tepui explain` and `tepui simulate`: why somebody gets no offer, and what would happen if.

use super::{Followers, OperateError, say};
use crate::{
    inspect::{InspectError, ask},
    table::Table,
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};
use tepui_client::{Error, operator::Operator, proto::master::call::Type};

pub(super) fn commands() -> Vec<Command> {
    let many = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .action(ArgAction::Append)
            .help(help)
    };
    let one = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let explain = Command::new("explain")
        .about("Why a framework or role gets no offer, and what would make it come")
        .arg(
            Arg::new("framework")
                .value_name("FRAMEWORK")
                .help("Its id, the end of its id (0003), or its name; with none, anybody who would come to --role"),
        )
        .arg(one("role", "ROLE", "In which role [default: each of the framework's]"))
        .arg(one(
            "resources",
            "AMOUNTS",
            "What the offer should hold, on one follower, such as 'cpus:4;mem:1024' [default: anything]",
        ))
        .arg(one("follower", "FOLLOWER", "On which follower [default: any]"))
        .arg(many(
            "capability",
            "NAME",
            "What anybody could take, such as GPU_RESOURCES; with --role alone",
        ))
        .after_help(
            "Examples:\n  tepui explain marathon --resources 'cpus:4;mem:8192'\n  \
             tepui explain --role eng/dev --resources 'gpus:1' --capability GPU_RESOURCES\n\n\
             ✓ marks what was tried on a copy of the cluster, and brought the offer.",
        );
    let simulate = Command::new("simulate")
        .about("What would change if the cluster, quotas, weights or demand were otherwise")
        .arg(many(
            "add-followers",
            "COUNT:RESOURCES",
            "More followers, such as '5:cpus:8;mem:16384'",
        ))
        .arg(many("remove-follower", "FOLLOWER", "A follower less"))
        .arg(many(
            "quota",
            "ROLE=LIMIT",
            "A limit, such as 'eng=cpus:8'; with a guarantee before a slash: 'eng=cpus:2/cpus:8'",
        ))
        .arg(many("weight", "ROLE=WEIGHT", "A weight"))
        .arg(many(
            "demand",
            "ROLE:RESOURCES:COUNT",
            "Tasks that somebody would run, such as 'eng:cpus:1;mem:256:100'",
        ))
        .after_help(
            "Examples:\n  tepui simulate --demand 'eng:cpus:1;mem:256:100'\n  \
             tepui simulate --add-followers '5:cpus:8;mem:16384' --weight eng=2\n\n\
             Nothing of it happens: it is tried on a copy.",
        );
    vec![explain, simulate]
}

pub(super) async fn explain(operator: &Operator, of: &ArgMatches) -> Result<(), OperateError> {
    let text = |name: &str| of.get_one::<String>(name).cloned();
    let mut body = Map::new();
    if let Some(name) = text("framework") {
        body.insert("framework".into(), framework(operator, &name).await?.into());
    }
    for name in ["role", "resources"] {
        if let Some(text) = text(name) {
            body.insert(name.into(), text.into());
        }
    }
    if let Some(name) = text("follower") {
        let known = Followers::ask(operator).await?;
        body.insert("follower".into(), known.find(&name)?.id.value.into());
    }
    let capabilities: Vec<&String> = of.get_many("capability").into_iter().flatten().collect();
    if !capabilities.is_empty() {
        body.insert("capabilities".into(), json!(capabilities));
    }
    if !body.contains_key("framework") && !body.contains_key("role") {
        return Err(OperateError::NobodyToExplain);
    }
    let Some(document) = post(operator, "/tepui/explain", &body.into(), of).await? else {
        return Ok(());
    };
    for (i, answer) in list(&document["answers"]).iter().enumerate() {
        if i > 0 {
            say("");
        }
        print_answer(answer, "");
    }
    Ok(())
}

pub(super) async fn simulate(operator: &Operator, of: &ArgMatches) -> Result<(), OperateError> {
    let many = |name: &str| of.get_many::<String>(name).into_iter().flatten();
    let mut changes = Vec::new();
    for text in many("add-followers") {
        let (count, resources) = split(text, ':', "COUNT:RESOURCES")?;
        let count: u32 = number(count, text, "COUNT:RESOURCES")?;
        changes.push(json!({"add_followers": {"count": count, "resources": resources}}));
    }
    let mut gone = many("remove-follower").peekable();
    if gone.peek().is_some() {
        let known = Followers::ask(operator).await?;
        for name in gone {
            changes.push(json!({"remove_follower": known.find(name)?.id.value}));
        }
    }
    for text in many("quota") {
        let (role, quota) = split(text, '=', "ROLE=LIMIT or ROLE=GUARANTEE/LIMIT")?;
        let (guarantee, limit) = quota.split_once('/').unwrap_or(("", quota));
        changes.push(json!({"set_quota": {"role": role, "guarantee": guarantee, "limit": limit}}));
    }
    for text in many("weight") {
        let (role, weight) = split(text, '=', "ROLE=WEIGHT")?;
        let weight: f64 = number(weight, text, "ROLE=WEIGHT")?;
        changes.push(json!({"set_weight": {"role": role, "weight": weight}}));
    }
    let mut demands = Vec::new();
    for text in many("demand") {
        let form = "ROLE:RESOURCES:COUNT";
        let (role, rest) = split(text, ':', form)?;
        let wrong = || wrong(text, form);
        let (resources, count) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let count: u32 = number(count, text, form)?;
        demands.push(json!({"role": role, "resources": resources, "count": count}));
    }
    if changes.is_empty() && demands.is_empty() {
        return Err(OperateError::NothingToSimulate);
    }
    let body = json!({"changes": changes, "demands": demands});
    let Some(document) = post(operator, "/tepui/simulate", &body, of).await? else {
        return Ok(());
    };
    print_outcome(&document);
    Ok(())
}

/// Asks; prints the leader's document if that is wanted, else gives it back.
async fn post(
    operator: &Operator,
    path: &str,
    body: &Value,
    of: &ArgMatches,
) -> Result<Option<Value>, OperateError> {
    match operator.post_json(path, body.to_string()).await {
        Ok(answer) if of.get_flag("json") => {
            say(&String::from_utf8_lossy(&answer));
            Ok(None)
        }
        Ok(answer) => Ok(Some(serde_json::from_slice(&answer)?)),
        // Leaders that do not know the path have nothing to say of it.
        Err(Error::Status {
            address,
            status: 404,
            message,
        }) if message.is_empty() || message.starts_with("404") => {
            Err(OperateError::NotTepui(address))
        }
        Err(error) => Err(error.into()),
    }
}

/// A framework's id: by id, by the end of an id, by name. The leader knows what became of others.
async fn framework(operator: &Operator, name: &str) -> Result<String, OperateError> {
    let response = ask(operator, Type::GetFrameworks).await?;
    let known = response
        .get_frameworks
        .ok_or(InspectError::Answer("get_frameworks"))?;
    let all = known.frameworks.iter().map(|f| &f.framework_info);
    let named: Vec<(&str, &str)> = all
        .filter_map(|info| Some((info.id.as_ref()?.value.as_str(), info.name.as_str())))
        .collect();
    find(&named, name)
}

fn find(known: &[(&str, &str)], name: &str) -> Result<String, OperateError> {
    let end = format!("-{name}");
    type Test<'a> = &'a dyn Fn(&(&str, &str)) -> bool;
    let tests: [Test<'_>; 3] = [
        &|(id, _)| *id == name,
        &|(id, _)| id.ends_with(&end),
        &|(_, own)| *own == name,
    ];
    for test in tests {
        let found: Vec<&str> = (known.iter())
            .filter(|one| test(one))
            .map(|(id, _)| *id)
            .collect();
        match found[..] {
            [] => {}
            [id] => return Ok(id.to_owned()),
            _ => {
                return Err(OperateError::SeveralFrameworks {
                    name: name.to_owned(),
                    ids: found.join(", "),
                });
            }
        }
    }
    Ok(name.to_owned())
}

fn wrong(text: &str, form: &'static str) -> OperateError {
    OperateError::Form {
        text: text.to_owned(),
        form,
    }
}

fn split<'a>(
    text: &'a str,
    at: char,
    form: &'static str,
) -> Result<(&'a str, &'a str), OperateError> {
    text.split_once(at).ok_or_else(|| wrong(text, form))
}

fn number<T: std::str::FromStr>(
    number: &str,
    text: &str,
    form: &'static str,
) -> Result<T, OperateError> {
    number.trim().parse().map_err(|_| wrong(text, form))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value["text"].as_str().unwrap_or_default()
}

/// One answer, in lines.
fn print_answer(answer: &Value, indent: &str) {
    for line in answer_lines(answer) {
        say(&format!("{indent}{line}"));
    }
}

fn answer_lines(answer: &Value) -> Vec<String> {
    let mut lines = vec![capitalised(text(answer))];
    let causes = list(&answer["everywhere"]).len() + list(&answer["causes"]).len();
    if causes > 0 {
        lines.push("In the way:".to_owned());
    }
    for cause in list(&answer["everywhere"]) {
        lines.push(format!("  everywhere: {}", text(cause)));
    }
    for cause in list(&answer["causes"]) {
        let (count, all) = (&cause["followers"], &answer["followers"]);
        lines.push(format!("  {count} of {all} followers: {}", text(cause)));
    }
    if !answer["fragmentation"].is_null() {
        lines.push(capitalised(text(&answer["fragmentation"])));
    }
    let share = &answer["fair_share"];
    if answer["blocked"] == true && !share.is_null() {
        lines.push(format!(
            "Fair sharing: {} of {} come first (share {:.4} by weight {})",
            share["ahead"],
            share["of"],
            share["weighted_share"].as_f64().unwrap_or_default(),
            share["weight"]
        ));
    }
    if !list(&answer["suggestions"]).is_empty() {
        lines.push("What would help:".to_owned());
    }
    for suggestion in list(&answer["suggestions"]) {
        let mark = match suggestion["verified"] == true {
            true => "✓",
            false => "?",
        };
        lines.push(format!("  {mark} {}", text(suggestion)));
    }
    for note in list(&answer["notes"]) {
        lines.push(format!("Note: {}", note.as_str().unwrap_or_default()));
    }
    lines
}

fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => first.to_uppercase().chain(rest).collect(),
        None => String::new(),
    }
}

fn print_outcome(outcome: &Value) {
    for change in list(&outcome["changes"]) {
        say(&format!("If: {}", text(change)));
    }
    let (before, after) = (&outcome["before"], &outcome["after"]);
    let mut table = Table::new(&["CLUSTER", "NOW", "THEN"]);
    let count = |of: &Value| of["followers"].to_string();
    table.row(["followers".to_owned(), count(before), count(after)]);
    for part in ["total", "free"] {
        let part_of = |of: &Value| text(&of[part]).to_owned();
        table.row([part.to_owned(), part_of(before), part_of(after)]);
    }
    table.print();
    if !list(&outcome["roles"]).is_empty() {
        say("");
        let mut table = Table::new(&[
            "ROLE",
            "WEIGHT",
            "SHARE NOW",
            "SHARE THEN",
            "HELD NOW",
            "HELD THEN",
        ]);
        for role in list(&outcome["roles"]) {
            table.row(role_cells(role));
        }
        table.print();
    }
    for demand in list(&outcome["demands"]) {
        say("");
        say(&format!(
            "{} of {} tasks of {} in role '{}' find a place, on {}",
            demand["placed"],
            demand["count"],
            text(&demand["resources"]),
            demand["role"].as_str().unwrap_or_default(),
            followers(&demand["on_followers"])
        ));
        if !demand["why"].is_null() {
            say("The next one does not:");
            print_answer(&demand["why"], "  ");
        }
    }
}

fn followers(count: &Value) -> String {
    match count.as_u64() {
        Some(1) => "1 follower".to_owned(),
        _ => format!("{count} followers"),
    }
}

fn role_cells(role: &Value) -> [String; 6] {
    let share = |of: &Value| match of["share"].as_f64() {
        Some(share) => format!("{:.1}%", share * 100.0),
        None => "-".to_owned(),
    };
    let held = |of: &Value| match of.is_null() {
        true => "-".to_owned(),
        false => text(&of["held"]).to_owned(),
    };
    let (before, after) = (&role["before"], &role["after"]);
    let weight = match after["weight"].as_f64().or(before["weight"].as_f64()) {
        Some(weight) => weight.to_string(),
        None => "-".to_owned(),
    };
    [
        role["role"].as_str().unwrap_or_default().to_owned(),
        weight,
        share(before),
        share(after),
        held(before),
        held(after),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frameworks_are_found_by_what_people_call_them() {
        let known = [
            ("l-0000", "marathon"),
            ("l-0001", "batch"),
            ("m-0001", "batch"),
        ];
        let found = |name: &str| find(&known, name).map_err(|error| error.to_string());
        assert_eq!(found("l-0001").as_deref(), Ok("l-0001"));
        assert_eq!(found("0000").as_deref(), Ok("l-0000"));
        assert_eq!(found("marathon").as_deref(), Ok("l-0000"));
        assert_eq!(found("gone").as_deref(), Ok("gone"), "the leader knows");
        for several in ["0001", "batch"] {
            assert!(found(several).is_err_and(|e| e.contains("l-0001, m-0001")));
        }
    }

    #[test]
    fn an_answer_says_what_is_in_the_way_and_what_would_help() {
        let answer = json!({
            "text": "no offer of cpus:4", "blocked": true, "followers": 3,
            "everywhere": [{"text": "suppressed"}],
            "causes": [{"text": "too small", "followers": 2}],
            "fair_share": {"ahead": 1, "of": 2, "weighted_share": 0.25, "weight": 1.0},
            "suggestions": [{"verified": true, "text": "revive"}, {"verified": false, "text": "wait"}],
            "notes": ["1 followers are unreachable"],
        });
        assert_eq!(
            answer_lines(&answer).join("\n"),
            "No offer of cpus:4\nIn the way:\n  everywhere: suppressed\n  2 of 3 followers: too small\n\
             Fair sharing: 1 of 2 come first (share 0.2500 by weight 1.0)\n\
             What would help:\n  ✓ revive\n  ? wait\nNote: 1 followers are unreachable"
        );
    }
}
