//! One application as it runs: its deployments. What it should be is its [`Plan`].

use std::collections::BTreeMap;

use eagleray_types::DeploymentKey;

use super::{deployment::Deployment, desired::Plan, status::Status};

#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) name: String,
    pub(crate) deployments: BTreeMap<String, Deployment>,
    /// Requests that begin now count under this number in [`super::tallies`]; 0: they are not counted.
    pub(crate) mark: u64,
}

impl Application {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            deployments: BTreeMap::new(),
            mark: 0,
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

    /// Its status, from those of its deployments, in the order of the contract. One that it no longer has may still
    /// drain, which is no part of the deploy.
    pub(crate) fn word(&self, plan: Option<&Plan>) -> &'static str {
        if plan.is_none() {
            return "DELETING";
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
        } else if any(&[Status::Updating, Status::Upscaling, Status::Downscaling]) {
            "DEPLOYING"
        } else {
            "RUNNING"
        }
    }
}
