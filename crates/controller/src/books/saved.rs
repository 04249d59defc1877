//! Desired state as the checkpoint keeps it, and back: revisions and entries by the names of their blobs.

use std::{collections::BTreeMap, sync::Arc};

use eagleray_autoscaler::Capacity;
use eagleray_types::{DeploymentKey, control::Route};

use super::{
    capacity,
    counts::Counts,
    declared::Declarations,
    desired::{Deleted, Desired},
    history::{Entry, History, Record},
    plan::Plan,
    revision::Revision,
};
use crate::store::checkpoint::{Loaded, Root, RootApplication, RootDeleted, RootRecord};

impl Desired {
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
                counts: plan.counts.root(),
                rolled_back_to: plan.rolled_back_to.as_ref().map(blob).unwrap_or_default(),
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
            node_options: self.declared.node_options().to_owned(),
            capacity_direction: capacity::word(self.declared.capacity().direction).to_owned(),
        }
    }

    /// As the checkpoint has it.
    pub(crate) fn restore(loaded: &Loaded) -> Self {
        let blobs = Blobs::of(loaded);
        let root = &loaded.root;
        let plans = root.applications.iter();
        let deleted = root.deleted.iter().map(|stored| {
            let deleted = Deleted {
                history: blobs.history(&stored.records),
                at_s: stored.deleted_at_s,
            };
            (stored.name.clone(), deleted)
        });
        let capacity = capacity::restore(&root.node_options, &root.capacity_direction);
        let plan = |stored: &RootApplication| {
            let mut plan = restore_plan(stored, &blobs)?;
            plan.capacity = capacity;
            Some((stored.name.clone(), plan))
        };
        Self {
            plans: plans.filter_map(plan).collect(),
            deleted: deleted.collect(),
            declared: Declarations::restore(
                &root.declared,
                root.last_deploy,
                root.last_build,
                root.node_options.clone(),
                capacity,
            ),
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
        capacity: Capacity::default(),
        target,
        rolled_back_to: blobs.revision(&stored.rolled_back_to),
        history,
        serving: serving
            .filter_map(|(deployment, blob)| Some((deployment.clone(), blobs.revision(blob)?)))
            .collect(),
        route: Some(Route { prefix, ingress }).filter(|route| !route.prefix.is_empty()),
        counts: Counts::restore(&stored.counts),
    })
}
