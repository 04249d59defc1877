//! Room for new replicas where there is none beside old ones: old ones end first.
//!
//! New comes before old wherever both fit ([`super::rollout`]). Where what a new replica asks for is held by those that it
//! is to replace (there is one GPU), as few of them are stopped as make room, and the new one starts when the node has
//! reported them dead, as many at a time as any update replaces. From then on the update keeps no more old ones than that.
//! Nobody else gets what became free ([`Resources`]). If the new version does not come up at the first try, it is given
//! up, and the old one returns: while it is tried, there are fewer replicas than wanted.

use std::cmp::Reverse;

use eagleray_types::control::{ApplicationSpec, DeploymentSpec};

use super::{
    lifecycle,
    outbox::{About, EventLevel, Outbox},
    pending, rollout,
};
use crate::books::{
    Books,
    application::Application,
    deployment::Deployment,
    events::EventKind,
    replica::Replica,
    replica_state::ReplicaState,
    resources::{Demand, Resources, Waiting},
};

/// Stops what holds what a replica of the target waits for, if it is to be replaced by it. Returns how it waits then.
pub(super) fn make(
    deployment: &mut Deployment,
    mut waiting: Waiting,
    resources: &Resources,
    out: &mut Outbox,
) -> Waiting {
    let Some(going) = going(deployment, &waiting, resources) else {
        return waiting;
    };
    let replaced = |id: &String| {
        let replica = deployment.replicas.get(id);
        replica.is_some_and(|one| one.state == ReplicaState::PendingMigration)
    };
    let old = going.iter().filter(|id| !replaced(id)).count();
    if old > 0 {
        let kept = old_ones(deployment).count() - old;
        deployment.old_limit = Some(deployment.old_limit.map_or(kept, |limit| limit.min(kept)));
    }
    for id in &going {
        let about = About::replica(&deployment.key, id);
        let said = "ends before its successor starts, since both do not fit";
        out.event(EventKind::Replica, EventLevel::Info, about, said);
        if let Some(replica) = deployment.replica_mut(id) {
            lifecycle::stop(replica, out);
        }
    }
    waiting.makes_room = true;
    waiting
}

/// The replicas that must end, as few as are enough: none where enough of them end already. `None`: it does not help.
fn going(deployment: &Deployment, waiting: &Waiting, resources: &Resources) -> Option<Vec<String>> {
    let target = deployment.aim()?;
    let most = rollout::surge(target.options(), deployment.wanted_of(target));
    let ends = |one: &&Replica| one.state == ReplicaState::Stopping;
    let ends = deployment.replicas.values().filter(ends);
    let mut ended: Vec<&str> = ends.map(|one| one.id.as_str()).collect();
    if resources.fits_without(&waiting.demand, ended.iter().copied()) {
        return Some(Vec::new()).filter(|_| !ended.is_empty());
    }
    let starting = |one: &&Replica| {
        let is_new = one.state == ReplicaState::Starting || one.trial.is_on();
        is_new && deployment.is_target(one.spec.version())
    };
    let on_the_way = ended.len() + deployment.replicas.values().filter(starting).count();
    if on_the_way >= most {
        return None;
    }
    let mut candidates: Vec<&Replica> = deployment
        .replicas
        .values()
        .filter(|one| one.state == ReplicaState::PendingMigration)
        .chain(old_ones(deployment))
        .collect();
    let serves = |one: &Replica| one.state != ReplicaState::Starting;
    let replaced = |one: &Replica| one.state == ReplicaState::PendingMigration;
    candidates.sort_by_key(|one| (!replaced(one), serves(one), Reverse(one.order)));
    let mut going = Vec::new();
    for candidate in candidates {
        if !candidate.share.amounts.contains_key(&waiting.lack.name) {
            continue;
        }
        ended.push(&candidate.id);
        going.push(candidate.id.clone());
        if resources.fits_without(&waiting.demand, ended.iter().copied()) {
            return Some(going);
        }
    }
    None
}

/// Replicas of other versions than the target's, which an update replaces.
fn old_ones(deployment: &Deployment) -> impl Iterator<Item = &Replica> {
    let is_old = |one: &&Replica| {
        let lives = one.state.live() && one.state != ReplicaState::PendingMigration;
        lives && !deployment.is_target(one.spec.version())
    };
    deployment.replicas.values().filter(is_old)
}

/// What is to be known of an application before it is deployed: what would wait, and what would end first.
pub(super) fn foresee(books: &Books, spec: &ApplicationSpec) -> Vec<String> {
    let application = books.applications.get(&spec.name);
    let of_deployment = |one: &DeploymentSpec| {
        let before = application.and_then(|known| known.deployments.get(&one.name));
        if before.is_some_and(|known| known.is_target(&one.version)) {
            return None;
        }
        let (demand, resources) = (Demand::of(&one.options.resources), &books.resources);
        let name = &one.name;
        if let Some(lack) = resources.lack_of_all(&demand) {
            let (asked, total) = pending::asked_and_total(&lack);
            return Some(format!(
                "{name} asks for {} {asked} a replica, and the node has {total}: it would stay pending",
                lack.name
            ));
        }
        if resources.fits_without(&demand, []) {
            return None;
        }
        let own = before.map(|known| known.replicas.keys().map(String::as_str));
        if resources.fits_without(&demand, own.into_iter().flatten()) {
            return Some(format!(
                "{name}: a new replica does not fit beside the old ones, so old ones end before it starts; fewer serve \
                 meanwhile"
            ));
        }
        Some(format!(
            "{name} waits until others give back what it asks for: eagleray status --resources"
        ))
    };
    spec.deployments.iter().filter_map(of_deployment).collect()
}

/// What the newest revision does not have holds what the newest revision waits for: it does not wait until that is there.
pub(super) fn is_held_by_leaving(application: &Application, resources: &Resources) -> bool {
    let leaving = application
        .deployments
        .values()
        .filter(|one| one.target.is_none())
        .flat_map(|one| one.replicas.keys());
    let leaving: Vec<&str> = leaving.map(String::as_str).collect();
    !leaving.is_empty()
        && application.deployments.values().any(|one| {
            let waiting = resources.waiting(&one.key);
            let fits = |one: &Waiting| resources.fits_without(&one.demand, leaving.iter().copied());
            waiting.is_some_and(fits)
        })
}
