//! What is wrong with a request, before anything changes.

use std::collections::BTreeSet;

use eagleray_autoscaler::Config;
use eagleray_types::control::{ApiError, ApplicationSpec, DeploymentSpec};

use crate::store::files;

pub(crate) fn api_error(kind: &str, message: impl Into<String>) -> ApiError {
    ApiError {
        kind: kind.to_owned(),
        message: message.into(),
    }
}

/// Every problem at once, as one `invalid` error.
pub(crate) fn validate(spec: &ApplicationSpec) -> Result<(), ApiError> {
    let mut problems = Vec::new();
    problems.extend(name_problem("application", &spec.name));
    problems.extend(route_problem(&spec.route_prefix));
    if spec.revision.is_empty() {
        problems.push("the revision has no name".to_owned());
    }
    if !spec.code_blob.is_empty() && !files::is_name(&spec.code_blob) {
        problems.push(format!("'{}' does not name a code blob", spec.code_blob));
    }
    let mut names = BTreeSet::new();
    for deployment in &spec.deployments {
        problems.extend(deployment_problems(deployment));
        if !names.insert(deployment.name.as_str()) {
            problems.push(format!("two deployments are named '{}'", deployment.name));
        }
    }
    if !names.contains(spec.ingress.as_str()) {
        problems.push(format!(
            "the ingress '{}' is none of the application's deployments",
            spec.ingress
        ));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(api_error("invalid", problems.join("; ")))
    }
}

fn name_problem(what: &str, name: &str) -> Option<String> {
    let bad = |character: char| character.is_control() || matches!(character, '/' | '#');
    (name.is_empty() || name.len() > 200 || name.chars().any(bad)).then(|| {
        format!("{what} name {name:?} is not usable: give 1 to 200 bytes without '/', '#' and control characters")
    })
}

fn route_problem(prefix: &str) -> Option<String> {
    let say = |problem: &str| Some(format!("route_prefix '{prefix}' {problem}"));
    if prefix.is_empty() || prefix == "/" {
        None
    } else if !prefix.starts_with('/') {
        say("must start with '/'")
    } else if prefix.ends_with('/') {
        say("must not end with '/'")
    } else if prefix.contains(['{', '}']) {
        say("may not contain wildcards ('{' or '}')")
    } else if prefix.contains("//")
        || prefix.contains(['?', '#', '%'])
        || prefix.chars().any(|c| c.is_control() || c == ' ')
    {
        say("must be a plain path, as it stands in a URL")
    } else if prefix == "/-" || prefix.starts_with("/-/") {
        say("is taken: paths under '/-/' are Eagleray's own")
    } else {
        None
    }
}

fn deployment_problems(deployment: &DeploymentSpec) -> Vec<String> {
    let mut problems: Vec<String> = name_problem("deployment", &deployment.name)
        .into_iter()
        .collect();
    let wrong = [
        (deployment.version.is_empty(), "its version has no name"),
        (
            !files::is_name(&deployment.callable_blob),
            "callable_blob does not name a blob",
        ),
    ];
    let wrong = wrong.into_iter().filter(|(holds, _)| *holds);
    let rules = wrong.map(|(_, rule)| rule.to_owned());
    let scaling = match deployment.autoscaling_config.as_str() {
        "" => None,
        text => Config::of_json(text).err().map(|error| error.to_string()),
    };
    problems.extend(
        rules
            .chain(deployment.options.problems())
            .chain(scaling)
            .map(|rule| format!("deployment '{}': {rule}", deployment.name)),
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_prefixes_are_plain_paths() {
        for good in ["", "/", "/a", "/a/b", "/a-b_c.d"] {
            assert_eq!(route_problem(good), None, "{good}");
        }
        for bad in [
            "a",
            "/a/",
            "//",
            "/a//b",
            "/{x}",
            "/-/routes",
            "/-",
            "/a b",
            "/a?b",
            "/%2f",
        ] {
            assert!(route_problem(bad).is_some(), "{bad}");
        }
    }

    type Change = fn(&mut eagleray_types::control::DeploymentOptions);

    #[test]
    fn numbers_that_cannot_be_meant_are_refused() {
        let good = || DeploymentSpec {
            name: "d".into(),
            version: "v".into(),
            callable_blob: "0".repeat(64),
            options: eagleray_types::control::DeploymentOptions::standard(),
            ..Default::default()
        };
        assert_eq!(deployment_problems(&good()), [""; 0]);
        let changes: [Change; 11] = [
            |options| options.backpressure_status = 200,
            |options| options.rolling_update_percentage = 1.5,
            |options| options.rolling_update_percentage = f64::NAN,
            |options| options.max_surge_percent = 101,
            |options| options.num_replicas = u32::MAX,
            |options| options.num_replicas = 0,
            |options| options.health_check_period_s = 1e19,
            |options| options.health_check_timeout_s = f64::MAX,
            |options| options.graceful_shutdown_timeout_s = f64::INFINITY,
            |options| options.graceful_shutdown_wait_loop_s = f64::NAN,
            |options| options.backpressure_retry_after_s = -1.0,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut spec = good();
            change(&mut spec.options);
            assert_eq!(deployment_problems(&spec).len(), 1, "change {number}");
        }
    }

    #[test]
    fn bounds_that_cannot_be_meant_are_refused() {
        for (text, problem) in [
            ("{}", ""),
            (r#"{"min_replicas": 0, "max_replicas": 4}"#, ""),
            (r#"{"min_replicas": 3}"#, "min_replicas must be at most"),
            (
                r#"{"target_ongoing_requests": -1}"#,
                "target_ongoing_requests must",
            ),
            (r#"{"upscale_delay_s": 1e300}"#, "upscale_delay_s must"),
            ("{", "cannot be read"),
        ] {
            let spec = DeploymentSpec {
                name: "d".into(),
                version: "v".into(),
                callable_blob: "0".repeat(64),
                options: eagleray_types::control::DeploymentOptions::standard(),
                autoscaling_config: text.into(),
                ..Default::default()
            };
            let problems = deployment_problems(&spec).join("; ");
            assert!(problems.contains(problem), "{text}: {problems}");
            assert_eq!(
                problems.is_empty(),
                problem.is_empty(),
                "{text}: {problems}"
            );
        }
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let error = validate(&ApplicationSpec {
            route_prefix: "x".into(),
            ..Default::default()
        })
        .unwrap_err();
        assert_eq!(error.kind, "invalid");
        for part in [
            "application name",
            "route_prefix 'x'",
            "revision",
            "ingress",
        ] {
            assert!(error.message.contains(part), "{part} in {}", error.message);
        }
    }
}
