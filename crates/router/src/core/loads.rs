//! What this router has to do of each deployment that scales, for whoever scales it.
//!
//! Nothing is counted for it: how much waits is the length of the queues, and what runs is the words in use. The path of
//! a request only *marks* the deployment, once until somebody has taken the mark: one look at a flag, twice a request.

use eagleray_types::{
    DeploymentKey,
    control::{Load, ReplicaLoad},
};
use eagleray_wire::Claims;

use super::{Core, deployment::Deployment, replica::Link, table::DeploymentIndex, waits::Waits};

/// What is to be seen of a deployment in a router.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests that wait here.
    pub queued: u32,
    /// Those that were sent and are not over.
    pub running: u32,
    /// How long they waited that were sent since the last look.
    pub waits: Waits,
}

impl<C: Claims> Core<C> {
    /// Whether the load of any deployment may have changed since it was looked at.
    pub const fn has_news_of_loads(&self) -> bool {
        !self.marked.is_empty()
    }

    /// Which those are. From here on a change is news again.
    pub fn take_marked(&mut self) -> Vec<DeploymentKey> {
        let marked = std::mem::take(&mut self.marked);
        for (index, key) in &marked {
            // Its place may be another's by now, who is marked or not by itself.
            if let Some(deployment) = self.deployments.get_mut(*index)
                && deployment.key == *key
            {
                deployment.quiet = deployment.scales;
            }
        }
        marked.into_iter().map(|(_, key)| key).collect()
    }

    /// What there is of a deployment, also of one of that name that was removed and has not ended. Nothing, if it does
    /// not scale.
    pub fn load(&self, key: &DeploymentKey) -> Load {
        let mut load = Load {
            application: key.application.clone(),
            deployment: key.deployment.clone(),
            ..Load::default()
        };
        if self.deployments.len() > self.by_key.len() {
            let named = self.deployments.iter().filter(|(_, one)| one.key == *key);
            for (_, deployment) in named {
                self.add_load(deployment, &mut load);
            }
        } else if let Some(deployment) = self
            .by_key
            .get(key)
            .and_then(|index| self.deployments.get(*index))
        {
            self.add_load(deployment, &mut load);
        }
        load
    }

    fn add_load(&self, deployment: &Deployment, load: &mut Load) {
        if !deployment.scales {
            return;
        }
        load.queued += deployment.queued_here();
        for replica in &deployment.replicas {
            let Some(replica) = self.replicas.get(*replica) else {
                continue;
            };
            let running = replica.link.as_ref().map_or(0, Link::busy);
            let models = replica.model_count() as u32;
            load.running += running;
            if running > 0 || models > 0 {
                load.replicas.push(ReplicaLoad {
                    replica_id: replica.id.clone(),
                    running,
                    models,
                });
            }
        }
    }

    /// What is to be seen of each deployment, whether it scales or not. Waits are told once.
    pub fn each_load(&mut self, mut say: impl FnMut(&DeploymentKey, Seen)) {
        for (_, deployment) in self.deployments.iter_mut() {
            let links = deployment
                .replicas
                .iter()
                .filter_map(|replica| self.replicas.get(*replica)?.link.as_ref());
            let running = links.map(Link::busy).sum();
            let seen = Seen {
                queued: deployment.queued_here(),
                running,
                waits: std::mem::take(&mut deployment.waits),
            };
            say(&deployment.key, seen);
        }
    }

    /// Of all that scale, by name: those that have been removed and not ended, too.
    pub fn scaling(&self) -> Vec<DeploymentKey> {
        let scaling = self.deployments.iter().filter(|(_, one)| one.scales);
        let mut keys: Vec<_> = scaling.map(|(_, one)| one.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Something of its load is another now.
    #[inline]
    pub(super) fn mark(&mut self, index: DeploymentIndex) {
        if let Some(deployment) = self.deployments.get_mut(index)
            && std::mem::take(&mut deployment.quiet)
        {
            self.marked.push((index, deployment.key.clone()));
        }
    }

    /// The full queue has refused a request. That is news of any deployment, whether it scales or not.
    pub(super) fn count_refused(&mut self, index: DeploymentIndex) {
        let Some(deployment) = self.deployments.get_mut(index) else {
            return;
        };
        deployment.refused = deployment.refused.saturating_add(1);
        if deployment.refused == 1 {
            deployment.quiet = false;
            self.marked.push((index, deployment.key.clone()));
        }
    }

    /// How many requests the full queue has refused, of which nobody was told. They are told now.
    pub fn take_refused(&mut self, key: &DeploymentKey) -> u32 {
        let deployment = self
            .by_key
            .get(key)
            .and_then(|index| self.deployments.get_mut(*index));
        deployment.map_or(0, |one| std::mem::take(&mut one.refused))
    }

    /// Whether it scales is another now.
    pub(super) fn set_scales(&mut self, index: DeploymentIndex, scales: bool) {
        if let Some(deployment) = self.deployments.get_mut(index)
            && std::mem::replace(&mut deployment.scales, scales) != scales
        {
            deployment.quiet = true;
            self.mark(index);
        }
    }
}
