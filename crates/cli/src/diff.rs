//! `eagleray diff`: what a deploy would change, or what two revisions of an application differ in.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    answers::{Planned, Revision},
    api::{Api, escaped},
    exit::Exit,
    find::Where,
    output::{say, say_all},
    plan::{self, Change},
    program::Program,
    submission::{Envelope, Source, Submission},
    trouble::{Outcome, Trouble},
    words::plain,
};

#[derive(Debug, Args)]
pub struct DiffArguments {
    /// What would be deployed; with --from or --to the name of an application.
    #[arg(value_name = "FILE|MODULE:NAME|APP")]
    target: Option<String>,
    /// Arguments of the function that builds the application.
    #[arg(value_name = "KEY=VALUE")]
    arguments: Vec<String>,
    /// Name of the application of a module [default: default].
    #[arg(long)]
    name: Option<String>,
    /// Where modules are looked for first.
    #[arg(short = 'd', long, value_name = "DIRECTORY", default_value = ".")]
    app_dir: PathBuf,
    /// The older revision, such as r14 [default: the one before the other].
    #[arg(long, value_name = "REV")]
    from: Option<String>,
    /// The newer revision [default: what is deployed now].
    #[arg(long, value_name = "REV")]
    to: Option<String>,
    /// Exit with 10 if something is changed in place at most, 11 if something restarts, 12 if something is deleted.
    #[arg(long)]
    exit_code: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(arguments: &DiffArguments, program: Program) -> Outcome {
    let change = if arguments.from.is_some() || arguments.to.is_some() {
        revisions(arguments)?
    } else {
        let Some(target) = arguments.target.clone() else {
            return Err(
                Trouble::new(Exit::Usage, "usage", "what is to be compared is missing")
                    .help("a file against what is deployed: eagleray diff shop.yaml")
                    .help("two revisions: eagleray diff APP --from r14 --to r15"),
            );
        };
        planned(arguments, target, program)?
    };
    match change {
        Change::Fails => Ok(Exit::Failed),
        change if arguments.exit_code => Ok(change.exit()),
        _ => Ok(Exit::Done),
    }
}

fn planned(arguments: &DiffArguments, target: String, program: Program) -> Outcome<Change> {
    let source = Source {
        target,
        arguments: arguments.arguments.clone(),
        name: arguments.name.clone(),
        app_dir: arguments.app_dir.clone(),
        runtime_env: None,
        runtime_env_json: None,
        working_dir: None,
    };
    let submission = Submission::read(&source, arguments.json, program)?;
    let api = Api::of(&arguments.place)?;
    let body = submission.body(&source, &Envelope::default(), api.found.local)?;
    plan::run(&api, &body, &submission.label, arguments.json)
}

/// What leads from one revision to another, and what was declared at both, key by key.
fn revisions(arguments: &DiffArguments) -> Outcome<Change> {
    let api = Api::of(&arguments.place)?;
    let name = match &arguments.target {
        Some(name) => name.clone(),
        None => crate::history::only_application(&api)?,
    };
    let all = crate::history::of(&api, Some(&name))?.revisions;
    let to = match &arguments.to {
        Some(to) => one(&api, &name, to)?,
        None => all
            .iter()
            .find(|one| one.current)
            .or(all.first())
            .cloned()
            .ok_or_else(|| crate::status::missing(&name))?,
    };
    let from = match &arguments.from {
        Some(from) => one(&api, &name, from)?,
        None => all
            .iter()
            .find(|one| one.number < to.number)
            .cloned()
            .ok_or_else(|| {
                Trouble::new(
                    Exit::Missing,
                    "no_revision",
                    format!("{name} has no revision before r{}", to.number),
                )
            })?,
    };
    let path = format!("/api/v1/applications/{}/diff", escaped(&name));
    let (older, newer) = (format!("r{}", from.number), format!("r{}", to.number));
    let planned: Planned = api.get(&path, &[("from", &older), ("to", &newer)])?;
    let changed = plan::between(&planned);
    let differences = differences(&from.config, &to.config);
    if arguments.json {
        let config: Vec<Value> = differences
            .iter()
            .map(|(path, old, new)| json!({"path": path, "from": old, "to": new}))
            .collect();
        say(&json!({"application": name, "from": from.number, "to": to.number, "config": config, "changed": changed}).to_string());
    } else {
        say_all(&lines(&name, &from, &to, &differences, &changed));
    }
    Ok(match Change::of(&planned) {
        Change::Nothing if !differences.is_empty() => Change::InPlace,
        change => change,
    })
}

fn one(api: &Api, name: &str, revision: &str) -> Outcome<Revision> {
    api.get(
        &format!(
            "/api/v1/applications/{}/revisions/{}",
            escaped(name),
            escaped(revision)
        ),
        &[],
    )
}

type Difference = (String, Option<Value>, Option<Value>);

fn lines(
    name: &str,
    from: &Revision,
    to: &Revision,
    differences: &[Difference],
    changed: &[String],
) -> Vec<String> {
    let mut lines = vec![format!("{name} r{} -> r{}", from.number, to.number)];
    let shown = |value: &Option<Value>| {
        value
            .as_ref()
            .map_or_else(|| "(not stated)".to_owned(), Value::to_string)
    };
    for (path, old, new) in differences {
        lines.push(format!("  {path}  {} -> {}", shown(old), shown(new)));
    }
    lines.extend(changed.iter().map(|change| format!("  {}", plain(change))));
    if lines.len() == 1 {
        lines.push("  they are the same".to_owned());
    }
    lines
}

/// Each path at which two configs differ. Deployments are told apart by their names, not by where they stand.
fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    found
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    if old == new {
        return;
    }
    let (old_parts, new_parts) = (old.and_then(parts), new.and_then(parts));
    if old_parts.is_none() && new_parts.is_none()
        || old.is_some() && new.is_some() && (old_parts.is_none() || new_parts.is_none())
    {
        found.push((path.to_owned(), old.cloned(), new.cloned()));
        return;
    }
    let (old, new) = (old_parts.unwrap_or_default(), new_parts.unwrap_or_default());
    let mut keys: Vec<&String> = old.iter().chain(&new).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let of = |parts: &[(String, Value)]| {
            parts
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value.clone())
        };
        let inner = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        compare(&inner, of(&old).as_ref(), of(&new).as_ref(), found);
    }
}

/// What can be compared part by part: a mapping, or a list of what has names.
fn parts(value: &Value) -> Option<Vec<(String, Value)>> {
    match value {
        Value::Object(map) => Some(
            map.iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        ),
        Value::Array(list) if !list.is_empty() => {
            let named = |one: &Value| Some((one.get("name")?.as_str()?.to_owned(), one.clone()));
            list.iter().map(named).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_configs_differ_at_paths() {
        let old = json!({"name": "shop", "deployments": [{"name": "Rank", "num_replicas": 2}, {"name": "Old", "x": 1}]});
        let new = json!({"name": "shop", "args": {"a": "1"}, "deployments": [{"name": "Rank", "num_replicas": 3}]});
        assert_eq!(
            differences(&old, &new),
            [
                ("args.a".to_owned(), None, Some(json!("1"))),
                ("deployments.Old.name".to_owned(), Some(json!("Old")), None),
                ("deployments.Old.x".to_owned(), Some(json!(1)), None),
                (
                    "deployments.Rank.num_replicas".to_owned(),
                    Some(json!(2)),
                    Some(json!(3))
                ),
            ]
        );
        assert!(differences(&old, &old).is_empty());
    }
}
