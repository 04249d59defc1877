//! Who goes first when deployments go: callers before what they call.
//!
//! A request that an ingress has accepted may still call other deployments, so these stay, routable, until every replica
//! that may call them has drained. A replica may call what its arguments name, and an ingress whatever its application
//! has, since it may get handles by name. Each caller has the time of its `graceful_shutdown_timeout_s`, then it is
//! killed, so nothing waits for ever; deployments that only wait for each other go together.

use std::collections::BTreeSet;

use super::{lifecycle, outbox::Outbox};
use crate::books::{
    application::Application, deployment::Deployment, replica::Replica, replica_state::ReplicaState,
};

/// Of a deployment that goes later: nothing of it starts any more.
pub(super) fn stop_starting(deployment: &mut Deployment, out: &mut Outbox) {
    for replica in deployment.replicas.values_mut() {
        if replica.state == ReplicaState::Starting {
            lifecycle::stop(replica, out);
        }
    }
}

/// Deployments without a target that must wait for their callers.
pub(super) fn waiting(application: &Application) -> BTreeSet<String> {
    let stays = |replica: &Replica| replica.state.live() && replica.state != ReplicaState::Starting;
    let leaving: Vec<&Deployment> = application
        .deployments
        .values()
        .filter(|one| one.target.is_none() && one.replicas.values().any(stays))
        .collect();
    let waiting: BTreeSet<String> = leaving
        .iter()
        .map(|one| one.key.deployment.as_str())
        .filter(|name| is_called(application, name))
        .map(str::to_owned)
        .collect();
    let someone_goes = waiting.len() < leaving.len() || drains(application);
    if someone_goes {
        waiting
    } else {
        BTreeSet::new()
    }
}

fn is_called(application: &Application, name: &str) -> bool {
    application
        .deployments
        .iter()
        .filter(|(caller, _)| *caller != name)
        .flat_map(|(_, deployment)| deployment.replicas.values())
        .any(|replica| is_busy(replica) && may_call(replica, name))
}

fn drains(application: &Application) -> bool {
    let mut replicas = application
        .deployments
        .values()
        .flat_map(|deployment| deployment.replicas.values());
    replicas.any(|replica| replica.state == ReplicaState::Stopping && is_busy(replica))
}

/// It may have requests.
fn is_busy(replica: &Replica) -> bool {
    replica.ready_at.is_some() && !replica.drained
}

fn may_call(replica: &Replica, name: &str) -> bool {
    let (application, own) = (replica.spec.application(), replica.spec.deployment());
    let has_it = application.deployments.iter().any(|one| one.name == name);
    has_it && (application.ingress == own.name || own.calls.iter().any(|one| one == name))
}
