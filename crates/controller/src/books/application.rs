//! One application as it runs: its deployments. What it should be is its [`Plan`].

use std::collections::BTreeMap;

use eagleray_types::DeploymentKey;

use super::{deployment::Deployment, desired::Plan, history::Record, status::Status};
use crate::store::checkpoint::Outcome;

#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) name: String,
    pub(crate) deployments: BTreeMap<String, Deployment>,
    /// What has come of the newest deploy, until it is written into its record: when the proxies have been told that
    /// requests count for it no more.
    pub(crate) ending: Option<Outcome>,
}

impl Application {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            deployments: BTreeMap::new(),
            ending: None,
        }
    }

    /// All deployments have their targets from the plan, those that are new included.
    pub(crate) fn follow(&mut self, plan: Option<&Plan>) {
        for name in plan.into_iter().flat_map(Plan::deployments) {
            if !self.deployments.contains_key(name) {
                let key = DeploymentKey::new(self.name.as_str(), name);
                self.deployments
                    .insert(name.to_owned(), Deployment::new(key));
            }
        }
        for deployment in self.deployments.values_mut() {
            deployment.follow(plan);
        }
    }

    /// Under which number requests count that begin now, in [`super::tallies`]: that of the deploy that is under way. 0:
    /// they are not counted.
    pub(crate) fn mark(&self, plan: Option<&Plan>) -> u64 {
        let deploy = plan.and_then(|plan| plan.history.last());
        let under_way = deploy.filter(|one| one.is_deploying() && self.ending.is_none());
        under_way.map_or(0, Record::number)
    }

    /// Its status, from those of its deployments, in the order of the contract. One that it no longer has may still
    /// drain, which is no part of the deploy.
    pub(crate) fn word(&self, plan: Option<&Plan>) -> &'static str {
        if plan.is_none() {
            return "DELETING";
        }
        if plan.is_some_and(|plan| plan.rolled_back_to.is_some()) {
            return "DEPLOY_FAILED";
        }
        let any = |wanted: &[Status]| {
            self.deployments
                .values()
                .filter(|one| one.target.is_some())
                .any(|one| wanted.contains(&one.status.status))
        };
        if any(&[Status::DeployFailed]) {
            "DEPLOY_FAILED"
        } else if any(&[Status::Unhealthy]) {
            "UNHEALTHY"
        } else if self.deployments.values().any(Deployment::is_deploying)
            // Another application is still where this one shall be.
            || plan.is_some_and(|plan| !plan.is_routed())
        {
            "DEPLOYING"
        } else {
            "RUNNING"
        }
    }
}
