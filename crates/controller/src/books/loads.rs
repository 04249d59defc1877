//! What routers have to do of each deployment that scales: the measure that autoscaling goes by.
//!
//! Each router says what changed, so its newest word on a deployment counts, and a deployment's load is the sum over the
//! routers that there are. A router counts until its end is seen: a proxy's is said by its node, and that of a process with
//! handles is the end of its connection. One that is stopped says nothing and keeps what it has there; that is the truth
//! about its requests.
//!
//! A controller that has just started has heard nobody. [`Loads::is_whole`] says when everybody has had the time to speak:
//! a proxy says all before it says that it has applied the first snapshot of targets, and a process with handles that has
//! lost its controller connects again within a second.

use std::{collections::BTreeMap, time::Duration};

use eagleray_types::{DeploymentKey, control};

/// In which every process with handles has found a new controller: they try once a second at least.
const RECONNECTED: Duration = Duration::from_secs(2);

/// Routers that are listened to: one of each connection, and the threads of proxies. Beyond, a new one counts nothing.
const MOST_ROUTERS: usize = 4096;
/// Of a router's name.
const MOST_NAME_BYTES: usize = 256;

/// What there is to do of one deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Requests that wait in routers.
    pub(crate) queued: u64,
    /// Requests that replicas have.
    pub(crate) running: u64,
}

/// What is known of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplicaLoad {
    pub(crate) running: u64,
    /// As the router says that knows of most.
    pub(crate) models: u32,
}

/// Where a report came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    Node,
    Connection(u64),
}

#[derive(Debug, Default)]
pub(crate) struct Loads {
    routers: BTreeMap<String, Router>,
    totals: BTreeMap<DeploymentKey, Load>,
    /// When the node had listed what lives.
    listed_at: Option<Duration>,
    proxies_have_said: bool,
}

#[derive(Debug)]
struct Router {
    /// `None`: a proxy's, of which its node speaks.
    connection: Option<u64>,
    spoke_at: Duration,
    loads: BTreeMap<DeploymentKey, control::Load>,
}

impl Loads {
    /// A router has said this, or the node of one that is gone. Returns the deployments whose load is another now.
    pub(crate) fn hear(
        &mut self,
        said: &control::Loads,
        from: Speaker,
        now: Duration,
    ) -> Vec<DeploymentKey> {
        if said.gone {
            return self.drop_named(&said.router);
        }
        let known = self.routers.contains_key(&said.router);
        if said.router.len() > MOST_NAME_BYTES || !known && self.routers.len() >= MOST_ROUTERS {
            return Vec::new();
        }
        let router = self
            .routers
            .entry(said.router.clone())
            .or_insert_with(|| Router {
                connection: None,
                spoke_at: now,
                loads: BTreeMap::new(),
            });
        router.spoke_at = now;
        router.connection = match from {
            Speaker::Node => None,
            Speaker::Connection(connection) => Some(connection),
        };
        let mut changed = Vec::new();
        if said.whole {
            let named = |key: &DeploymentKey| said.loads.iter().any(|load| key_of(load) == *key);
            let unnamed = router.loads.keys().filter(|key| !named(key)).cloned();
            let unnamed: Vec<_> = unnamed.collect();
            for key in unnamed {
                if let Some(load) = router.loads.remove(&key) {
                    change(&mut self.totals, &key, Some(&load), None);
                    changed.push(key);
                }
            }
        }
        for load in &said.loads {
            let key = key_of(load);
            let nothing = load.queued == 0 && load.running == 0 && load.replicas.is_empty();
            let before = if nothing {
                router.loads.remove(&key)
            } else {
                let kept = control::Load {
                    refused: 0,
                    ..load.clone()
                };
                router.loads.insert(key.clone(), kept)
            };
            change(&mut self.totals, &key, before.as_ref(), Some(load));
            changed.push(key);
        }
        changed
    }

    /// A connection has ended, and with it the router that spoke on it last.
    pub(crate) fn on_connection_gone(&mut self, connection: u64) -> Vec<DeploymentKey> {
        self.drop_where(|_, router| router.connection == Some(connection))
    }

    /// What there is to do of a deployment.
    pub(crate) fn of(&self, key: &DeploymentKey) -> Load {
        self.totals.get(key).copied().unwrap_or_default()
    }

    /// What is known of the replicas of a deployment, by their ids; one that is not there has nothing to do.
    pub(crate) fn replicas_of(&self, key: &DeploymentKey) -> BTreeMap<&str, ReplicaLoad> {
        let mut replicas: BTreeMap<&str, ReplicaLoad> = BTreeMap::new();
        for load in self
            .routers
            .values()
            .filter_map(|router| router.loads.get(key))
        {
            for one in &load.replicas {
                let known = replicas.entry(&one.replica_id).or_default();
                known.running += u64::from(one.running);
                known.models = known.models.max(one.models);
            }
        }
        replicas
    }

    /// The routers that have something of a deployment, and when each spoke last.
    pub(crate) fn routers_of(&self, key: &DeploymentKey) -> impl Iterator<Item = (&str, Duration)> {
        let routers = self.routers.iter();
        routers
            .filter(|(_, router)| router.loads.contains_key(key))
            .map(|(name, router)| (name.as_str(), router.spoke_at))
    }

    /// The node has listed what lives: from here on routers find this controller.
    pub(crate) fn on_listed(&mut self, now: Duration) {
        self.listed_at.get_or_insert(now);
    }

    /// The proxy has applied a snapshot of this controller, before which it says what it has.
    pub(crate) fn on_applied(&mut self) {
        self.proxies_have_said = true;
    }

    /// Whether everybody who may have something to do of a deployment has said so. Before, a load that looks small may
    /// only be one that was not heard of.
    pub(crate) fn is_whole(&self, now: Duration) -> bool {
        self.proxies_have_said && self.whole_at().is_some_and(|at| at <= now)
    }

    /// When [`Loads::is_whole`] may become true; `None`: the node has not listed what lives.
    pub(crate) fn whole_at(&self) -> Option<Duration> {
        Some(self.listed_at? + RECONNECTED)
    }

    /// `proxy 10` is all of `proxy 10/0`, `proxy 10/1`.
    fn drop_named(&mut self, name: &str) -> Vec<DeploymentKey> {
        let is_part = |of: &str| {
            let rest = of.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.drop_where(|of, _| is_part(of))
    }

    fn drop_where(&mut self, is_gone: impl Fn(&str, &Router) -> bool) -> Vec<DeploymentKey> {
        let mut changed = Vec::new();
        let totals = &mut self.totals;
        self.routers.retain(|name, router| {
            let gone = is_gone(name, router);
            if gone {
                for (key, load) in &router.loads {
                    change(totals, key, Some(load), None);
                    changed.push(key.clone());
                }
            }
            !gone
        });
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

fn key_of(load: &control::Load) -> DeploymentKey {
    DeploymentKey::new(load.application.as_str(), load.deployment.as_str())
}

fn change(
    totals: &mut BTreeMap<DeploymentKey, Load>,
    key: &DeploymentKey,
    before: Option<&control::Load>,
    after: Option<&control::Load>,
) {
    let total = totals.entry(key.clone()).or_default();
    if let Some(before) = before {
        total.queued = total.queued.saturating_sub(before.queued.into());
        total.running = total.running.saturating_sub(before.running.into());
    }
    if let Some(after) = after {
        total.queued += u64::from(after.queued);
        total.running += u64::from(after.running);
    }
    if *total == Load::default() {
        totals.remove(key);
    }
}

#[cfg(test)]
mod tests;
