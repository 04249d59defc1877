//! What applications look like in numbers, for whoever shows them as such: less than [`render`](super::render) says, and so cheap
//! that it can be asked for after every change.

use std::collections::BTreeMap;

use super::Core;
use crate::books::deployment::Deployment;

/// One application.
#[derive(Debug)]
pub struct ApplicationSummary<'a> {
    pub name: &'a str,
    pub status: &'static str,
    pub deployments: Vec<DeploymentSummary<'a>>,
}

/// One deployment of it.
#[derive(Debug)]
pub struct DeploymentSummary<'a> {
    pub name: &'a str,
    pub status: &'static str,
    pub wanted: u32,
    /// How many there are of each.
    pub states: BTreeMap<&'static str, u32>,
    /// `None`: its number is stated.
    pub autoscaling: Option<AutoscalingSummary>,
}

/// What the last look of autoscaling found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoscalingSummary {
    pub target_ongoing_requests: f64,
    /// Before bounds and delays.
    pub desired: u32,
    pub requests: u64,
}

impl Core {
    /// All applications, in the order of their names.
    pub fn summary(&self) -> Vec<ApplicationSummary<'_>> {
        let applications = self.books.applications.values();
        applications
            .map(|one| ApplicationSummary {
                name: &one.name,
                status: one.word(self.books.plan(&one.name)),
                deployments: one.deployments.values().map(summary).collect(),
            })
            .collect()
    }
}

fn summary(deployment: &Deployment) -> DeploymentSummary<'_> {
    let mut states = BTreeMap::new();
    for replica in deployment.replicas.values() {
        *states.entry(replica.state.word()).or_default() += 1;
    }
    let wanted = deployment.target.as_ref();
    DeploymentSummary {
        name: &deployment.key.deployment,
        status: deployment.status.status.word(),
        wanted: wanted.map_or(0, |_| deployment.wanted.target),
        states,
        autoscaling: deployment.autoscaling.as_ref().map(|one| {
            let last = one.last.as_ref();
            let requests = last.map_or(0, |(measured, _)| measured.queued + measured.running);
            AutoscalingSummary {
                target_ongoing_requests: one.config.target_ongoing_requests,
                desired: last.map_or(deployment.wanted.target, |(_, decision)| decision.asked),
                requests,
            }
        }),
    }
}
