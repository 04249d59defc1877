//! The status of applications, as people read it.

use std::{collections::BTreeMap, time::Duration};

use eagleray_types::control::{ApplicationStatus, DeploymentStatus, ReplicaStatus};

use super::{configure, hung::hung_text};
use crate::books::{
    application::Application, deployment::Deployment, desired::Plan, replica_state::ReplicaState,
    status::Status,
};

/// From here on the status of a starting deployment says that it is slow.
const SLOW_START: Duration = Duration::from_secs(30);

pub(super) fn render(
    application: &Application,
    plan: Option<&Plan>,
    now: Duration,
) -> ApplicationStatus {
    let deployments: Vec<_> = application
        .deployments
        .values()
        .map(|one| render_deployment(one, now))
        .collect();
    let status = application.word(plan);
    let failing =
        |one: &&DeploymentStatus| matches!(one.status.as_str(), "DEPLOY_FAILED" | "UNHEALTHY");
    let message = match status {
        "DEPLOY_FAILED" | "UNHEALTHY" => deployments
            .iter()
            .filter(failing)
            .map(|one| {
                format!(
                    "deployment '{}' is {}: {}",
                    one.name, one.status, one.message
                )
            })
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    };
    let spec = plan.map(|plan| &plan.target.spec);
    ApplicationStatus {
        name: application.name.clone(),
        status: status.to_owned(),
        message,
        last_deployed_time_s: plan.map_or(0.0, |plan| plan.deployed_at_s),
        route_prefix: spec
            .map(|spec| spec.route_prefix.clone())
            .unwrap_or_default(),
        revision: spec.map(|spec| spec.revision.clone()).unwrap_or_default(),
        deployments,
        ingress: spec.map(|spec| spec.ingress.clone()).unwrap_or_default(),
        ..ApplicationStatus::default()
    }
}

fn render_deployment(deployment: &Deployment, now: Duration) -> DeploymentStatus {
    let mut replica_states = BTreeMap::new();
    for replica in deployment.replicas.values() {
        *replica_states
            .entry(replica.state.word().to_owned())
            .or_default() += 1;
    }
    let mut message = deployment.status.message.clone();
    if let Some(next) = next_step(deployment, now) {
        message.push_str(&next);
    }
    if let Some(slow) = slow_start(deployment, now).filter(|_| message.is_empty()) {
        message = slow;
    }
    if let Some(progress) = configure::progress(deployment, now).filter(|_| message.is_empty()) {
        message = progress;
    }
    for hung in deployment
        .replicas
        .values()
        .filter_map(|replica| hung_text(replica, now))
    {
        if !message.is_empty() {
            message.push('\n');
        }
        message.push_str(&hung);
    }
    DeploymentStatus {
        name: deployment.key.deployment.clone(),
        status: deployment.status.status.word().to_owned(),
        status_trigger: deployment.status.trigger.word().to_owned(),
        message,
        replica_states,
        abandoned_requests: deployment
            .replicas
            .values()
            .map(|replica| replica.condition.abandoned)
            .sum(),
        replicas: deployment
            .replicas
            .values()
            .map(|replica| ReplicaStatus {
                replica_id: replica.id.clone(),
                state: replica.state.word().to_owned(),
                pid: replica.pid,
                version: replica.spec.version().to_owned(),
                hung_milliseconds: replica.condition.hung_milliseconds(now),
                abandoned_requests: replica.condition.abandoned,
                ..ReplicaStatus::default()
            })
            .collect(),
        ..DeploymentStatus::default()
    }
}

/// What comes next of a version that fails: only the clock knows, so it is not part of the message that is kept.
fn next_step(deployment: &Deployment, now: Duration) -> Option<String> {
    if deployment.status.status == Status::Healthy {
        return None;
    }
    let version = deployment.target.as_ref()?.version();
    let attempts = deployment.attempts.get(version)?;
    if let Some((over, _)) = deployment.crash_loop_over_at(version) {
        let left = over.saturating_sub(now).as_secs_f64().ceil();
        return Some(format!(
            "\nA replica runs again; if it lives {left} s more, the crash loop is over."
        ));
    }
    let wait = attempts.next_start?.checked_sub(now)?;
    (wait >= Duration::from_secs(1))
        .then(|| format!("\nNext start in {} s.", wait.as_secs_f64().ceil()))
}

fn slow_start(deployment: &Deployment, now: Duration) -> Option<String> {
    let slow = deployment
        .replicas
        .values()
        .filter(|replica| {
            replica.state == ReplicaState::Starting && now >= replica.spawned_at + SLOW_START
        })
        .count();
    (slow > 0).then(|| {
        format!(
            "{slow} replica(s) have been starting for more than {} s. Constructors have no time limit; if this one \
             should be quick, look at the replica's log for what it waits for.",
            SLOW_START.as_secs()
        )
    })
}
