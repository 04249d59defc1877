//! A policy host's process: how it is started and ended, and what it is told of the deployments that it decides about.

use std::time::Duration;

use eagleray_types::{
    DeploymentKey, build_log_name,
    control::{Spawn, Stop, node_command},
};
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::{autoscale, label::Label, outbox::Outbox};
use crate::books::{Books, deployment::Deployment, loads::Loads, revision::Revision};

/// Has the node start one.
pub(super) fn start(application: &str, revision: &Revision, id: &str, out: &mut Outbox) {
    let spec = &revision.spec;
    let policy = |text: &str| -> Value { serde_json::from_str(text).unwrap_or_default() };
    let of_deployments = spec.deployments.iter().filter_map(|one| {
        let keys: Map<String, Value> = serde_json::from_str(&one.autoscaling_config).ok()?;
        let mut policy = keys.get("policy")?.clone();
        policy["path"] = out.blob_path(&one.policy_blob).into();
        Some((one.name.clone(), policy))
    });
    let asked = json!({
        "policy_host": id,
        "application": application,
        "code_path": out.blob_path(&spec.code_blob),
        "sys_path": spec.sys_path,
        "controller": out.options.run_directory.join("controller.sock"),
        "for_all": policy(&spec.autoscaling_policy),
        "by_deployment": of_deployments.collect::<Map<_, _>>(),
    });
    let deployment = DeploymentKey::new(application, "");
    let label = Label {
        policy_host: true,
        deployment: deployment.clone(),
        ..Label::default()
    };
    let spawn = Spawn {
        replica_id: id.to_owned(),
        epoch: out.options.epoch,
        label: label.encode_to_vec(),
        deployment,
        python: match spec.python.as_str() {
            "" => out.options.python.clone(),
            python => python.to_owned(),
        },
        working_directory: spec.working_directory.clone(),
        environment: spec.environment.clone(),
        bootstrap: spec.bootstrap.clone(),
        build: asked.to_string(),
        policies: true,
        ..Spawn::default()
    };
    let node = out.options.node.clone();
    out.node(&node, node_command::Body::Spawn(spawn));
}

pub(super) fn stop(id: &str, epoch: u64, out: &mut Outbox) {
    let stop = Stop {
        replica_id: id.to_owned(),
        epoch,
        grace_milliseconds: 0,
    };
    let node = out.options.node.clone();
    out.node(&node, node_command::Body::Stop(stop));
}

pub(super) fn log_path(application: &str, id: &str, out: &Outbox) -> String {
    let name = build_log_name(application, id);
    out.options.log_directory.join(name).display().to_string()
}

/// What is known of each deployment of an application that scales, as JSON.
pub(super) fn contexts(books: &Books, application: &str, now: Duration, out: &Outbox) -> String {
    let found = books.applications.get(application);
    let deployments = found.into_iter().flat_map(|one| one.deployments.values());
    let all = deployments.filter_map(|one| context(one, &books.loads, now, out));
    Value::Array(all.collect()).to_string()
}

fn context(deployment: &Deployment, loads: &Loads, now: Duration, out: &Outbox) -> Option<Value> {
    let autoscaling = deployment.autoscaling.as_ref()?;
    autoscaling.policy.as_ref()?;
    let measured = autoscale::measured(deployment, loads, now);
    let bounds = autoscaling.bounds();
    let (total, queued) = autoscaling.aggregated();
    let last = |up: bool| {
        let mut decided = autoscaling.decided.iter();
        decided
            .find(|one| (one.to > one.from) == up)
            .map(|one| one.at_s)
    };
    Some(json!({
        "deployment": deployment.key.deployment,
        "config": autoscaling.text(),
        "current": measured.ready,
        "target": measured.wanted,
        "running": deployment.routable().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        "total": total,
        "queued": queued,
        "min": bounds.low,
        "max": bounds.high,
        "scaled_up_at": last(true),
        "scaled_down_at": last(false),
        "now": out.wall_time_s(now),
    }))
}
