//! From what is there to what is wanted, one application at a time.
//!
//! Idempotent: with nothing new, it gives no commands. Decisions are [`super::rollout`]'s; this file carries them
//! into state and commands, and notices what has come true (a deployment at full size).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    cold_start, configure, departure, imports, lifecycle,
    outbox::Outbox,
    ranks,
    rollout::{self, Fleet, Member, Phase, Version, Want},
    room,
};
use crate::books::{
    Register,
    application::Application,
    deployment::Deployment,
    desired::{Change, Desired},
    loads::Loads,
    replica::Replica,
    replica_state::ReplicaState,
    resources::{Resources, Waiting},
    revision::VersionSpec,
    status::{Status, StatusInput},
};

/// What decisions about one application read and change beside it.
pub(super) struct Grounds<'a> {
    pub(super) desired: &'a mut Desired,
    pub(super) register: &'a mut Register,
    pub(super) resources: &'a mut Resources,
    pub(super) loads: &'a Loads,
}

/// Starts and stops what is due, notices what has come true, and forgets deployments that are gone.
pub(super) fn reconcile(
    application: &mut Application,
    grounds: &mut Grounds<'_>,
    now: Duration,
    out: &mut Outbox,
) {
    let planned = grounds.desired.plan(&application.name).is_some();
    if planned {
        for deployment in application.deployments.values_mut() {
            reconcile_deployment(deployment, grounds, now, out);
        }
    }
    let settled = |one: &Deployment| match (&one.target, &one.failed) {
        (None, _) => true,
        (Some(target), Some(_)) => is_reached(one, target),
        (Some(_), None) => one.status.status == Status::Healthy,
    };
    // Deployments that the new revision does not have go last: what called them is replaced by then.
    if !planned
        || application.deployments.values().all(settled)
        || room::is_held_by_leaving(application, grounds.resources)
    {
        dismiss(application, grounds, now, out);
    }
    imports::forget(application, out);
    application.deployments.retain(|_, one| {
        let stays = one.target.is_some() || one.serving.is_some() || one.failed.is_some();
        stays || !one.replicas.is_empty()
    });
}

/// What has come true is in force at once.
fn learn(desired: &mut Desired, change: &Change, out: &mut Outbox) {
    if desired.apply(change) {
        out.want_save();
    }
}

/// Deployments without a target go, but for those that are still called.
fn dismiss(
    application: &mut Application,
    grounds: &mut Grounds<'_>,
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
            let key = deployment.key.clone();
            learn(grounds.desired, &Change::Dismiss { deployment: key }, out);
            deployment.follow(grounds.desired.plan(&application.name));
            reconcile_deployment(deployment, grounds, now, out);
        } else if deployment.serving.is_none() {
            departure::stop_starting(deployment, out);
            grounds.resources.settle(&deployment.key, None);
        }
    }
}

fn reconcile_deployment(
    deployment: &mut Deployment,
    grounds: &mut Grounds<'_>,
    now: Duration,
    out: &mut Outbox,
) {
    cold_start::look(deployment, now);
    configure::reconfigure(deployment, now, out);
    configure::give_up_ranks(deployment, out);
    let plan = rollout::plan(&fleet(deployment, grounds.loads, now));
    for id in &plan.stop {
        if let Some(replica) = deployment.replica_mut(id) {
            lifecycle::stop(replica, out);
        }
    }
    let waiting = start(deployment, &plan, grounds, now, out);
    grounds.resources.settle(&deployment.key, waiting);
    if ranks::settle(deployment) {
        configure::reconfigure(deployment, now, out);
    }
    if let Some(target) = deployment
        .target
        .clone()
        .filter(|one| is_reached(deployment, one))
    {
        if deployment.failed.is_none() {
            deployment.status.on(StatusInput::TargetReached, "");
        }
        deployment.old_limit = None;
        serve(deployment, &target, grounds.desired, out);
    }
}

/// Starts what is due and fits. Returns what waits for room.
fn start(
    deployment: &mut Deployment,
    plan: &rollout::Plan,
    grounds: &mut Grounds<'_>,
    now: Duration,
    out: &mut Outbox,
) -> Option<Waiting> {
    let mut spawn = |deployment: &mut Deployment, spec: Option<VersionSpec>, count, out: &mut _| {
        let ground = (&mut *grounds.register, &mut *grounds.resources);
        lifecycle::spawn(deployment, &spec?, count, ground, now, out)
    };
    let target = deployment.aim().cloned();
    let fallback = deployment.serving.clone();
    let target = spawn(deployment, target, plan.start_target, out);
    let fallback = spawn(deployment, fallback, plan.start_fallback, out);
    let target = target.map(|one| room::make(deployment, one, grounds.resources, out));
    target.or(fallback)
}

/// The version is now the one to fall back on.
fn serve(
    deployment: &mut Deployment,
    target: &VersionSpec,
    desired: &mut Desired,
    out: &mut Outbox,
) {
    let serving = deployment.serving.as_ref();
    if serving.is_some_and(|serving| serving.same_revision(target)) {
        return;
    }
    let change = Change::Serve {
        deployment: deployment.key.clone(),
        revision: Arc::clone(target.revision()),
    };
    learn(desired, &change, out);
    deployment.follow(desired.plan(&deployment.key.application));
    deployment
        .attempts
        .retain(|version, _| version == target.version());
}

/// Full size with the wanted options, nobody on trial, and nothing else that lives.
fn is_reached(deployment: &Deployment, target: &VersionSpec) -> bool {
    let live = deployment
        .replicas
        .values()
        .filter(|replica| replica.state.live());
    let wanted = deployment.wanted_of(target) as usize;
    // Ready again is not well again: that is for the ten seconds to show.
    let loops = deployment
        .target_attempts()
        .is_some_and(|attempts| attempts.crash_loop.is_some());
    let mut replicas = deployment.replicas.values();
    live.count() == wanted
        && !replicas.any(|replica| replica.trial.is_on())
        && deployment.running(target) == wanted
        && !deployment.is_refused()
        && !loops
}

fn want(deployment: &Deployment, spec: &VersionSpec, now: Duration) -> Want {
    let attempts = deployment.attempts.get(spec.version());
    Want {
        count: deployment.wanted_of(spec) as usize,
        proven: attempts.is_some_and(|attempts| attempts.proven),
        starts_allowed: attempts.map_or(usize::MAX, |attempts| {
            attempts.starts_allowed(now, deployment.young(spec.version(), now))
        }),
        surge: rollout::surge(spec.options(), deployment.wanted_of(spec)),
    }
}

fn fleet<'a>(deployment: &'a Deployment, loads: &Loads, now: Duration) -> Fleet<'a> {
    let of_replicas = if deployment.scales() {
        loads.replicas_of(&deployment.key)
    } else {
        BTreeMap::new()
    };
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
            state if state.serving() && replica.trial.is_on() => Phase::Starting,
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
            load: of_replicas
                .get(replica.id.as_str())
                .copied()
                .unwrap_or_default(),
        })
    });
    Fleet {
        target: deployment.aim().map(|spec| want(deployment, spec, now)),
        old_limit: deployment.old_limit,
        fallback: deployment
            .fallback()
            .map(|spec| want(deployment, spec, now)),
        members: members.collect(),
    }
}
