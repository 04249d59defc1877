//! What should run: the state that the checkpoint keeps.
//!
//! It changes by [`Desired::apply`] and by nothing else. A client's change is applied twice: to a copy, which is saved,
//! and, once that is durable, to what is in force. So the two cannot differ. What the controller learns by itself (a
//! revision runs at full size, a route can be answered) is in force at once and saved when no client's change waits:
//! losing it costs nothing but work done twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eagleray_types::{DeploymentKey, control::Route};

use super::revision::{Revision, VersionSpec};
use crate::store::checkpoint::{Loaded, Root, RootApplication};

/// Revisions of an application that can be gone back to, the present one included.
pub const REVISIONS_KEPT: usize = 10;

/// One step of desired state.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Deploy {
        revision: Arc<Revision>,
        wall_time_s: f64,
    },
    Delete {
        application: String,
    },
    DeleteAll,
    /// All of a deployment runs as this revision has it, and from now on that is what it falls back on.
    Serve {
        deployment: DeploymentKey,
        revision: Arc<Revision>,
    },
    /// There is nothing to fall back on: the deployment goes.
    Dismiss {
        deployment: DeploymentKey,
    },
    /// Where an application is reachable from now on.
    Route {
        application: String,
        route: Option<Route>,
    },
}

impl Change {
    /// The revision that it brings.
    pub(crate) fn revision(&self) -> Option<&Arc<Revision>> {
        match self {
            Self::Deploy { revision, .. } => Some(revision),
            _ => None,
        }
    }

    /// Names of the files that it needs, each once. Every other change is about a revision that is kept.
    pub(crate) fn files(&self) -> BTreeSet<&str> {
        let revision = self.revision().map(|revision| revision.files());
        revision.into_iter().flatten().collect()
    }
}

/// What one application should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) target: Arc<Revision>,
    /// What can be gone back to, oldest first.
    pub(crate) earlier: Vec<Arc<Revision>>,
    /// By deployment: the revision that last ran at full size.
    pub(crate) serving: BTreeMap<String, Arc<Revision>>,
    /// Wall-clock seconds, only shown.
    pub(crate) deployed_at_s: f64,
    /// Where it is reachable now. It follows the target once the target's ingress can answer.
    pub(crate) route: Option<Route>,
}

impl Plan {
    fn new(target: Arc<Revision>) -> Self {
        Self {
            target,
            earlier: Vec::new(),
            serving: BTreeMap::new(),
            deployed_at_s: 0.0,
            route: None,
        }
    }

    fn deploy(&mut self, revision: &Arc<Revision>, wall_time_s: f64) {
        let before = std::mem::replace(&mut self.target, Arc::clone(revision));
        self.earlier.push(before);
        self.earlier.retain(|kept| kept.blob != revision.blob);
        let excess = (self.earlier.len() + 1).saturating_sub(REVISIONS_KEPT);
        self.earlier.drain(..excess);
        self.deployed_at_s = wall_time_s;
    }

    /// Newest first, beginning with the target.
    pub(crate) fn history(&self) -> impl Iterator<Item = &Arc<Revision>> {
        std::iter::once(&self.target).chain(self.earlier.iter().rev())
    }

    /// Every deployment of the target, and those that it has no more but that still serve.
    pub(crate) fn deployments(&self) -> BTreeSet<&str> {
        let targeted = self.target.spec.deployments.iter();
        let serving = self.serving.keys().map(String::as_str);
        targeted
            .map(|one| one.name.as_str())
            .chain(serving)
            .collect()
    }

    pub(crate) fn serving(&self, deployment: &str) -> Option<VersionSpec> {
        self.serving.get(deployment)?.find(deployment)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Desired {
    plans: BTreeMap<String, Plan>,
}

impl Desired {
    /// What `application` should be; `None`: nothing of it should run.
    pub(crate) fn plan(&self, application: &str) -> Option<&Plan> {
        self.plans.get(application)
    }

    pub(crate) fn plans(&self) -> impl Iterator<Item = (&String, &Plan)> {
        self.plans.iter()
    }

    /// The one place where desired state changes. Returns whether it is another now.
    pub(crate) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Deploy {
                revision,
                wall_time_s,
            } => {
                self.plans
                    .entry(revision.spec.name.clone())
                    .or_insert_with(|| Plan::new(Arc::clone(revision)))
                    .deploy(revision, *wall_time_s);
                true
            }
            Change::Delete { application } => self.plans.remove(application).is_some(),
            Change::DeleteAll => {
                let any = !self.plans.is_empty();
                self.plans.clear();
                any
            }
            Change::Serve {
                deployment,
                revision,
            } => self.plan_of(deployment).is_some_and(|plan| {
                let name = deployment.deployment.clone();
                let before = plan.serving.insert(name, Arc::clone(revision));
                before.as_ref() != Some(revision)
            }),
            Change::Dismiss { deployment } => self
                .plan_of(deployment)
                .is_some_and(|plan| plan.serving.remove(&deployment.deployment).is_some()),
            Change::Route { application, route } => {
                self.plans.get_mut(application).is_some_and(|plan| {
                    let before = std::mem::replace(&mut plan.route, route.clone());
                    before != *route
                })
            }
        }
    }

    fn plan_of(&mut self, deployment: &DeploymentKey) -> Option<&mut Plan> {
        self.plans.get_mut(&deployment.application)
    }

    /// As the checkpoint keeps it: revisions by the names of their blobs.
    pub(crate) fn root(&self) -> Root {
        let blob = |revision: &Arc<Revision>| revision.blob.clone();
        let applications = self.plans.iter().map(|(name, plan)| {
            let serving = plan.serving.iter();
            let route = plan.route.clone().unwrap_or_default();
            RootApplication {
                name: name.clone(),
                history: plan
                    .earlier
                    .iter()
                    .chain([&plan.target])
                    .map(blob)
                    .collect(),
                serving: serving
                    .map(|(deployment, revision)| (deployment.clone(), blob(revision)))
                    .collect(),
                deployed_at_s: plan.deployed_at_s,
                route_prefix: route.prefix,
                route_ingress: route.ingress.deployment,
            }
        });
        Root {
            applications: applications.collect(),
        }
    }

    /// As the checkpoint has it.
    pub(crate) fn restore(loaded: &Loaded) -> Self {
        let revisions: BTreeMap<&str, Arc<Revision>> = loaded
            .revisions
            .iter()
            .map(|(blob, spec)| {
                let (spec, kept_as) = (spec.clone(), blob.clone());
                let revision = Revision {
                    spec,
                    blob: kept_as,
                };
                (blob.as_str(), Arc::new(revision))
            })
            .collect();
        let stored = loaded.root.applications.iter();
        let plans = stored
            .filter_map(|stored| Some((stored.name.clone(), restore_plan(stored, &revisions)?)));
        Self {
            plans: plans.collect(),
        }
    }
}

fn restore_plan(
    stored: &RootApplication,
    revisions: &BTreeMap<&str, Arc<Revision>>,
) -> Option<Plan> {
    let find = |blob: &String| revisions.get(blob.as_str()).cloned();
    let mut earlier: Vec<_> = stored.history.iter().filter_map(find).collect();
    // The store has checked that it has every revision that the root names.
    debug_assert_eq!(earlier.len(), stored.history.len(), "a revision is missing");
    let target = earlier.pop()?;
    let serving = stored.serving.iter();
    let ingress = DeploymentKey::new(stored.name.as_str(), stored.route_ingress.as_str());
    let prefix = stored.route_prefix.clone();
    Some(Plan {
        target,
        earlier,
        serving: serving
            .filter_map(|(deployment, blob)| Some((deployment.clone(), find(blob)?)))
            .collect(),
        deployed_at_s: stored.deployed_at_s,
        route: Some(Route { prefix, ingress }).filter(|route| !route.prefix.is_empty()),
    })
}

#[cfg(test)]
mod tests;
