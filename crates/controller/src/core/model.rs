//! What the core remembers: applications, their revisions, deployments and attempts to start.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use eagleray_types::{
    DeploymentKey,
    control::{ApplicationSpec, DeploymentOptions, DeploymentSpec, Route},
};
use prost::Message as _;

use super::{
    backoff::{Attempts, SETTLED, STABLE},
    replica::Replica,
    status::StatusInfo,
};
use crate::store::sha256_hex;

/// One immutable state of an application, with the name of the blob that keeps it.
#[derive(Debug, PartialEq)]
pub struct Revision {
    pub spec: ApplicationSpec,
    /// Hex SHA-256 of the encoded spec.
    pub blob: String,
}

impl Revision {
    pub fn new(spec: ApplicationSpec) -> Self {
        let blob = sha256_hex(&spec.encode_to_vec());
        Self { spec, blob }
    }

    pub(crate) fn find(self: &Arc<Self>, deployment: &str) -> Option<VersionSpec> {
        let index = self
            .spec
            .deployments
            .iter()
            .position(|spec| spec.name == deployment)?;
        Some(VersionSpec {
            revision: Arc::clone(self),
            index,
        })
    }

    /// The names of every file that a replica of this revision needs.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        let callables = self
            .spec
            .deployments
            .iter()
            .map(|spec| spec.callable_blob.as_str());
        callables
            .chain([self.spec.code_blob.as_str()])
            .filter(|name| !name.is_empty())
    }
}

/// One deployment of one revision.
#[derive(Clone, Debug)]
pub(crate) struct VersionSpec {
    revision: Arc<Revision>,
    index: usize,
}

impl VersionSpec {
    pub(crate) fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    pub(crate) fn application(&self) -> &ApplicationSpec {
        &self.revision.spec
    }

    pub(crate) fn deployment(&self) -> &DeploymentSpec {
        &self.revision.spec.deployments[self.index]
    }

    pub(crate) fn version(&self) -> &str {
        &self.deployment().version
    }

    pub(crate) fn options(&self) -> &DeploymentOptions {
        &self.deployment().options
    }

    pub(crate) fn same_revision(&self, other: &Self) -> bool {
        self.revision.blob == other.revision.blob
    }
}

#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) name: String,
    /// `None`: being deleted.
    pub(crate) target: Option<Arc<Revision>>,
    /// Oldest first; the last is the target.
    pub(crate) history: Vec<Arc<Revision>>,
    pub(crate) deployed_at_s: f64,
    /// Where it is reachable now. It follows the target once the target's ingress can answer.
    pub(crate) route: Option<Route>,
    pub(crate) deployments: BTreeMap<String, Deployment>,
}

impl Application {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            target: None,
            history: Vec::new(),
            deployed_at_s: 0.0,
            route: None,
            deployments: BTreeMap::new(),
        }
    }

    pub(crate) fn deleting(&self) -> bool {
        self.target.is_none()
    }
}

#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) key: DeploymentKey,
    /// What shall run; `None`: the newest revision has no such deployment.
    pub(crate) target: Option<VersionSpec>,
    /// What ran last at full size. While the target is not there, this is kept at full size.
    pub(crate) serving: Option<VersionSpec>,
    pub(crate) replicas: BTreeMap<String, Replica>,
    /// By version, for the versions that matter now.
    pub(crate) attempts: BTreeMap<String, Attempts>,
    pub(crate) status: StatusInfo,
}

impl Deployment {
    pub(crate) fn new(key: DeploymentKey) -> Self {
        Self {
            key,
            target: None,
            serving: None,
            replicas: BTreeMap::new(),
            attempts: BTreeMap::new(),
            status: StatusInfo::new(),
        }
    }

    pub(crate) fn attempts_of(&mut self, version: &str) -> &mut Attempts {
        self.attempts.entry(version.to_owned()).or_default()
    }

    pub(crate) fn target_attempts(&self) -> Option<&Attempts> {
        self.attempts.get(self.target.as_ref()?.version())
    }

    pub(crate) fn is_target(&self, version: &str) -> bool {
        self.target
            .as_ref()
            .is_some_and(|target| target.version() == version)
    }

    /// A replica refused the `user_config` of the target.
    pub(crate) fn is_refused(&self) -> bool {
        self.target_attempts()
            .is_some_and(|attempts| attempts.config_refused)
    }

    /// What becomes of a replica of `version` is said in the status. Not of one that keeps serving after a change that
    /// was refused: the status says why that was.
    pub(crate) fn speaks_for(&self, version: &str) -> bool {
        self.is_target(version) && !self.is_refused()
    }

    /// What shall run of the target's version: the target, or what it had before, when its `user_config` was refused.
    pub(crate) fn wanted(&self) -> Option<&VersionSpec> {
        let target = self.target.as_ref()?;
        let before = self
            .serving
            .as_ref()
            .filter(|serving| self.is_refused() && serving.version() == target.version());
        Some(before.unwrap_or(target))
    }

    /// The serving version, when it is another than the target's.
    pub(crate) fn fallback(&self) -> Option<&VersionSpec> {
        self.serving
            .as_ref()
            .filter(|serving| !self.is_target(serving.version()))
    }

    /// What routers are told of queue bounds and such: of the version that answers.
    pub(crate) fn answering(&self) -> Option<&VersionSpec> {
        let proven = self
            .target_attempts()
            .is_some_and(|attempts| attempts.proven);
        match (self.wanted(), self.serving.as_ref()) {
            (Some(target), Some(serving)) => Some(if proven { target } else { serving }),
            (target, serving) => target.or(serving),
        }
    }

    /// Replicas that serve, as `spec` wants them.
    pub(crate) fn running(&self, spec: &VersionSpec) -> usize {
        let running = |replica: &&Replica| {
            replica.state == super::ReplicaState::Running
                && replica.spec.version() == spec.version()
                && replica.config.is(&spec.options().user_config)
        };
        self.replicas.values().filter(running).count()
    }

    pub(crate) fn routable(&self) -> impl Iterator<Item = &Replica> {
        self.replicas
            .values()
            .filter(|replica| replica.state.routable())
    }

    /// A replica that was ready at the second time has run long enough, at the first, to end the crash loop of
    /// `version`. `None`: there is no loop, or no such replica.
    pub(crate) fn crash_loop_over_at(&self, version: &str) -> Option<(Duration, Duration)> {
        let since = self.attempts.get(version)?.crash_loop.as_ref()?.since;
        self.routable()
            .filter(|replica| replica.spec.version() == version)
            .filter_map(|replica| replica.ready_at.filter(|at| *at > since))
            .map(|ready_at| (ready_at + STABLE, ready_at))
            .min()
    }

    /// Replicas of `version` that are on trial: they start, or run since a moment of its crash loop.
    pub(crate) fn young(&self, version: &str, now: Duration) -> usize {
        let since = self
            .attempts
            .get(version)
            .and_then(|attempts| attempts.crash_loop.as_ref())
            .map(|known| known.since);
        let young = |replica: &&Replica| match (replica.state, replica.ready_at) {
            (super::ReplicaState::Starting, _) => true,
            (state, Some(ready_at)) => {
                state.routable() && since.is_none_or(|at| ready_at > at) && now < ready_at + STABLE
            }
            (_, None) => false,
        };
        self.replicas
            .values()
            .filter(|replica| replica.spec.version() == version)
            .filter(young)
            .count()
    }

    /// When a replica of `version` that runs has run, or will have run, for [`SETTLED`].
    fn settled_at(&self, version: &str) -> Option<Duration> {
        self.routable()
            .filter(|replica| replica.spec.version() == version)
            .filter_map(|replica| Some(replica.ready_at? + SETTLED))
            .min()
    }

    pub(crate) fn has_settled(&self, version: &str, now: Duration) -> bool {
        self.settled_at(version).is_some_and(|at| at <= now)
    }

    /// Waits and crash loops that are over. Returns whether there were any.
    pub(crate) fn time_passes(&mut self, now: Duration) -> bool {
        let proofs: Vec<(String, Duration)> = self
            .attempts
            .keys()
            .filter_map(|version| {
                let (_, ready_at) = self
                    .crash_loop_over_at(version)
                    .filter(|(at, _)| *at <= now)?;
                Some((version.clone(), ready_at))
            })
            .collect();
        let mut news = !proofs.is_empty();
        for (version, ready_at) in proofs {
            self.attempts_of(&version).ran(ready_at);
        }
        let settled: Vec<String> = self
            .slowed()
            .filter(|version| self.has_settled(version, now))
            .cloned()
            .collect();
        for version in settled {
            self.attempts_of(&version).slowed = None;
            news = true;
        }
        for attempts in self.attempts.values_mut() {
            news |= attempts.next_start.take_if(|at| *at <= now).is_some();
        }
        news
    }

    /// Versions of which not all start again before one has settled.
    fn slowed(&self) -> impl Iterator<Item = &String> {
        self.attempts
            .iter()
            .filter(|(_, attempts)| attempts.slowed.is_some())
            .map(|(version, _)| version)
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let health = self
            .replicas
            .values()
            .filter(|replica| !replica.condition.is_hung())
            .filter_map(|replica| {
                let (options, checked) = (replica.spec.options(), replica.is_checked());
                replica.health.next_timeout(options, checked)
            });
        let hung = self.replicas.values().filter_map(Replica::hang_ends_at);
        let starts = self
            .attempts
            .values()
            .filter_map(|attempts| attempts.next_start);
        let proofs = self
            .attempts
            .keys()
            .filter_map(|version| self.crash_loop_over_at(version));
        health
            .chain(hung)
            .chain(starts)
            .chain(proofs.map(|(at, _)| at))
            .chain(self.slowed().filter_map(|version| self.settled_at(version)))
            .min()
    }
}
