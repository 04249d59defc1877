//! What a deploy will do and why, in words: for the driver's terminal and the log.

use std::collections::BTreeMap;

use eagleray_types::{
    control::{ApplicationSpec, CodeFile, DeploymentOptions, DeploymentSpec},
    options::{Scope, Value},
};

/// File names that one line names; the rest are counted.
const NAMED: usize = 3;

/// Of a deploy that comes while the application is being deleted.
pub(crate) const DELETE_ENDS: &str = "the application was being deleted, which ends with this deploy: replicas that \
                                      had not been told to stop are kept if they run what is deployed";

pub(crate) fn notes(old: Option<&ApplicationSpec>, new: &ApplicationSpec) -> Vec<String> {
    let mut notes = Vec::new();
    for deployment in &new.deployments {
        let before = old.and_then(|old| {
            old.deployments
                .iter()
                .find(|one| one.name == deployment.name)
                .map(|one| (old, one))
        });
        let name = &deployment.name;
        notes.push(match before {
            None => format!(
                "{name} starts with {} replica(s)",
                deployment.options.num_replicas
            ),
            Some((_, before)) if before.version == deployment.version => {
                let changes = option_changes(&before.options, &deployment.options);
                let changes = if changes.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", changes.join(", "))
                };
                format!("{name} keeps its replicas{changes}")
            }
            Some((old, before)) => {
                format!("{name} rolls: {}", reason(old, before, new, deployment))
            }
        });
    }
    let kept = |name: &str| new.deployments.iter().any(|one| one.name == name);
    let removed = old
        .into_iter()
        .flat_map(|old| &old.deployments)
        .filter(|one| !kept(&one.name));
    notes.extend(removed.map(|one| format!("{} goes: the application no longer has it", one.name)));
    notes
}

/// Why the version is another one.
fn reason(
    old: &ApplicationSpec,
    before: &DeploymentSpec,
    new: &ApplicationSpec,
    after: &DeploymentSpec,
) -> String {
    let mut reasons = Vec::new();
    if !after.version_note.is_empty() {
        reasons.push(after.version_note.clone());
    }
    reasons.extend(code_changes(&old.code_files, &new.code_files));
    if before.callable_blob != after.callable_blob {
        reasons.push("its arguments, or code that travels by value, changed".to_owned());
    }
    let mut parts = Vec::new();
    let mut compare = |what: &'static str, same: bool| {
        if !same {
            parts.push(what);
        }
    };
    compare("the interpreter", old.python == new.python);
    compare(
        "the working directory",
        old.working_directory == new.working_directory,
    );
    compare("sys.path", old.sys_path == new.sys_path);
    let fixed = |scope| scope == Scope::Version;
    let options = before.options.changed(&after.options, fixed);
    parts.extend(options.map(|option| option.named));
    if old.environment != new.environment && !parts.contains(&"the environment") {
        parts.push("the environment");
    }
    if !parts.is_empty() {
        reasons.push(format!("changed: {}", parts.join(", ")));
    }
    if reasons.is_empty() {
        reasons.push("its options, or the versions of what it imports, changed".to_owned());
    }
    reasons.join("; ")
}

fn code_changes(old: &[CodeFile], new: &[CodeFile]) -> Option<String> {
    let sums = |files: &[CodeFile]| -> BTreeMap<String, String> {
        files
            .iter()
            .map(|file| (file.path.clone(), file.sha256.clone()))
            .collect()
    };
    let (old, new) = (sums(old), sums(new));
    let changed = new.iter().filter_map(|(path, sum)| match old.get(path) {
        None => Some(format!("{path} (new)")),
        Some(before) => (before != sum).then(|| path.clone()),
    });
    let removed = old
        .keys()
        .filter(|path| !new.contains_key(*path))
        .map(|path| format!("{path} (gone)"));
    let files: Vec<String> = changed.chain(removed).collect();
    let more = files.len().saturating_sub(NAMED);
    let named = files
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match (files.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(format!("changed code: {named}")),
        (false, more) => Some(format!("changed code: {named} and {more} more")),
    }
}

/// Options that change without a new process, by name.
fn option_changes(old: &DeploymentOptions, new: &DeploymentOptions) -> Vec<String> {
    let mut changes: Vec<String> = Vec::new();
    for option in old.changed(new, |scope| scope < Scope::Version) {
        let text = match (option.of(old), option.of(new)) {
            (Value::Whole(old), Value::Whole(new)) if option.key == "num_replicas" => {
                format!("{} {old} -> {new}", option.named)
            }
            _ => format!("{} changed", option.named),
        };
        // Two rows may be one thing to people.
        if !changes.contains(&text) {
            changes.push(text);
        }
    }
    changes
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

    #[test]
    fn a_note_names_the_file_that_changed() {
        let (old, new) = (
            spec("1", &[("a.py", "x"), ("b.py", "x")]),
            spec("2", &[("a.py", "x"), ("b.py", "y")]),
        );
        assert_eq!(notes(Some(&old), &new), ["D rolls: changed code: b.py"]);
        let many = spec("2", &[("a.py", "1"), ("c.py", "1"), ("d.py", "1")]);
        assert_eq!(
            notes(Some(&old), &many),
            ["D rolls: changed code: a.py, c.py (new), d.py (new) and 1 more"]
        );
    }

    #[test]
    fn a_note_says_what_could_not_be_compared() {
        let mut new = spec("2", &[]);
        new.deployments[0].version_note = "the closure of f cannot be hashed".into();
        assert_eq!(
            notes(Some(&spec("1", &[])), &new),
            ["D rolls: the closure of f cannot be hashed"]
        );
    }

    #[test]
    fn a_note_says_what_keeps_its_replicas_and_what_changes_in_place() {
        let mut new = spec("1", &[]);
        assert_eq!(notes(Some(&spec("1", &[])), &new), ["D keeps its replicas"]);
        new.deployments[0].options.num_replicas = 3;
        new.deployments[0].options.user_config = "{}".into();
        let expected = "D keeps its replicas (num_replicas 1 -> 3, user_config changed)";
        assert_eq!(notes(Some(&spec("1", &[])), &new), [expected]);
        assert_eq!(notes(None, &new), ["D starts with 3 replica(s)"]);
    }

    #[test]
    fn a_note_names_arguments_environment_and_what_goes() {
        let mut new = spec("2", &[]);
        new.deployments[0].callable_blob = "other".into();
        new.working_directory = "/elsewhere".into();
        let expected = "D rolls: its arguments, or code that travels by value, changed; changed: the working directory";
        assert_eq!(notes(Some(&spec("1", &[])), &new), [expected]);
        new.deployments[0].options.max_body_bytes = 5;
        assert_eq!(
            notes(Some(&spec("1", &[])), &new),
            [format!("{expected}, max_body_bytes")]
        );
        new.deployments[0].name = "E".into();
        assert_eq!(
            notes(Some(&spec("1", &[])), &new)[1],
            "D goes: the application no longer has it"
        );
    }
}
