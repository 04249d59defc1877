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

use super::{
    declared::{Declarations, Step},
    history::{Entry, History, Record},
    revision::{Revision, VersionSpec},
};
use crate::store::checkpoint::{Loaded, Outcome, Root, RootApplication, RootDeleted, RootRecord};

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
    /// There is nothing to fall back on: the deployment goes.
    Dismiss {
        deployment: DeploymentKey,
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

    /// The revision that it brings.
    fn revision(&self) -> Option<&Arc<Revision>> {
        match self {
            Self::Deploy { revision, .. } => Some(revision),
            Self::Declared { beside, .. } => beside.iter().find_map(Self::revision),
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
    /// Its deploys, the target's last.
    pub(crate) history: History,
    /// By deployment: the revision that last ran at full size.
    pub(crate) serving: BTreeMap<String, Arc<Revision>>,
    /// Where it is reachable now. It follows the target once the target's ingress can answer.
    pub(crate) route: Option<Route>,
}

impl Plan {
    fn new(target: Arc<Revision>, history: History) -> Self {
        Self {
            target,
            history,
            serving: BTreeMap::new(),
            route: None,
        }
    }

    fn deploy(&mut self, revision: &Arc<Revision>, entry: &Arc<Entry>) {
        self.target = Arc::clone(revision);
        self.history
            .add(Record::new(Arc::clone(entry), Arc::clone(revision)));
    }

    /// Revisions that can be gone back to, newest first, beginning with the target.
    pub(crate) fn revisions(&self) -> impl Iterator<Item = &Arc<Revision>> {
        self.history.revisions()
    }

    /// Wall-clock seconds, only shown.
    pub(crate) fn deployed_at_s(&self) -> f64 {
        let last = self.history.last();
        last.map_or(0.0, |last| last.entry.record.deployed_at_s)
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

/// An application that is gone and can be brought back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deleted {
    pub(crate) history: History,
    pub(crate) at_s: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Desired {
    plans: BTreeMap<String, Plan>,
    deleted: BTreeMap<String, Deleted>,
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
        let serving = self.plans.values().flat_map(|plan| plan.serving.values());
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
                changed
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
            Change::Settle {
                application,
                number,
                outcome,
            } => {
                let deleted = self.deleted.get_mut(application);
                let plan = self.plans.get_mut(application);
                let history = plan.map(|plan| &mut plan.history);
                let history = history.or_else(|| Some(&mut deleted?.history));
                history.is_some_and(|history| history.set_outcome(*number, outcome))
            }
            Change::Forget { application } => self.deleted.remove(application).is_some(),
        }
    }

    fn deploy(&mut self, revision: &Arc<Revision>, entry: &Arc<Entry>) {
        let name = &revision.spec.name;
        let deleted = self.deleted.remove(name);
        let history = deleted.map_or_else(History::default, |deleted| deleted.history);
        self.plans
            .entry(name.clone())
            .or_insert_with(|| Plan::new(Arc::clone(revision), history))
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
                serving: serving
                    .map(|(deployment, revision)| (deployment.clone(), blob(revision)))
                    .collect(),
                deployed_at_s: plan.deployed_at_s(),
                route_prefix: route.prefix,
                route_ingress: route.ingress.deployment,
                records: root_records(&plan.history),
                ..RootApplication::default()
            }
        });
        let deleted = self.deleted.iter().map(|(name, deleted)| RootDeleted {
            name: name.clone(),
            deleted_at_s: deleted.at_s,
            records: root_records(&deleted.history),
        });
        let (declared, last_deploy, last_build) = self.declared.root();
        Root {
            applications: applications.collect(),
            deleted: deleted.collect(),
            declared,
            last_deploy,
            last_build,
        }
    }

    /// As the checkpoint has it.
    pub(crate) fn restore(loaded: &Loaded) -> Self {
        let blobs = Blobs::of(loaded);
        let root = &loaded.root;
        let deleted = root.deleted.iter().map(|stored| {
            let deleted = Deleted {
                history: blobs.history(&stored.records),
                at_s: stored.deleted_at_s,
            };
            (stored.name.clone(), deleted)
        });
        let plans = root.applications.iter();
        Self {
            plans: plans
                .filter_map(|stored| Some((stored.name.clone(), restore_plan(stored, &blobs)?)))
                .collect(),
            deleted: deleted.collect(),
            declared: Declarations::restore(&root.declared, root.last_deploy, root.last_build),
        }
    }
}

fn root_records(history: &History) -> Vec<RootRecord> {
    let records = history.oldest_first().map(|record| RootRecord {
        record: record.entry.blob.clone(),
        revision: record.revision.blob.clone(),
        outcome: record.outcome.clone(),
    });
    records.collect()
}

/// What the checkpoint keeps, by name.
struct Blobs<'a> {
    revisions: BTreeMap<&'a str, Arc<Revision>>,
    entries: BTreeMap<&'a str, Arc<Entry>>,
}

impl<'a> Blobs<'a> {
    fn of(loaded: &'a Loaded) -> Self {
        let revisions = loaded.revisions.iter().map(|(blob, spec)| {
            let (spec, kept_as) = (spec.clone(), blob.clone());
            let revision = Revision {
                spec,
                blob: kept_as,
            };
            (blob.as_str(), Arc::new(revision))
        });
        let entries = loaded.records.iter().map(|(blob, record)| {
            let (record, kept_as) = (record.clone(), blob.clone());
            let entry = Entry {
                record,
                blob: kept_as,
            };
            (blob.as_str(), Arc::new(entry))
        });
        Self {
            revisions: revisions.collect(),
            entries: entries.collect(),
        }
    }

    fn revision(&self, blob: &str) -> Option<Arc<Revision>> {
        self.revisions.get(blob).cloned()
    }

    fn history(&self, stored: &[RootRecord]) -> History {
        let find = |record: &RootRecord| {
            Some(Record {
                entry: self.entries.get(record.record.as_str()).cloned()?,
                revision: self.revision(&record.revision)?,
                outcome: record.outcome.clone(),
            })
        };
        let records: Vec<_> = stored.iter().filter_map(find).collect();
        // The store has checked that it has every blob that the root names.
        debug_assert_eq!(records.len(), stored.len(), "a blob is missing");
        History::of(records)
    }
}

fn restore_plan(stored: &RootApplication, blobs: &Blobs<'_>) -> Option<Plan> {
    let history = blobs.history(&stored.records);
    let target = Arc::clone(&history.last()?.revision);
    let serving = stored.serving.iter();
    let ingress = DeploymentKey::new(stored.name.as_str(), stored.route_ingress.as_str());
    let prefix = stored.route_prefix.clone();
    Some(Plan {
        target,
        history,
        serving: serving
            .filter_map(|(deployment, blob)| Some((deployment.clone(), blobs.revision(blob)?)))
            .collect(),
        route: Some(Route { prefix, ingress }).filter(|route| !route.prefix.is_empty()),
    })
}

#[cfg(test)]
mod tests;
