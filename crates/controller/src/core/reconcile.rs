//! From what is there to what is wanted, one application at a time.
//!
//! Idempotent: with nothing new, it gives no commands. Decisions are [`super::rollout`]'s; this file carries them
//! into state and commands, and notices what has come true (a deployment at full size).

use std::time::Duration;

use super::{
    configure, departure, lifecycle,
    outbox::Outbox,
    ranks,
    rollout::{self, Fleet, Member, Phase, Version, Want},
    routed::settle_route,
};
use crate::books::{
    Register,
    application::Application,
    deployment::Deployment,
    replica::Replica,
    replica_state::ReplicaState,
    revision::VersionSpec,
    status::{Status, StatusInput},
};

/// Starts and stops what is due, and forgets deployments that are gone.
pub(super) fn reconcile(
    application: &mut Application,
    register: &mut Register,
    now: Duration,
    out: &mut Outbox,
) {
    if application.deleting() {
        dismiss(application, register, now, out);
    } else {
        reconcile_deployments(application, register, now, out);
    }
    application
        .deployments
        .retain(|_, one| one.target.is_some() || one.serving.is_some() || !one.replicas.is_empty());
    settle_route(application);
}

fn reconcile_deployments(
    application: &mut Application,
    register: &mut Register,
    now: Duration,
    out: &mut Outbox,
) {
    for deployment in application.deployments.values_mut() {
        reconcile_deployment(deployment, register, now, out);
    }
    let settled = |one: &Deployment| one.target.is_none() || one.status.status == Status::Healthy;
    if application.deployments.values().all(settled) {
        // Deployments that the new revision does not have go last: what called them is replaced by now.
        dismiss(application, register, now, out);
    }
}

/// Deployments without a target go, but for those that are still called.
fn dismiss(
    application: &mut Application,
    register: &mut Register,
    now: Duration,
    out: &mut Outbox,
) {
    let waiting = departure::waiting(application);
    for deployment in application
        .deployments
        .values_mut()
        .filter(|one| one.target.is_none())
    {
        if !waiting.contains(&deployment.key.deployment) {
            deployment.serving = None;
            reconcile_deployment(deployment, register, now, out);
        } else if deployment.serving.is_none() {
            departure::stop_starting(deployment, out);
        }
    }
}

fn reconcile_deployment(
    deployment: &mut Deployment,
    register: &mut Register,
    now: Duration,
    out: &mut Outbox,
) {
    configure::reconfigure(deployment, now, out);
    configure::give_up_ranks(deployment, out);
    let plan = rollout::plan(&fleet(deployment, now));
    for id in &plan.stop {
        if let Some(replica) = deployment.replicas.get_mut(id) {
            lifecycle::stop(replica, out);
        }
    }
    if let Some(target) = deployment.wanted().cloned() {
        (0..plan.start_target)
            .for_each(|_| lifecycle::spawn(deployment, &target, register, now, out));
    }
    if let Some(serving) = deployment.serving.clone() {
        (0..plan.start_fallback)
            .for_each(|_| lifecycle::spawn(deployment, &serving, register, now, out));
    }
    if ranks::settle(deployment) {
        configure::reconfigure(deployment, now, out);
    }
    notice_target_reached(deployment);
}

fn want(deployment: &Deployment, spec: &VersionSpec, now: Duration) -> Want {
    let attempts = deployment.attempts.get(spec.version());
    Want {
        count: spec.options().num_replicas as usize,
        proven: attempts.is_some_and(|attempts| attempts.proven),
        starts_allowed: attempts.map_or(usize::MAX, |attempts| {
            attempts.starts_allowed(now, deployment.young(spec.version(), now))
        }),
        surge: rollout::surge(spec.options()),
    }
}

fn fleet(deployment: &Deployment, now: Duration) -> Fleet<'_> {
    let member = |replica: &Replica| {
        let version = replica.spec.version();
        let version = if deployment.is_target(version) {
            Version::Target
        } else if deployment
            .fallback()
            .is_some_and(|spec| spec.version() == version)
        {
            Version::Fallback
        } else {
            Version::Other
        };
        let phase = match replica.state {
            ReplicaState::Starting => Phase::Starting,
            ReplicaState::Running | ReplicaState::Updating | ReplicaState::Recovering => {
                Phase::Serving
            }
            ReplicaState::PendingMigration => Phase::Replaced,
            ReplicaState::Stopping | ReplicaState::Stopped => return None,
        };
        Some((version, phase))
    };
    let members = deployment.replicas.values().filter_map(|replica| {
        let (version, phase) = member(replica)?;
        Some(Member {
            id: replica.id.as_str(),
            order: replica.order,
            version,
            phase,
        })
    });
    Fleet {
        target: deployment.wanted().map(|spec| want(deployment, spec, now)),
        fallback: deployment
            .fallback()
            .map(|spec| want(deployment, spec, now)),
        members: members.collect(),
    }
}

/// Full size with the wanted options, and nothing else that lives: the version is now the one to fall back on.
fn notice_target_reached(deployment: &mut Deployment) {
    let Some(target) = deployment.target.clone() else {
        return;
    };
    let live = deployment
        .replicas
        .values()
        .filter(|replica| replica.state.live())
        .count();
    let wanted = target.options().num_replicas as usize;
    if live != wanted || deployment.running(&target) != wanted || deployment.is_refused() {
        return;
    }
    // Ready again is not well again: that is for the ten seconds to show.
    if deployment
        .target_attempts()
        .is_some_and(|attempts| attempts.crash_loop.is_some())
    {
        return;
    }
    deployment.status.on(StatusInput::TargetReached, "");
    if !deployment
        .serving
        .as_ref()
        .is_some_and(|serving| serving.same_revision(&target))
    {
        deployment
            .attempts
            .retain(|version, _| version == target.version());
        deployment.serving = Some(target);
    }
}
