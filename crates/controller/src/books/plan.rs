//! What one application should be: its target, what serves until that is there, and how many of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eagleray_autoscaler::{Bounds, Capacity};
use eagleray_types::control::{DeploymentSpec, Route};

use crate::store::checkpoint::Verdict;

use super::{
    autoscaling::{begins_with, configured},
    counts::Counts,
    history::{Entry, History, Record},
    revision::{Revision, VersionSpec},
};

/// What one application should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) target: Arc<Revision>,
    /// The target has failed, and this runs in its place: what last came up whole. So the deployments of an application
    /// are never left between two revisions.
    pub(crate) rolled_back_to: Option<Arc<Revision>>,
    /// Its deploys, the target's last.
    pub(crate) history: History,
    /// By deployment: the revision that last ran at full size.
    pub(crate) serving: BTreeMap<String, Arc<Revision>>,
    /// Where it is reachable now. It follows the target once the target's ingress can answer.
    pub(crate) route: Option<Route>,
    /// How much of all this shall run.
    pub(crate) capacity: Capacity,
    /// How many replicas somebody asked for, by deployment.
    pub(super) counts: Counts,
}

impl Plan {
    pub(super) fn new(target: Arc<Revision>, history: History, capacity: Capacity) -> Self {
        Self {
            target,
            rolled_back_to: None,
            history,
            serving: BTreeMap::new(),
            route: None,
            capacity,
            counts: Counts::default(),
        }
    }

    /// What shall run: the target, or what it was rolled back to.
    pub(crate) fn aim(&self) -> &Arc<Revision> {
        self.rolled_back_to.as_ref().unwrap_or(&self.target)
    }

    /// The deploy whose revision shall run.
    pub(crate) fn aimed_at(&self) -> Option<&Record> {
        match &self.rolled_back_to {
            Some(to) => self.history.newest_first().find(|one| one.revision == *to),
            None => self.history.last(),
        }
    }

    /// Whether it is reachable where it shall be.
    pub(crate) fn is_routed(&self) -> bool {
        let present = self.route.as_ref().map(|route| route.prefix.as_str());
        present.unwrap_or_default() == self.aim().spec.route_prefix
    }

    /// How many replicas of a deployment are wanted of what shall run.
    pub(crate) fn wanted(&self, deployment: &str) -> u32 {
        let spec = self.aim().find_spec(deployment);
        self.sized(spec, self.counts.target(deployment))
    }

    /// How many are wanted of what serves.
    pub(crate) fn wanted_serving(&self, deployment: &str) -> u32 {
        let serving = self.serving.get(deployment);
        let spec = serving.and_then(|serving| serving.find_spec(deployment));
        self.sized(spec, self.counts.serving(deployment))
    }

    /// How many are wanted once `revision` is the target.
    pub(crate) fn would_want(&self, revision: &Revision, rollback: bool, deployment: &str) -> u32 {
        let asked = self.would_keep(revision, rollback, deployment);
        self.sized(revision.find_spec(deployment), asked)
    }

    /// What of what was asked for would count once `revision` is the target; `None`: what that states.
    fn would_keep(&self, revision: &Revision, rollback: bool, deployment: &str) -> Option<u32> {
        let before = self.aim().find_spec(deployment)?;
        let after = revision.find_spec(deployment)?;
        if configured(after).is_some() {
            // Where it begins is for its first deploy. Later its load is known better than any deploy knows it.
            return Some(self.wanted(deployment));
        }
        // What somebody asked for; what a load asked for is no word on a number that is stated.
        let same = begins_with(after) == begins_with(before);
        let keeps = (rollback || same) && configured(before).is_none();
        self.counts.target(deployment).filter(|_| keeps)
    }

    /// How many replicas run where so many were asked for, or none were: those that it states or begins with, within its
    /// bounds, at the present capacity.
    fn sized(&self, spec: Option<&DeploymentSpec>, asked: Option<u32>) -> u32 {
        let Some(spec) = spec else {
            return asked.unwrap_or(0);
        };
        let Some(config) = configured(spec) else {
            return self.capacity.of(asked.unwrap_or_else(|| begins_with(spec)));
        };
        let Bounds { low, high } = config.bounds(self.capacity);
        let first = || config.first(self.capacity);
        asked.unwrap_or_else(first).clamp(low, high)
    }

    pub(super) fn scale(&mut self, deployment: &str, replicas: u32) -> bool {
        let aim = self.aim();
        if aim.find_spec(deployment).is_none() {
            return false;
        }
        let asked = Some(replicas).filter(|count| *count != stated(aim, deployment));
        let serves = self.serving.get(deployment) == Some(aim);
        self.counts.ask(deployment, asked, serves)
    }

    pub(super) fn autoscale(&mut self, deployment: &str, replicas: u32) -> bool {
        // With another capacity it would begin elsewhere.
        let whole = self.capacity.percent.is_none();
        let asked = |revision: &Revision| {
            let spec = revision.find_spec(deployment)?;
            Some(replicas).filter(|count| !whole || *count != begins_with(spec))
        };
        if self.aim().find_spec(deployment).is_none() {
            return false;
        }
        let serving = self.serving.get(deployment);
        let serving = serving.and_then(|revision| asked(revision));
        self.counts.set(deployment, asked(self.aim()), serving)
    }

    pub(super) fn serve(&mut self, deployment: &str, revision: &Arc<Revision>) -> bool {
        let before = self
            .serving
            .insert(deployment.to_owned(), Arc::clone(revision));
        let news = before.as_ref() != Some(revision);
        if news {
            let is_aim = revision == self.aim();
            self.counts.serve(deployment, is_aim);
        }
        news
    }

    pub(super) fn dismiss(&mut self, deployment: &str) -> bool {
        self.counts.forget(deployment);
        self.serving.remove(deployment).is_some()
    }

    pub(super) fn deploy(&mut self, revision: &Arc<Revision>, entry: &Arc<Entry>) {
        let rollback = entry.record.rollback_of != 0;
        let kept = revision.spec.deployments.iter().filter_map(|spec| {
            let asked = self.would_keep(revision, rollback, &spec.name)?;
            let wanted = match configured(spec) {
                Some(_) => self.sized(Some(spec), Some(asked)),
                None => asked,
            };
            let states = wanted == begins_with(spec) && self.capacity.percent.is_none();
            (!states).then(|| (spec.name.clone(), wanted))
        });
        let kept: BTreeMap<String, u32> = kept.collect();
        let came_up = |last: &Record| last.outcome.verdict() == Verdict::Running;
        if self.rolled_back_to.take().is_some() || self.history.last().is_some_and(came_up) {
            self.counts.remember();
        }
        self.counts.keep(&kept);
        self.target = Arc::clone(revision);
        self.history
            .add(Record::new(Arc::clone(entry), Arc::clone(revision)));
    }

    /// The target has failed. What somebody asked for stays, as after any rollback.
    pub(super) fn roll_back(&mut self, to: &Arc<Revision>) -> bool {
        if self.rolled_back_to.as_ref() == Some(to) {
            return false;
        }
        let kept = self.counts.names().filter_map(|name| {
            to.find_spec(name)?;
            Some((name.to_owned(), self.counts.whole(name)?))
        });
        let kept: BTreeMap<String, u32> = kept.collect();
        self.counts.keep(&kept);
        self.rolled_back_to = Some(Arc::clone(to));
        true
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

    /// Every deployment of what shall run, and those that it has no more but that still serve.
    pub(crate) fn deployments(&self) -> BTreeSet<&str> {
        let targeted = self.aim().spec.deployments.iter();
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

/// How many replicas a revision states, or begins with.
fn stated(revision: &Revision, deployment: &str) -> u32 {
    let spec = revision.find_spec(deployment);
    spec.map_or(0, begins_with)
}
