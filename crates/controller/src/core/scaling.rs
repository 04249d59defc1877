//! Another number of replicas, because somebody says so.
//!
//! It is durable, and it stays until a deploy states another `num_replicas` than the one before it: who only deploys new
//! code does not mean to undo it. A rollback keeps it too. Where the number is left to autoscaling it would not last, so
//! it is refused.

use eagleray_types::{
    DeploymentKey,
    control::{ApiError, Scale},
};

use super::validate::api_error;
use crate::books::{Books, desired::Change};

/// As of `num_replicas`.
const MOST_REPLICAS: u32 = 10_000;

/// Checks it against what there is.
pub(super) fn change(books: &Books, scale: &Scale) -> Result<Change, ApiError> {
    let Scale {
        application,
        deployment,
        replicas,
    } = scale;
    let Some(plan) = books.plan(application) else {
        let message = format!("there is no application '{application}'");
        return Err(api_error("not_found", message));
    };
    let Some(spec) = plan.aim().find_spec(deployment) else {
        let names = plan.aim().spec.deployments.iter();
        let names: Vec<&str> = names.map(|one| one.name.as_str()).collect();
        let message = format!(
            "application '{application}' has no deployment '{deployment}'; it has {}",
            names.join(", ")
        );
        return Err(api_error("not_found", message));
    };
    if !spec.autoscaling_config.is_empty() {
        let message = format!(
            "{application}/{deployment} has an autoscaling_config, so a number would not last; change \
             autoscaling_config.min_replicas and deploy, or state num_replicas={replicas}, which switches autoscaling \
             off"
        );
        return Err(api_error("conflict", message));
    }
    if *replicas > MOST_REPLICAS {
        let message = format!(
            "{replicas} replicas are more than the {MOST_REPLICAS} that one deployment may have"
        );
        return Err(api_error("invalid", message));
    }
    Ok(Change::Scale {
        deployment: DeploymentKey::new(application.as_str(), deployment.as_str()),
        replicas: *replicas,
    })
}
