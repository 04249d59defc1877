//! What is known of a deployment whose number of replicas follows its load: its configuration, what was measured, and the
//! last decisions with their reasons.

use std::{collections::VecDeque, time::Duration};

use eagleray_autoscaler::{
    Bounds, Capacity, Config, Decision, Hold, Measured, Reason, State, decide,
};
use eagleray_types::control::DeploymentSpec;

use super::{policy::Policy, revision::VersionSpec};

/// Decisions that are shown.
const DECISIONS_KEPT: usize = 10;

/// The configuration of a deployment that scales; `None`: somebody states its number of replicas. One that cannot be read
/// was refused when it was deployed, so it is none either.
pub(crate) fn configured(spec: &DeploymentSpec) -> Option<Config> {
    let text = spec.autoscaling_config.as_str();
    Config::of_json(text).ok().filter(|_| !text.is_empty())
}

/// How many replicas a deployment begins with, where all of them run.
pub(crate) fn begins_with(spec: &DeploymentSpec) -> u32 {
    configured(spec).map_or(spec.options.num_replicas, |config| {
        config.initial_replicas.unwrap_or(config.min_replicas)
    })
}

/// A change of the number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decided {
    /// Wall clock, seconds.
    pub(crate) at_s: f64,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) reason: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Autoscaling {
    /// As it was deployed.
    text: String,
    pub(crate) config: Config,
    pub(crate) capacity: Capacity,
    /// What says how many are needed; `None`: the load does.
    pub(crate) policy: Option<Policy>,
    state: State,
    /// What the last look found.
    pub(crate) last: Option<(Measured, Decision)>,
    /// The last one first.
    pub(crate) decided: VecDeque<Decided>,
    /// Changes that no event has told of yet: the number before them, and when the next event may come.
    pub(crate) untold: Option<u32>,
    pub(crate) tell_at: Duration,
}

impl Autoscaling {
    /// Of a deployment whose target is this. Another configuration begins anew; the same one goes on, whatever else is new.
    pub(crate) fn follow(
        before: Option<Self>,
        target: Option<&VersionSpec>,
        capacity: Capacity,
    ) -> Option<Self> {
        let spec = target?.deployment();
        let config = configured(spec)?;
        let policy = Policy::of(target?);
        let name = |policy: &Option<Policy>| policy.as_ref().map(|one| one.name.clone());
        let same = before.filter(|before| {
            before.text == spec.autoscaling_config && name(&before.policy) == name(&policy)
        });
        same.or_else(|| {
            Some(Self {
                text: spec.autoscaling_config.clone(),
                config,
                capacity,
                policy,
                state: State::default(),
                last: None,
                decided: VecDeque::new(),
                untold: None,
                tell_at: Duration::ZERO,
            })
        })
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.config.bounds(self.capacity)
    }

    /// What is decided now. `rolls`: until an update is over the number stays.
    pub(crate) fn look(&mut self, measured: Measured, rolls: bool, now: Duration) -> &Decision {
        let bounds = self.bounds();
        let mut decision = decide(&self.config, bounds, &mut self.state, measured, now);
        if rolls && decision.replicas != measured.wanted {
            decision.replicas = measured.wanted;
            decision.reason = Reason::Kept;
            decision.hold = Some(Hold::Update);
            // The end of the update is an event.
            decision.next_look = None;
        }
        let failed = self.policy.as_ref().filter(|one| !one.error.is_empty());
        if let Some(policy) = failed.filter(|_| decision.replicas == measured.wanted) {
            decision.hold = Some(Hold::Policy(policy.error.clone()));
        }
        &self.last.insert((measured, decision)).1
    }

    /// What would be decided of the same load by another configuration. Nothing changes.
    pub(crate) fn what_if(&self, config: &Config, measured: Measured, now: Duration) -> Decision {
        let bounds = config.bounds(self.capacity);
        decide(config, bounds, &mut self.state.clone(), measured, now)
    }

    /// Requests over the look-back period, and what of them waited in routers.
    pub(crate) fn aggregated(&self) -> (f64, f64) {
        self.state.aggregated(&self.config)
    }

    /// As JSON, the stated keys.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn note(&mut self, decided: Decided) {
        self.untold.get_or_insert(decided.from);
        self.decided.push_front(decided);
        self.decided.truncate(DECISIONS_KEPT);
    }

    /// When to look again, or to tell of what was decided.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let look = self
            .last
            .as_ref()
            .and_then(|(_, decision)| decision.next_look);
        let tell = self.untold.map(|_| self.tell_at);
        look.into_iter().chain(tell).min()
    }
}
