//! What there is to do of each deployment that scales, and what of it was said.

use std::{collections::BTreeMap, ops::Bound, rc::Rc};

use eagleray_types::{DeploymentKey, control::Load};
use tokio::sync::Notify;

use super::State;
use crate::core::Seen;

/// What the state keeps for its reporter.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Of what was said last, what was not nothing.
    said: BTreeMap<DeploymentKey, Load>,
    changed: Rc<Notify>,
    /// The reporter knows that there is something.
    told: bool,
}

impl News {
    /// There is something. Costs one look while the reporter has not come.
    pub(super) fn tell(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.changed.notify_one();
        }
    }
}

impl State {
    /// Has the reporter come if there is something for it.
    pub(in super::super) fn tell_news(&mut self) {
        if self.core.has_news_of_loads() {
            self.news.tell();
        }
    }

    pub(in super::super) fn has_news_of_loads(&self) -> bool {
        self.core.has_news_of_loads()
    }

    /// Told once there is something.
    pub(in super::super) fn news_of_loads(&self) -> Rc<Notify> {
        Rc::clone(&self.news.changed)
    }

    /// What is another than was said last.
    pub(in super::super) fn changed_loads(&mut self) -> Vec<Load> {
        self.news.told = false;
        let marked = self.core.take_marked();
        let mut keys: Vec<_> = marked.into_iter().map(without_view).collect();
        keys.sort_unstable();
        keys.dedup();
        let loads = keys.into_iter().map(|key| (self.load(&key), key));
        let loads: Vec<_> = loads.collect();
        let mut changed = Vec::new();
        for (load, key) in loads {
            let before = if is_nothing(&load) {
                self.news.said.remove(&key)
            } else {
                self.news.said.insert(key.clone(), load.clone())
            };
            let news = before.map_or(!is_nothing(&load), |before| before != load);
            // Not part of what is kept: each is said once.
            let refused = self.core.take_refused(&key);
            if news || refused > 0 {
                changed.push(Load { refused, ..load });
            }
        }
        changed
    }

    pub(in super::super) fn each_load(&mut self, mut say: impl FnMut(&DeploymentKey, Seen)) {
        let mut of_views: BTreeMap<DeploymentKey, Seen> = BTreeMap::new();
        let views = &self.views;
        self.core.each_load(|key, seen| {
            if !views.contains(key) {
                return say(key, seen);
            }
            let sum = of_views.entry(without_view(key.clone())).or_default();
            sum.queued += seen.queued;
            sum.running += seen.running;
            sum.waits.add(&seen.waits);
        });
        for (key, seen) in of_views {
            say(&key, seen);
        }
    }

    pub(in super::super) fn all_loads(&mut self) -> Vec<Load> {
        self.news.told = false;
        drop(self.core.take_marked());
        let mut keys: Vec<_> = self.core.scaling().into_iter().map(without_view).collect();
        keys.dedup();
        let loads = keys.into_iter().map(|key| (key.clone(), self.load(&key)));
        self.news.said = loads.filter(|(_, load)| !is_nothing(load)).collect();
        self.news.said.values().cloned().collect()
    }

    /// Of a deployment, what goes to a certain replica of it included.
    fn load(&self, key: &DeploymentKey) -> Load {
        let mut load = self.core.load(key);
        let first = view_of(key, "");
        let named = (Bound::Included(&first), Bound::Unbounded);
        let views = self.views.range::<DeploymentKey, _>(named);
        let of_it = |view: &&DeploymentKey| {
            view.application == key.application && view.deployment.starts_with(&first.deployment)
        };
        for view in views.take_while(of_it) {
            let of_view = self.core.load(view);
            load.queued += of_view.queued;
            load.running += of_view.running;
            for one in of_view.replicas {
                let known = load.replicas.iter_mut();
                let mut known = known.filter(|known| known.replica_id == one.replica_id);
                match known.next() {
                    Some(known) => known.running += one.running,
                    None => load.replicas.push(one),
                }
            }
        }
        load
    }
}

const fn is_nothing(load: &Load) -> bool {
    load.queued == 0 && load.running == 0 && load.replicas.is_empty()
}

/// The name under which a router knows one replica of a deployment, see [`Handle::add_view`](super::super::Handle::add_view). No name of a user's has a
/// NUL.
pub fn view_of(key: &DeploymentKey, replica_id: &str) -> DeploymentKey {
    DeploymentKey::new(
        key.application.clone(),
        format!("{}\0{replica_id}", key.deployment),
    )
}

/// The deployment that is meant.
fn without_view(mut key: DeploymentKey) -> DeploymentKey {
    if let Some(end) = key.deployment.find('\0') {
        key.deployment.truncate(end);
    }
    key
}
