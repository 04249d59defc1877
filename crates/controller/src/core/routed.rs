//! What routers shall know: from the core's books to [`ApplicationTargets`].

use std::collections::{BTreeMap, BTreeSet};

use eagleray_types::{
    DeploymentKey,
    control::{DeploymentTarget, Route, VersionTarget},
};

use super::cold_start;
use crate::{
    books::{
        Books,
        application::Application,
        deployment::Deployment,
        desired::{Change, Plan},
        replica::Replica,
        revision::VersionSpec,
    },
    targets::ApplicationTargets,
};

/// What routers shall know of an application. While it is deleted, that is what its replicas may still call.
pub(super) fn application_targets(
    application: &Application,
    plan: Option<&Plan>,
) -> ApplicationTargets {
    let deployments = application.deployments.values();
    ApplicationTargets {
        route: plan.and_then(|plan| plan.route.clone()),
        mark: application.mark(plan),
        deployments: deployments
            .filter_map(|one| Some((one.key.clone(), deployment_target(one)?)))
            .collect(),
    }
}

/// Of these applications, those whose route changes now, and those that wait for a prefix that another still has. Whatever
/// can move does so at once: so two change places, and at no time do two have one prefix.
pub(super) fn moves(books: &Books, names: &BTreeSet<String>) -> (Vec<Change>, BTreeSet<String>) {
    let reached = names.iter().filter_map(|name| {
        let (application, plan) = (books.applications.get(name)?, books.plan(name)?);
        let route = wanted_route(plan);
        let moves = route != plan.route && is_route_reached(application, plan);
        moves.then_some((name, route))
    });
    let mut moving: BTreeMap<&String, Option<Route>> = reached.collect();
    let mut held = BTreeSet::new();
    while let Some(name) = first_in_the_way(books, &moving) {
        moving.remove(&name);
        held.insert(name);
    }
    let change = |(name, route): (&String, Option<Route>)| Change::Route {
        application: name.clone(),
        route,
    };
    (moving.into_iter().map(change).collect(), held)
}

/// The first that would come to where another is, or comes.
fn first_in_the_way(books: &Books, moving: &BTreeMap<&String, Option<Route>>) -> Option<String> {
    let comes = |route: &Option<Route>| route.as_ref().map(|route| route.prefix.clone());
    let mut taken: BTreeSet<String> = moving.values().filter_map(comes).collect();
    if taken.is_empty() {
        return None;
    }
    let stays = books
        .desired
        .plans()
        .filter(|(name, _)| !moving.contains_key(name));
    let stays: BTreeSet<String> = stays.filter_map(|(_, plan)| comes(&plan.route)).collect();
    let mut movers = moving
        .iter()
        .filter_map(|(name, route)| Some((name, comes(route)?)));
    movers
        .find(|(_, prefix)| stays.contains(prefix) || !taken.remove(prefix))
        .map(|(name, _)| (*name).clone())
}

/// Where an application shall be reachable.
fn wanted_route(plan: &Plan) -> Option<Route> {
    let spec = &plan.aim().spec;
    let route = Route {
        prefix: spec.route_prefix.clone(),
        ingress: DeploymentKey::new(spec.name.as_str(), spec.ingress.as_str()),
    };
    Some(route).filter(|route| !route.prefix.is_empty())
}

/// An application becomes reachable where the target says once the target's ingress can answer, or at once where nothing
/// answers yet.
fn is_route_reached(application: &Application, plan: &Plan) -> bool {
    let Some(ingress) = application.deployments.get(&plan.aim().spec.ingress) else {
        return false;
    };
    let version = ingress.target.as_ref().map(VersionSpec::version);
    let answers = ingress
        .routable()
        .any(|replica| Some(replica.spec.version()) == version);
    let before = plan.route.as_ref().map(|route| &route.ingress.deployment);
    let nothing_answers = before
        .and_then(|before| application.deployments.get(before))
        .is_none_or(|old| old.serving.is_none() && old.routable().next().is_none());
    answers || nothing_answers
}

fn deployment_target(deployment: &Deployment) -> Option<DeploymentTarget> {
    let last = || {
        let newest = deployment.routable().max_by_key(|replica| replica.order);
        newest.map(|replica| &replica.spec)
    };
    let answering = deployment.answering().or_else(last)?;
    let options = answering.options();
    let mut versions: BTreeMap<&str, Vec<&Replica>> = BTreeMap::new();
    for replica in deployment.routable() {
        versions
            .entry(replica.spec.version())
            .or_default()
            .push(replica);
    }
    let gave_up = deployment
        .target_attempts()
        .is_some_and(|attempts| attempts.gave_up);
    let failed = || {
        format!(
            "deployment {} failed to start; its status says why",
            deployment.key
        )
    };
    let unavailable = if versions.is_empty() {
        let cold = cold_start::given_up(deployment);
        cold.or_else(|| gave_up.then(failed)).unwrap_or_default()
    } else {
        String::new()
    };
    Some(DeploymentTarget {
        key: deployment.key.clone(),
        max_queued_requests: options.max_queued_requests,
        backpressure_status: if options.backpressure_status == 0 {
            503
        } else {
            options.backpressure_status
        },
        retry_after_seconds: options.backpressure_retry_after_s.ceil() as u32,
        versions: versions
            .into_values()
            .filter_map(|replicas| version_target(&replicas))
            .collect(),
        unavailable,
        access_log: options.access_log,
        scales: answering.scales(),
    })
}

fn version_target(replicas: &[&Replica]) -> Option<VersionTarget> {
    let newest = replicas.iter().max_by_key(|replica| replica.order)?;
    let options = newest.spec.options();
    Some(VersionTarget {
        version: newest.spec.version().to_owned(),
        revision: newest.spec.application().revision.clone(),
        weight: replicas.len() as u32,
        max_ongoing_requests: options.max_ongoing_requests,
        sync_bodies: replicas.iter().any(|replica| replica.sync_bodies),
        max_body_bytes: options.max_body_bytes,
        replicas: replicas.iter().map(|replica| replica.target()).collect(),
    })
}
