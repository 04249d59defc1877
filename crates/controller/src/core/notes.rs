//! What a deploy will do and why, in words: for the driver's terminal and the log.

use eagleray_types::control::PlannedDeployment;

use super::plan;

/// Of a deploy that comes while the application is being deleted.
pub(crate) const DELETE_ENDS: &str = "the application was being deleted, which ends with this deploy: replicas that \
                                      had not been told to stop are kept if they run what is deployed";

pub(crate) fn notes(deployments: &[PlannedDeployment]) -> Vec<String> {
    deployments.iter().map(note).collect()
}

pub(crate) fn note(planned: &PlannedDeployment) -> String {
    let name = &planned.name;
    match planned.change.as_str() {
        plan::NEW => format!("{name} starts with {} replica(s)", planned.replicas_after),
        plan::DELETE => format!("{name} goes: the application no longer has it"),
        plan::RESTART => format!("{name} rolls: {}", planned.reasons.join("; ")),
        plan::IN_PLACE => format!("{name} keeps its replicas ({})", planned.reasons.join(", ")),
        _ => format!("{name} keeps its replicas"),
    }
}

#[cfg(test)]
mod tests {
    use eagleray_types::control::{ApplicationSpec, CodeFile, DeploymentOptions, DeploymentSpec};

    use super::*;

    fn notes(old: Option<&ApplicationSpec>, new: &ApplicationSpec) -> Vec<String> {
        super::notes(&plan::compare(old, Some(new)).deployments)
    }

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
        let expected = "D rolls: its arguments, or code that travels by value, changed; working directory the node's own -> /elsewhere";
        assert_eq!(notes(Some(&spec("1", &[])), &new), [expected]);
        new.deployments[0].options.max_body_bytes = 5;
        assert_eq!(
            notes(Some(&spec("1", &[])), &new),
            [format!("{expected}; max_body_bytes 0 -> 5")]
        );
        new.deployments[0].name = "E".into();
        assert_eq!(
            notes(Some(&spec("1", &[])), &new)[1],
            "D goes: the application no longer has it"
        );
    }
}
