//! What a deploy changes, and why: two specs of an application, compared.
//!
//! Pure: no books, no clock. What a plan shows before a deploy, the notes that a driver gets with one, the history and
//! `diff` between two revisions are all this comparison, so that none of them says what another does not. Values of
//! environment variables and `user_config` may be secrets: only names are said.

use std::collections::{BTreeMap, BTreeSet};

use crate::books::autoscaling::begins_with;
use eagleray_types::{
    control::{
        ApplicationSpec, CodeFile, DeploymentOptions, DeploymentSpec, PlannedApplication,
        PlannedDeployment,
    },
    options::{DeploymentOption, Scope, Value},
};

/// File names that one line names; the rest are counted.
const NAMED: usize = 3;

/// From what an application is to what it would be; `None`: it is not there, before or after.
pub(crate) fn compare(
    old: Option<&ApplicationSpec>,
    new: Option<&ApplicationSpec>,
) -> PlannedApplication {
    let after = new.map_or(&[][..], |new| &new.deployments);
    let before = old.map_or(&[][..], |old| &old.deployments);
    let mut deployments: Vec<_> = after
        .iter()
        .map(|after| {
            let found = before.iter().find(|one| one.name == after.name);
            match (found, old, new) {
                (Some(before), Some(old), Some(new)) => changed(old, before, new, after),
                _ => fresh(after),
            }
        })
        .collect();
    let kept: BTreeSet<&str> = after.iter().map(|one| one.name.as_str()).collect();
    let gone = before
        .iter()
        .filter(|one| !kept.contains(one.name.as_str()));
    deployments.extend(gone.map(goes));
    let changes = match (old, new) {
        (Some(old), Some(new)) => application_changes(old, new),
        _ => Vec::new(),
    };
    let same = changes.is_empty() && deployments.iter().all(|one| one.change == UNTOUCHED);
    PlannedApplication {
        name: new.or(old).map(|one| one.name.clone()).unwrap_or_default(),
        change: match (old, new) {
            (None, _) => "new",
            (Some(_), None) => "delete",
            (Some(_), Some(_)) if same => "unchanged",
            (Some(_), Some(_)) => "update",
        }
        .to_owned(),
        deployments,
        changed: changes,
        ..PlannedApplication::default()
    }
}

pub(crate) const NEW: &str = "new";
pub(crate) const RESTART: &str = "restart";
pub(crate) const IN_PLACE: &str = "in_place";
pub(crate) const UNTOUCHED: &str = "untouched";
pub(crate) const DELETE: &str = "delete";

/// All of it in a few words, for the list of revisions: what restarted nobody need not be looked for there.
pub(crate) fn summary(planned: &PlannedApplication) -> Vec<String> {
    let mut lines = planned.changed.clone();
    for deployment in &planned.deployments {
        let name = &deployment.name;
        match deployment.change.as_str() {
            NEW if planned.change == NEW => {}
            NEW => lines.push(format!("{name} is new")),
            DELETE if planned.change == DELETE => {}
            DELETE => lines.push(format!("{name} is gone")),
            _ => {
                let own = deployment.reasons.iter();
                let own = own.filter(|reason| !planned.changed.contains(*reason));
                lines.extend(own.map(|reason| format!("{name}: {reason}")));
            }
        }
    }
    lines
}

fn fresh(after: &DeploymentSpec) -> PlannedDeployment {
    PlannedDeployment {
        name: after.name.clone(),
        change: NEW.to_owned(),
        replicas_after: begins_with(after),
        ..PlannedDeployment::default()
    }
}

fn goes(before: &DeploymentSpec) -> PlannedDeployment {
    PlannedDeployment {
        name: before.name.clone(),
        change: DELETE.to_owned(),
        replicas_before: begins_with(before),
        ..PlannedDeployment::default()
    }
}

fn changed(
    old: &ApplicationSpec,
    before: &DeploymentSpec,
    new: &ApplicationSpec,
    after: &DeploymentSpec,
) -> PlannedDeployment {
    let (change, reasons) = if before.version == after.version {
        let light = |scope| scope < Scope::Version;
        let mut options = option_changes(&before.options, &after.options, light);
        if before.autoscaling_config != after.autoscaling_config {
            options.push("autoscaling_config changed".to_owned());
        }
        let change = if options.is_empty() {
            UNTOUCHED
        } else {
            IN_PLACE
        };
        (change, options)
    } else {
        (RESTART, reasons(old, before, new, after))
    };
    PlannedDeployment {
        name: after.name.clone(),
        change: change.to_owned(),
        reasons,
        replicas_before: begins_with(before),
        replicas_after: begins_with(after),
    }
}

/// Why the version is another one.
fn reasons(
    old: &ApplicationSpec,
    before: &DeploymentSpec,
    new: &ApplicationSpec,
    after: &DeploymentSpec,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if !after.version_note.is_empty() {
        reasons.push(after.version_note.clone());
    }
    reasons.extend(code_changes(old, new));
    if before.callable_blob != after.callable_blob {
        reasons.push("its arguments, or code that travels by value, changed".to_owned());
    }
    reasons.extend(surroundings(old, new));
    reasons.extend(packages(&before.packages, &after.packages));
    reasons.extend(option_changes(&before.options, &after.options, |_| true));
    if before.autoscaling_config != after.autoscaling_config {
        reasons.push("autoscaling_config changed".to_owned());
    }
    if reasons.is_empty() {
        reasons.push("the versions of what it imports changed".to_owned());
    }
    reasons
}

/// What all deployments of an application share.
fn application_changes(old: &ApplicationSpec, new: &ApplicationSpec) -> Vec<String> {
    let mut changes = Vec::new();
    if old.route_prefix != new.route_prefix {
        let shown = |prefix| shown(prefix, "none");
        let (old, new) = (shown(&old.route_prefix), shown(&new.route_prefix));
        changes.push(format!("route_prefix {old} -> {new}"));
    }
    if old.ingress != new.ingress {
        changes.push(format!("ingress {} -> {}", old.ingress, new.ingress));
    }
    changes.extend(code_changes(old, new));
    changes.extend(surroundings(old, new));
    changes
}

/// Where and how its processes run.
fn surroundings(old: &ApplicationSpec, new: &ApplicationSpec) -> Vec<String> {
    let mut changes = Vec::new();
    let mut compare = |what: &str, old: &str, new: &str| {
        if old != new {
            let shown = |text| shown(text, "the node's own");
            changes.push(format!("{what} {} -> {}", shown(old), shown(new)));
        }
    };
    compare("interpreter", &old.python, &new.python);
    compare(
        "working directory",
        &old.working_directory,
        &new.working_directory,
    );
    if old.sys_path != new.sys_path {
        changes.push("sys.path changed".to_owned());
    }
    changes.extend(variables(&old.environment, &new.environment));
    changes
}

fn shown<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// Files below the working directory go by their names from there.
fn code_changes(old: &ApplicationSpec, new: &ApplicationSpec) -> Option<String> {
    let directory = new.working_directory.trim_end_matches('/');
    let shown = |path: &str| -> String {
        let below = path
            .strip_prefix(directory)
            .filter(|_| !directory.is_empty());
        let below = below.and_then(|below| below.strip_prefix('/'));
        below.unwrap_or(path).to_owned()
    };
    let sums = |files: &[CodeFile]| -> BTreeMap<String, String> {
        files
            .iter()
            .map(|file| (shown(&file.path), file.sha256.clone()))
            .collect()
    };
    let files = differences(&sums(&old.code_files), &sums(&new.code_files));
    (!files.is_empty()).then(|| format!("changed code: {}", some_of(&files)))
}

/// Packages that both have, in other versions: `numpy 1.26.4 -> 2.0.1`.
pub(crate) fn packages(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Vec<String> {
    let both = old.iter().filter_map(|(name, before)| {
        let after = new.get(name)?;
        (before != after).then(|| format!("{name} {before} -> {after}"))
    });
    both.collect()
}

fn variables(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Option<String> {
    let names = differences(old, new);
    (!names.is_empty()).then(|| format!("env_vars {}", some_of(&names)))
}

/// Keys whose value is another one.
fn differences<V: PartialEq>(old: &BTreeMap<String, V>, new: &BTreeMap<String, V>) -> Vec<String> {
    let changed = new.iter().filter_map(|(key, value)| match old.get(key) {
        None => Some(format!("{key} (new)")),
        Some(before) => (before != value).then(|| key.clone()),
    });
    let removed = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| format!("{key} (gone)"));
    changed.chain(removed).collect()
}

fn some_of(names: &[String]) -> String {
    let named = &names[..names.len().min(NAMED)];
    match names.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Options whose change reaches as far as `concerns` says, by the name that people know them by.
fn option_changes(
    old: &DeploymentOptions,
    new: &DeploymentOptions,
    concerns: impl Fn(Scope) -> bool,
) -> Vec<String> {
    let mut changes: Vec<String> = Vec::new();
    for option in old.changed(new, concerns) {
        for text in option_change(option, &option.of(old), &option.of(new)) {
            // Two rows may be one thing to people.
            if !changes.contains(&text) {
                changes.push(text);
            }
        }
    }
    changes
}

fn option_change(option: &DeploymentOption, old: &Value, new: &Value) -> Vec<String> {
    let plain = option.key == option.named;
    match (old, new) {
        (Value::Whole(old), Value::Whole(new)) if plain => {
            vec![format!("{} {old} -> {new}", option.named)]
        }
        (Value::Number(old), Value::Number(new)) if plain => {
            vec![format!("{} {old} -> {new}", option.named)]
        }
        (Value::Flag(old), Value::Flag(new)) if plain => {
            vec![format!("{} {old} -> {new}", option.named)]
        }
        (Value::Numbers(old), Value::Numbers(new)) => amounts(old, new),
        (Value::Texts(old), Value::Texts(new)) => variables(old, new).into_iter().collect(),
        _ => vec![format!("{} changed", option.named)],
    }
}

/// `num_cpus 1 -> 2`.
fn amounts(old: &BTreeMap<String, f64>, new: &BTreeMap<String, f64>) -> Vec<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let shown = |amount: Option<&f64>| amount.map_or_else(|| "none".to_owned(), f64::to_string);
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| {
            format!(
                "{name} {} -> {}",
                shown(old.get(name)),
                shown(new.get(name))
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(version: &str, sums: &[(&str, &str)]) -> ApplicationSpec {
        let options = DeploymentOptions {
            num_replicas: 1,
            ..Default::default()
        };
        ApplicationSpec {
            deployments: vec![DeploymentSpec {
                name: "D".into(),
                version: version.into(),
                options,
                ..Default::default()
            }],
            code_files: sums
                .iter()
                .map(|(path, sha256)| CodeFile {
                    path: (*path).into(),
                    sha256: (*sha256).into(),
                })
                .collect(),
            ..Default::default()
        }
    }

    fn reasons_of(old: &ApplicationSpec, new: &ApplicationSpec) -> Vec<String> {
        compare(Some(old), Some(new)).deployments[0].reasons.clone()
    }

    #[test]
    fn options_are_said_with_both_values_and_secrets_by_name_only() {
        let (old, mut new) = (spec("1", &[]), spec("2", &[]));
        let options = &mut new.deployments[0].options;
        options.num_replicas = 3;
        options.user_config = "{\"password\": \"hunter2\"}".into();
        options.resources = [("num_cpus".to_owned(), 2.0)].into();
        options.environment = [("API_KEY".to_owned(), "hunter2".to_owned())].into();
        assert_eq!(
            reasons_of(&old, &new),
            [
                "num_replicas 1 -> 3",
                "user_config changed",
                "num_cpus none -> 2",
                "env_vars API_KEY (new)"
            ]
        );
        let planned = compare(Some(&old), Some(&new));
        assert!(!format!("{planned:?}").contains("hunter2"));
        assert_eq!(planned.change, "update");
        assert_eq!(planned.deployments[0].replicas_after, 3);
    }

    #[test]
    fn what_is_the_same_is_unchanged_and_what_is_gone_is_deleted() {
        let old = spec("1", &[("a.py", "x")]);
        let same = compare(Some(&old), Some(&old));
        assert_eq!(same.change, "unchanged");
        assert_eq!(same.deployments[0].change, UNTOUCHED);
        assert!(summary(&same).is_empty());
        assert_eq!(compare(None, Some(&old)).change, "new");
        let gone = compare(Some(&old), None);
        assert_eq!(
            (gone.change.as_str(), gone.deployments[0].change.as_str()),
            ("delete", DELETE)
        );
    }

    #[test]
    fn files_go_by_their_names_from_the_working_directory() {
        let spec = |version: &str, sum: &str| ApplicationSpec {
            working_directory: "/home/me/shop".into(),
            ..spec(
                version,
                &[
                    ("/home/me/shop/models/rank.py", sum),
                    ("/home/me/shop2.py", sum),
                ],
            )
        };
        assert_eq!(
            reasons_of(&spec("1", "x"), &spec("2", "y")),
            ["changed code: /home/me/shop2.py, models/rank.py"]
        );
    }

    #[test]
    fn a_summary_says_each_thing_once() {
        let (old, mut new) = (spec("1", &[("a.py", "x")]), spec("2", &[("a.py", "y")]));
        new.route_prefix = "/new".into();
        new.deployments[0].options.max_ongoing_requests = 20;
        let planned = compare(Some(&old), Some(&new));
        assert_eq!(
            summary(&planned),
            [
                "route_prefix none -> /new",
                "changed code: a.py",
                "D: max_ongoing_requests 0 -> 20"
            ]
        );
    }
}
