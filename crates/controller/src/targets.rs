//! What routers are told: numbered differences between what they know and what is.
//!
//! One [`TargetUpdate`] follows another within an epoch; each holds the full new state of every deployment that
//! changed. After [`DELTAS_BETWEEN_SNAPSHOTS`] a snapshot takes the place of a delta, so whoever keeps the last
//! snapshot and what followed keeps little. A snapshot is a step in the numbering like any other.

use std::collections::BTreeMap;

use eagleray_types::{
    DeploymentKey,
    control::{DeploymentTarget, Mark, Route, RouteTable, TargetUpdate},
};

pub const DELTAS_BETWEEN_SNAPSHOTS: u32 = 63;

/// What routers shall know of one application.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApplicationTargets {
    pub deployments: BTreeMap<DeploymentKey, DeploymentTarget>,
    pub route: Option<Route>,
    /// Under which number requests count; 0: they are not counted.
    pub mark: u64,
}

#[derive(Debug)]
pub struct Targets {
    epoch: u64,
    number: u64,
    since_snapshot: u32,
    /// A snapshot must be next: nothing was published yet, or somebody lost track.
    snapshot_wanted: bool,
    applications: BTreeMap<String, ApplicationTargets>,
    /// The update that last changed each application.
    changed: BTreeMap<String, u64>,
}

impl Targets {
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            number: 0,
            since_snapshot: 0,
            snapshot_wanted: true,
            applications: BTreeMap::new(),
            changed: BTreeMap::new(),
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn want_snapshot(&mut self) {
        self.snapshot_wanted = true;
    }

    /// Number of the update after which routers know the present state of `application`.
    pub fn number_of(&self, application: &str) -> u64 {
        self.changed.get(application).copied().unwrap_or(0)
    }

    /// Takes the present state of the applications named (`None`: gone) and returns what to publish, if anything.
    pub fn update(
        &mut self,
        changes: BTreeMap<String, Option<ApplicationTargets>>,
    ) -> Option<TargetUpdate> {
        let mut update = TargetUpdate {
            epoch: self.epoch,
            number: self.number + 1,
            ..Default::default()
        };
        let mut routes_changed = false;
        let mut touched = Vec::new();
        for (name, new) in changes {
            let old = self.applications.get(&name);
            if old == new.as_ref() {
                continue;
            }
            let (empty, none) = (ApplicationTargets::default(), ApplicationTargets::default());
            let (before, after) = (old.unwrap_or(&empty), new.as_ref().unwrap_or(&none));
            let changed = |(key, target): &(&DeploymentKey, &DeploymentTarget)| {
                before.deployments.get(key) != Some(target)
            };
            update.deployments.extend(
                after
                    .deployments
                    .iter()
                    .filter(changed)
                    .map(|(_, target)| target.clone()),
            );
            let gone = |key: &&DeploymentKey| !after.deployments.contains_key(key);
            update
                .removed
                .extend(before.deployments.keys().filter(gone).cloned());
            routes_changed |= before.route != after.route;
            if before.mark != after.mark {
                update.marks.push(Mark {
                    application: name.clone(),
                    mark: after.mark,
                });
            }
            if let Some(new) = new {
                touched.push(name.clone());
                self.applications.insert(name, new);
            } else {
                self.changed.remove(&name);
                self.applications.remove(&name);
            }
        }
        if update.deployments.is_empty()
            && update.removed.is_empty()
            && !routes_changed
            && update.marks.is_empty()
            && !self.snapshot_wanted
        {
            return None;
        }
        self.number += 1;
        self.changed
            .extend(touched.into_iter().map(|name| (name, update.number)));
        if self.snapshot_wanted || self.since_snapshot >= DELTAS_BETWEEN_SNAPSHOTS {
            self.snapshot_wanted = false;
            self.since_snapshot = 0;
            return Some(self.snapshot());
        }
        self.since_snapshot += 1;
        update.routes = routes_changed.then(|| self.routes());
        Some(update)
    }

    /// The present state whole, at the number reached: for one who begins to watch.
    pub fn snapshot(&self) -> TargetUpdate {
        TargetUpdate {
            epoch: self.epoch,
            number: self.number,
            snapshot: true,
            deployments: self
                .applications
                .values()
                .flat_map(|one| one.deployments.values().cloned())
                .collect(),
            removed: Vec::new(),
            routes: Some(self.routes()),
            marks: self.marks(),
        }
    }

    fn marks(&self) -> Vec<Mark> {
        let marked = self.applications.iter().filter(|(_, one)| one.mark != 0);
        let marks = marked.map(|(name, one)| Mark {
            application: name.clone(),
            mark: one.mark,
        });
        marks.collect()
    }

    fn routes(&self) -> RouteTable {
        RouteTable {
            routes: self
                .applications
                .values()
                .filter_map(|one| one.route.clone())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(name: &str, queued: i64) -> (String, Option<ApplicationTargets>) {
        let key = DeploymentKey::new(name, "d");
        let target = DeploymentTarget {
            key: key.clone(),
            max_queued_requests: queued,
            ..Default::default()
        };
        let route = Some(Route {
            prefix: format!("/{name}"),
            ingress: key.clone(),
        });
        (
            name.to_owned(),
            Some(ApplicationTargets {
                deployments: BTreeMap::from([(key, target)]),
                route,
                ..ApplicationTargets::default()
            }),
        )
    }

    #[test]
    fn the_first_update_is_a_snapshot_and_the_next_only_says_what_changed() {
        let mut targets = Targets::new(7);
        let first = targets
            .update(BTreeMap::from([application("a", 1), application("b", 1)]))
            .unwrap();
        assert_eq!(
            (
                first.epoch,
                first.number,
                first.snapshot,
                first.deployments.len()
            ),
            (7, 1, true, 2)
        );
        assert_eq!(targets.update(BTreeMap::from([application("a", 1)])), None);
        let delta = targets
            .update(BTreeMap::from([application("a", 2)]))
            .unwrap();
        assert_eq!(
            (
                delta.number,
                delta.snapshot,
                delta.deployments.len(),
                delta.routes
            ),
            (2, false, 1, None)
        );
        assert_eq!((targets.number_of("a"), targets.number_of("b")), (2, 1));
        let gone = targets
            .update(BTreeMap::from([("a".to_owned(), None)]))
            .unwrap();
        assert_eq!(
            (gone.removed.len(), gone.routes.unwrap().routes.len()),
            (1, 1)
        );
    }

    #[test]
    fn a_mark_comes_and_goes_by_itself_and_a_snapshot_has_those_that_are_there() {
        let mut targets = Targets::new(1);
        targets.update(BTreeMap::from([application("a", 1), application("b", 1)]));
        let marked = |mark| {
            let (name, state) = application("a", 1);
            let state = state.map(|state| ApplicationTargets { mark, ..state });
            BTreeMap::from([(name, state)])
        };
        let said = |update: TargetUpdate| -> Vec<(String, u64)> {
            let marks = update.marks.into_iter();
            marks.map(|one| (one.application, one.mark)).collect()
        };
        let begins = targets.update(marked(7)).unwrap();
        assert!(begins.deployments.is_empty() && begins.routes.is_none());
        assert_eq!(said(begins), [("a".to_owned(), 7)]);
        assert_eq!(said(targets.snapshot()), [("a".to_owned(), 7)]);
        assert_eq!(targets.update(marked(7)), None);
        assert_eq!(
            said(targets.update(marked(0)).unwrap()),
            [("a".to_owned(), 0)]
        );
        assert_eq!(said(targets.snapshot()), []);
        targets.update(marked(8));
        let gone = targets.update(BTreeMap::from([("a".to_owned(), None)]));
        assert_eq!(said(gone.unwrap()), [("a".to_owned(), 0)]);
    }

    #[test]
    fn a_snapshot_comes_when_it_is_wanted_and_at_least_every_64_updates() {
        let mut targets = Targets::new(1);
        let mut since = 0;
        for number in 1..=300 {
            let update = targets
                .update(BTreeMap::from([application("a", number)]))
                .unwrap();
            assert_eq!(update.number, number as u64);
            since = if update.snapshot { 0 } else { since + 1 };
            assert!(since < 64);
        }
        targets.want_snapshot();
        assert!(targets.update(BTreeMap::new()).unwrap().snapshot);
    }

    #[test]
    fn following_the_deltas_leads_to_the_snapshot() {
        let mut targets = Targets::new(1);
        let mut random = fastrand::Rng::with_seed(3);
        let mut known: BTreeMap<DeploymentKey, DeploymentTarget> = BTreeMap::new();
        let mut routes = None;
        for _ in 0..500 {
            let (name, state) = application(["a", "b", "c"][random.usize(..3)], random.i64(0..3));
            let Some(update) =
                targets.update(BTreeMap::from([(name, state.filter(|_| random.bool()))]))
            else {
                continue;
            };
            if update.snapshot {
                known.clear();
            }
            for key in &update.removed {
                known.remove(key);
            }
            known.extend(
                update
                    .deployments
                    .into_iter()
                    .map(|target| (target.key.clone(), target)),
            );
            routes = update.routes.or(routes);
            let snapshot = targets.snapshot();
            assert_eq!(
                known.values().cloned().collect::<Vec<_>>(),
                snapshot.deployments
            );
            assert_eq!(routes, snapshot.routes);
        }
    }
}
