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
use prost::Message as _;

pub(crate) use super::plan::Plan;
use super::{
    declared::{Declarations, Step},
    history::{Entry, History},
    revision::Revision,
};
use crate::store::checkpoint::Outcome;

/// For so long a deleted application can be brought back.
pub(crate) const DELETED_KEPT_S: f64 = 7.0 * 24.0 * 3600.0;
/// So many deleted applications are kept, those that were deleted last.
const DELETED_KEPT: usize = 100;

/// One step of desired state.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Deploy {
        revision: Arc<Revision>,
        /// Its place in the history.
        entry: Arc<Entry>,
    },
    Delete {
        application: String,
        wall_time_s: f64,
    },
    DeleteAll {
        wall_time_s: f64,
    },
    /// All of a deployment runs as this revision has it, and from now on that is what it falls back on.
    Serve {
        deployment: DeploymentKey,
        revision: Arc<Revision>,
    },
    /// The newest revision of an application has failed: all of it runs as this one has it, until the next deploy.
    RollBack {
        application: String,
        revision: Arc<Revision>,
    },
    /// There is nothing to fall back on: the deployment goes.
    Dismiss {
        deployment: DeploymentKey,
    },
    /// From now on so many replicas are wanted.
    Scale {
        deployment: DeploymentKey,
        replicas: u32,
    },
    /// The same, because its load asks for it.
    Autoscale {
        deployment: DeploymentKey,
        replicas: u32,
    },
    /// Where an application is reachable from now on.
    Route {
        application: String,
        route: Option<Route>,
    },
    /// What has come of a deploy.
    Settle {
        application: String,
        number: u64,
        outcome: Outcome,
    },
    /// Deploys before this number cannot be gone back to any more.
    Trim {
        application: String,
        first: u64,
    },
    /// A deleted application cannot be brought back any more.
    Forget {
        application: String,
    },
    /// A step of what is declared, and what changes with it in the same moment.
    Declared {
        step: Step,
        beside: Vec<Change>,
    },
}

impl Change {
    /// Blobs that it brings, with their names.
    pub(crate) fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::Deploy { revision, entry } => vec![
                (revision.blob.clone(), revision.spec.encode_to_vec()),
                (entry.blob.clone(), entry.record.encode_to_vec()),
            ],
            Self::Declared { beside, .. } => beside.iter().flat_map(Self::blobs).collect(),
            _ => Vec::new(),
        }
    }

    /// Names of the files that it needs, each once. Every other change is about a revision that is kept.
    pub(crate) fn files(&self) -> BTreeSet<&str> {
        match self {
            Self::Deploy { revision, .. } => revision.files().collect(),
            Self::Declared { beside, .. } => beside.iter().flat_map(Self::files).collect(),
            _ => BTreeSet::new(),
        }
    }
}

/// An application that is gone and can be brought back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deleted {
    pub(crate) history: History,
    pub(crate) at_s: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Desired {
    pub(super) plans: BTreeMap<String, Plan>,
    pub(super) deleted: BTreeMap<String, Deleted>,
    pub(crate) declared: Declarations,
}

impl Desired {
    /// What `application` should be; `None`: nothing of it should run.
    pub(crate) fn plan(&self, application: &str) -> Option<&Plan> {
        self.plans.get(application)
    }

    pub(crate) fn plans(&self) -> impl Iterator<Item = (&String, &Plan)> {
        self.plans.iter()
    }

    /// The deploys of an application, also of one that is deleted.
    pub(crate) fn history(&self, application: &str) -> Option<&History> {
        let planned = self.plan(application).map(|plan| &plan.history);
        planned.or_else(|| Some(&self.deleted.get(application)?.history))
    }

    /// Every application that has a history, in their order.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        let all = self.plans.keys().chain(self.deleted.keys());
        all.map(String::as_str).collect()
    }

    pub(crate) fn deleted(&self) -> impl Iterator<Item = (&String, &Deleted)> {
        self.deleted.iter()
    }

    fn histories(&self) -> impl Iterator<Item = &History> {
        let plans = self.plans.values().map(|plan| &plan.history);
        plans.chain(self.deleted.values().map(|deleted| &deleted.history))
    }

    /// Every revision that shall run or can be gone back to, each once or more often.
    pub(crate) fn revisions(&self) -> impl Iterator<Item = &Arc<Revision>> {
        let serving = self.plans.values().flat_map(|plan| {
            let serving = plan.serving.values();
            serving.chain(&plan.rolled_back_to)
        });
        self.histories().flat_map(History::revisions).chain(serving)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.histories()
            .flat_map(History::oldest_first)
            .map(|record| &record.entry)
    }

    /// The one place where desired state changes. Returns whether it is another now.
    pub(crate) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Deploy { revision, entry } => {
                self.deploy(revision, entry);
                true
            }
            Change::Delete {
                application,
                wall_time_s,
            } => {
                let declared = self.declared.forget(application);
                self.delete(application, *wall_time_s) || declared
            }
            Change::DeleteAll { wall_time_s } => {
                let declared = self.declared.forget_all();
                let names: Vec<String> = self.plans.keys().cloned().collect();
                for name in &names {
                    self.delete(name, *wall_time_s);
                }
                !names.is_empty() || declared
            }
            Change::Declared { step, beside } => {
                let mut changed = self.declared.apply(step);
                for one in beside {
                    changed |= self.apply(one);
                }
                self.resize();
                changed
            }
            Change::Serve {
                deployment,
                revision,
            } => self
                .plan_of(deployment)
                .is_some_and(|plan| plan.serve(&deployment.deployment, revision)),
            Change::RollBack {
                application,
                revision,
            } => {
                let plan = self.plans.get_mut(application);
                plan.is_some_and(|plan| plan.roll_back(revision))
            }
            Change::Dismiss { deployment } => self
                .plan_of(deployment)
                .is_some_and(|plan| plan.dismiss(&deployment.deployment)),
            Change::Scale {
                deployment,
                replicas,
            } => self
                .plan_of(deployment)
                .is_some_and(|plan| plan.scale(&deployment.deployment, *replicas)),
            Change::Autoscale {
                deployment,
                replicas,
            } => self
                .plan_of(deployment)
                .is_some_and(|plan| plan.autoscale(&deployment.deployment, *replicas)),
            Change::Route { application, route } => {
                self.plans.get_mut(application).is_some_and(|plan| {
                    let before = std::mem::replace(&mut plan.route, route.clone());
                    before != *route
                })
            }
            Change::Settle {
                application,
                number,
                outcome,
            } => {
                let history = self.history_mut(application);
                history.is_some_and(|history| history.set_outcome(*number, outcome))
            }
            Change::Trim { application, first } => {
                let history = self.history_mut(application);
                history.is_some_and(|history| history.forget_before(*first))
            }
            Change::Forget { application } => self.deleted.remove(application).is_some(),
        }
    }

    /// Every plan has the capacity that is declared.
    pub(crate) fn resize(&mut self) {
        let capacity = self.declared.capacity();
        for plan in self.plans.values_mut() {
            plan.capacity = capacity;
        }
    }

    fn deploy(&mut self, revision: &Arc<Revision>, entry: &Arc<Entry>) {
        let name = &revision.spec.name;
        let deleted = self.deleted.remove(name);
        let history = deleted.map_or_else(History::default, |deleted| deleted.history);
        let capacity = self.declared.capacity();
        self.plans
            .entry(name.clone())
            .or_insert_with(|| Plan::new(Arc::clone(revision), history, capacity))
            .deploy(revision, entry);
    }

    fn delete(&mut self, application: &str, at_s: f64) -> bool {
        let Some(Plan { mut history, .. }) = self.plans.remove(application) else {
            return false;
        };
        history.end(at_s);
        let deleted = Deleted { history, at_s };
        self.deleted.insert(application.to_owned(), deleted);
        let oldest = self
            .deleted
            .iter()
            .min_by(|a, b| a.1.at_s.total_cmp(&b.1.at_s));
        let oldest = oldest.map(|(name, _)| name.clone());
        if self.deleted.len() > DELETED_KEPT
            && let Some(name) = oldest
        {
            self.deleted.remove(&name);
        }
        true
    }

    fn history_mut(&mut self, application: &str) -> Option<&mut History> {
        let deleted = self.deleted.get_mut(application);
        let plan = self.plans.get_mut(application);
        let history = plan.map(|plan| &mut plan.history);
        history.or_else(|| Some(&mut deleted?.history))
    }

    fn plan_of(&mut self, deployment: &DeploymentKey) -> Option<&mut Plan> {
        self.plans.get_mut(&deployment.application)
    }
}

#[cfg(test)]
mod tests;
