//! One application: what it shall be, and its deployments.

use std::{collections::BTreeMap, sync::Arc};

use eagleray_types::control::Route;

use super::{deployment::Deployment, revision::Revision, status::Status};

#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) name: String,
    /// `None`: being deleted.
    pub(crate) target: Option<Arc<Revision>>,
    /// Oldest first; the last is the target.
    pub(crate) history: Vec<Arc<Revision>>,
    pub(crate) deployed_at_s: f64,
    /// Where it is reachable now. It follows the target once the target's ingress can answer.
    pub(crate) route: Option<Route>,
    pub(crate) deployments: BTreeMap<String, Deployment>,
}

impl Application {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            target: None,
            history: Vec::new(),
            deployed_at_s: 0.0,
            route: None,
            deployments: BTreeMap::new(),
        }
    }

    pub(crate) fn deleting(&self) -> bool {
        self.target.is_none()
    }

    /// Nothing shall run and nothing does.
    pub(crate) fn is_over(&self) -> bool {
        self.deleting() && self.deployments.is_empty()
    }

    /// Its status, from those of its deployments, in the order of the contract. One that it no longer has may still
    /// drain, which is no part of the deploy.
    pub(crate) fn word(&self) -> &'static str {
        if self.deleting() {
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
