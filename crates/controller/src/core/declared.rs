//! What people are shown of a declared application beside its plan.

use eagleray_types::control::{ApplicationStatus, DeployStatus, Failure, Receipt};

use super::{event::Source, plan::compare};
use crate::books::{
    declared::{BuildResult, Declared},
    desired::Plan,
    history::Record,
};

/// Puts into the status what only the declaration knows.
///
/// # Arguments
/// `status`: that of what runs, or an empty one where nothing was built yet. `plan`: what shall run. `printed`: what the
/// build that ended last has printed.
pub(super) fn show(
    status: &mut ApplicationStatus,
    declared: &Declared,
    plan: Option<&Plan>,
    printed: Vec<String>,
) {
    status.name.clone_from(&declared.application);
    Source::Declarative.word().clone_into(&mut status.source);
    status.config = masked(&declared.config);
    if status.last_deployed_time_s == 0.0 {
        status.last_deployed_time_s = declared.began_at_s;
    }
    let deploy = status.deploy.get_or_insert_with(DeployStatus::default);
    deploy.deploy = declared.deploy;
    deploy.printed = printed;
    let unbuilt = |state: &str| DeployStatus {
        deploy: declared.deploy,
        state: state.to_owned(),
        from: plan.map_or(0, |plan| plan.history.serving().map_or(0, Record::number)),
        began_at_s: declared.began_at_s,
        failure: declared.failure.clone(),
        printed: deploy.printed.clone(),
        ..DeployStatus::default()
    };
    match (&declared.built, &declared.failure) {
        (_, Some(failure)) => {
            *deploy = unbuilt("failed");
            "DEPLOY_FAILED".clone_into(&mut status.status);
            status.message = told(failure);
        }
        (None, None) => {
            *deploy = unbuilt("building");
            "DEPLOYING".clone_into(&mut status.status);
            "the code is being imported".clone_into(&mut status.message);
        }
        (Some(result), None) => {
            if let Some(plan) = plan.filter(|_| result.unchanged) {
                deploy.began_at_s = declared.began_at_s;
                deploy.receipt = Some(untouched(declared, *result, plan));
            }
        }
    }
}

/// In words.
pub(super) fn told(failure: &Failure) -> String {
    let parts = [&failure.message, &failure.place, &failure.help];
    let said: Vec<&str> = parts.into_iter().map(|part| part.trim_end()).collect();
    said.into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The receipt of a deploy that changed nothing.
fn untouched(declared: &Declared, result: BuildResult, plan: &Plan) -> Receipt {
    let spec = &plan.target.spec;
    Receipt {
        began_at_s: declared.began_at_s,
        ended_at_s: result.ended_at_s,
        deployments: compare(Some(spec), Some(spec)).deployments,
        build_skipped: result.skipped,
        build_milliseconds: result.milliseconds,
        ..Receipt::default()
    }
}

/// A config for people: values of environment variables are nobody's.
fn masked(config: &str) -> String {
    let masked = serde_json::from_str(config).map(|config| eagleray_config::masked(&config));
    masked.map_or_else(|_| String::new(), |config| config.to_string())
}
