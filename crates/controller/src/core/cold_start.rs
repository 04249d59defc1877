//! From zero replicas to the first: what requests that wait for it are told when it does not come.

use std::time::Duration;

use crate::books::{
    cold_start::{ColdStart, LIMIT},
    deployment::Deployment,
};

/// Follows how many replicas are wanted and are there.
pub(super) fn look(deployment: &mut Deployment, now: Duration) {
    let Some(spec) = deployment.answering().filter(|spec| spec.scales()).cloned() else {
        deployment.cold_start = ColdStart::Not;
        return;
    };
    let wanted = deployment.wanted_of(&spec);
    let answers = deployment.routable().next().is_some();
    if deployment.cold_start.look(wanted, answers, now) {
        deployment.attempts_of(spec.version()).reset();
    }
}

/// Why requests need not wait for the first replica; `None`: it may come.
pub(super) fn given_up(deployment: &Deployment) -> Option<String> {
    if !deployment.cold_start.is_under_way() {
        return None;
    }
    let spec = deployment.answering()?;
    let failures = deployment
        .attempts
        .get(spec.version())
        .map_or(0, |one| one.failures);
    if failures >= deployment.round_of(spec).limit() {
        return Some(format!(
            "deployment {} has no replica, and the first one keeps failing to start; its status says why",
            deployment.key
        ));
    }
    (deployment.cold_start == ColdStart::Overdue).then(|| {
        format!(
            "deployment {} has no replica, and the first has not come within {} s; its status says what it waits for",
            deployment.key,
            LIMIT.as_secs()
        )
    })
}
