//! How many replicas somebody asked for, by deployment: over what the options state, and as durable.
//!
//! More than one number, because a deployment may be between two versions: what serves keeps the size that was asked for
//! until the target is there, whatever is asked of the target meanwhile; and what the application may be rolled back to has
//! the size that it had. A number that the options state is none.

use std::collections::BTreeMap;

use crate::store::checkpoint::RootCount;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<String, RootCount>);

impl Counts {
    pub(crate) fn target(&self, deployment: &str) -> Option<u32> {
        self.0.get(deployment)?.target
    }

    pub(crate) fn serving(&self, deployment: &str) -> Option<u32> {
        self.0.get(deployment)?.serving
    }

    pub(crate) fn whole(&self, deployment: &str) -> Option<u32> {
        self.0.get(deployment)?.whole
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns whether it is another now. `serves`: the target is what serves.
    pub(crate) fn ask(&mut self, deployment: &str, count: Option<u32>, serves: bool) -> bool {
        self.change(deployment, |one| {
            one.target = count;
            if serves {
                one.serving = count;
            }
        })
    }

    /// Of both at once. Returns whether one is another now.
    pub(crate) fn set(
        &mut self,
        deployment: &str,
        target: Option<u32>,
        serving: Option<u32>,
    ) -> bool {
        self.change(deployment, |one| {
            one.target = target;
            one.serving = serving;
        })
    }

    /// Another version serves: the target's, or one that nobody has asked anything of.
    pub(crate) fn serve(&mut self, deployment: &str, is_target: bool) {
        self.change(deployment, |one| {
            one.serving = one.target.filter(|_| is_target);
        });
    }

    /// What runs is whole, and another is about to be deployed.
    pub(crate) fn remember(&mut self) {
        for one in self.0.values_mut() {
            one.whole = one.target;
        }
    }

    /// There is another target, of which this is asked.
    pub(crate) fn keep(&mut self, kept: &BTreeMap<String, u32>) {
        for name in kept
            .keys()
            .filter(|name| !self.0.contains_key(*name))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.0.insert(name, RootCount::default());
        }
        for (name, one) in &mut self.0 {
            one.target = kept.get(name).copied();
        }
        self.0.retain(|_, one| *one != RootCount::default());
    }

    pub(crate) fn forget(&mut self, deployment: &str) {
        self.0.remove(deployment);
    }

    pub(crate) fn root(&self) -> BTreeMap<String, RootCount> {
        self.0.clone()
    }

    pub(crate) fn restore(stored: &BTreeMap<String, RootCount>) -> Self {
        Self(stored.clone())
    }

    fn change(&mut self, deployment: &str, change: impl FnOnce(&mut RootCount)) -> bool {
        let before = self.0.get(deployment).copied().unwrap_or_default();
        let mut after = before;
        change(&mut after);
        if after == RootCount::default() {
            self.0.remove(deployment);
        } else {
            self.0.insert(deployment.to_owned(), after);
        }
        before != after
    }
}
