//! The status of applications, as people read it.

mod deploy;
mod replica;

use std::{collections::BTreeMap, time::Duration};

use eagleray_types::control::{
    ApplicationSpec, ApplicationStatus, CompiledRoutes, DeploymentCalls, DeploymentOptions,
    DeploymentStatus,
};

use super::{
    autoscale, configure,
    hung::hung_text,
    loads,
    outbox::Outbox,
    why::{HELD_BACK, Moment, PENDING, of_application, of_deployment},
};
use crate::books::{
    Books, application::Application, deployment::Deployment, desired::Plan, history::Record,
    replica_state::ReplicaState, status::Status,
};

/// Stands for what nobody shall read over somebody's shoulder.
const MASK: &str = "****";
/// From here on the status of a starting deployment says that it is slow.
const SLOW_START: Duration = Duration::from_secs(30);

pub(super) fn render(
    application: &Application,
    books: &Books,
    now: Duration,
    out: &Outbox,
) -> ApplicationStatus {
    let plan = books.plan(&application.name);
    let moment = Moment {
        now,
        out,
        resources: &books.resources,
    };
    let deployments: Vec<_> = application
        .deployments
        .values()
        .map(|one| DeploymentStatus {
            load: loads::shown(one, &books.loads, now),
            autoscaling: autoscale::shown(one, &books.loads, now),
            ..render_deployment(one, plan, moment)
        })
        .collect();
    let status = application.word(plan);
    let message = match status {
        "DEPLOY_FAILED" | "UNHEALTHY" => what_fails(application, plan, &deployments),
        _ => String::new(),
    };
    let spec = plan.map(|plan| &plan.aim().spec);
    let last = plan.and_then(|plan| plan.history.last());
    ApplicationStatus {
        name: application.name.clone(),
        status: status.to_owned(),
        message,
        last_deployed_time_s: plan.map_or(0.0, Plan::deployed_at_s),
        route_prefix: spec
            .map(|spec| spec.route_prefix.clone())
            .unwrap_or_default(),
        revision: plan
            .map(|plan| plan.target.spec.revision.clone())
            .unwrap_or_default(),
        deployments,
        ingress: spec.map(|spec| spec.ingress.clone()).unwrap_or_default(),
        docs_path: spec
            .and_then(|spec| docs_path(application, spec))
            .unwrap_or_default(),
        compiled_routes: spec.and_then(|spec| compiled_routes(application, spec)),
        calls: spec.map(calls).unwrap_or_default(),
        why: of_application(application, plan, moment),
        source: last.map(deploy::source).unwrap_or_default(),
        config: last
            .map(|last| last.entry.record.config.clone())
            .unwrap_or_default(),
        external_scaler_enabled: spec.is_some_and(|spec| spec.external_scaler_enabled),
        revision_number: last.map_or(0, Record::number),
        deploy: plan.zip(last).map(|(plan, last)| {
            let counts = books.tallies.counts(&application.name, last.number());
            deploy::deploy(&plan.history, last, counts)
        }),
    }
}

/// What its deployments say, and what serves where the newest revision was taken back.
fn what_fails(
    application: &Application,
    plan: Option<&Plan>,
    deployments: &[DeploymentStatus],
) -> String {
    let failing = deployments
        .iter()
        .filter(|one| matches!(one.status.as_str(), "DEPLOY_FAILED" | "UNHEALTHY"));
    let say = |one: &DeploymentStatus| {
        let (name, status, message) = (&one.name, &one.status, &one.message);
        format!("deployment '{name}' is {status}: {message}")
    };
    let mut lines: Vec<String> = failing.map(say).collect();
    let Some(plan) = plan.filter(|plan| plan.rolled_back_to.is_some()) else {
        return lines.join("\n");
    };
    // A controller that began since knows of the failure what the record says.
    if let Some(last) = plan.history.last().filter(|_| lines.is_empty()) {
        let failure = last.outcome.failure.as_ref();
        let why = failure.map_or("", |failure| &failure.message);
        lines.push(format!("r{} did not come up: {why}", last.number()));
    }
    let runs = application.deployments.values().filter_map(|one| {
        let target = one.target.as_ref()?;
        Some((one.running(target), one.wanted_of(target) as usize))
    });
    let (running, wanted) = runs.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let number = plan.aimed_at().map_or(0, Record::number);
    lines.push(format!(
        "r{number} serves: {running} of {wanted} replicas run."
    ));
    lines.join("\n")
}

/// Where `FastAPI`'s documentation is, below the host, as the newest replica of the ingress says.
fn docs_path(application: &Application, spec: &ApplicationSpec) -> Option<String> {
    let ingress = application.deployments.get(&spec.ingress)?;
    let newest = ingress.routable().max_by_key(|replica| replica.order)?;
    let is_routed = !spec.route_prefix.is_empty() && !newest.docs_path.is_empty();
    let prefix = spec.route_prefix.trim_end_matches('/');
    is_routed.then(|| format!("{prefix}{}", newest.docs_path))
}

/// Which routes of a `FastAPI` ingress are compiled, as its newest replica says.
fn compiled_routes(application: &Application, spec: &ApplicationSpec) -> Option<CompiledRoutes> {
    let ingress = application.deployments.get(&spec.ingress)?;
    let newest = ingress.routable().max_by_key(|replica| replica.order)?;
    newest.compiled_routes.clone()
}

fn calls(spec: &ApplicationSpec) -> Vec<DeploymentCalls> {
    let callers = spec.deployments.iter().filter(|one| !one.calls.is_empty());
    callers
        .map(|one| DeploymentCalls {
            deployment: one.name.clone(),
            calls: one.calls.clone(),
        })
        .collect()
}

/// The options of what shall run, or of what runs for want of that. What a variable is set to may be a secret.
fn options(deployment: &Deployment) -> Option<DeploymentOptions> {
    let spec = deployment.target.as_ref().or(deployment.serving.as_ref())?;
    let mut options = spec.options().clone();
    for value in options.environment.values_mut() {
        MASK.clone_into(value);
    }
    Some(options)
}

fn render_deployment(
    deployment: &Deployment,
    plan: Option<&Plan>,
    moment: Moment<'_>,
) -> DeploymentStatus {
    let now = moment.now;
    let numbers = plan.map_or_else(BTreeMap::new, |plan| {
        plan.history.numbers(&deployment.key.deployment)
    });
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
    let why = of_deployment(deployment, moment);
    if let Some(held) = why
        .iter()
        .find(|one| one.code == PENDING || one.code == HELD_BACK)
        .filter(|_| message.is_empty())
    {
        message.clone_from(&held.sentence);
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
            .map(|one| replica::live(one, &numbers, now))
            .collect(),
        dead_replicas: deployment
            .dead
            .iter()
            .map(|one| replica::dead(one, &numbers))
            .collect(),
        options: options(deployment),
        target_replicas: deployment
            .target
            .as_ref()
            .map_or(0, |_| deployment.wanted.target),
        why,
        load: None,
        autoscaling: None,
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
    let target = deployment.target.as_ref();
    let limit = match target.map_or(0.0, |one| one.options().start_timeout_s) {
        limit if limit > 0.0 => format!("Each may take {limit} s (start_timeout_s)"),
        _ => "Constructors have no time limit".to_owned(),
    };
    (slow > 0).then(|| {
        format!(
            "{slow} replica(s) have been starting for more than {} s. {limit}; if this one should be quick, look at the \
             replica's log for what it waits for.",
            SLOW_START.as_secs()
        )
    })
}
