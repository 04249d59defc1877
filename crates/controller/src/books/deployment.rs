//! One deployment: what shall run, what runs, and what is known of starting it.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    time::Duration,
};

use eagleray_autoscaler::Capacity;
use eagleray_types::DeploymentKey;

use super::{
    attempts::{Attempts, Round, SETTLED, STABLE},
    autoscaling::{Autoscaling, begins_with},
    cold_start::ColdStart,
    dead::{DEAD_KEPT, Dead},
    desired::Plan,
    refusals::Refusals,
    replica::Replica,
    replica_state::ReplicaState,
    revision::VersionSpec,
    status::{Status, StatusInfo, StatusInput, Trigger},
    trial::Trial,
};

/// How many replicas should run: the one place that says so.
///
/// It begins with what the plan says: what somebody asked for, or else `num_replicas` of the options. Who scales a
/// deployment later calls [`Deployment::scale`]; what shall outlive the controller is a change of the plan too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Of the target.
    pub(crate) target: u32,
    /// Of what serves, while that is another: as many as the target had when it served.
    pub(crate) serving: u32,
}

/// What the newest revision had of a deployment, and why the application was rolled back.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) spec: VersionSpec,
    /// As they were then.
    pub(crate) attempts: Attempts,
}

#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) key: DeploymentKey,
    /// What shall run; `None`: the revision that shall run has no such deployment. As the plan has it.
    pub(crate) target: Option<VersionSpec>,
    /// The application was rolled back because of this one. Its status speaks of that until the next deploy, while what
    /// ran before runs again.
    pub(crate) failed: Option<Failed>,
    /// What ran last at full size. While the target is not there, this is kept at full size. As the plan has it.
    pub(crate) serving: Option<VersionSpec>,
    pub(crate) wanted: Wanted,
    pub(crate) replicas: BTreeMap<String, Replica>,
    /// By version, for the versions that matter now.
    pub(crate) attempts: BTreeMap<String, Attempts>,
    pub(crate) status: StatusInfo,
    /// The last to die first.
    pub(crate) dead: VecDeque<Dead>,
    pub(crate) cold_start: ColdStart,
    /// `None`: how many are wanted does not follow its load.
    pub(crate) autoscaling: Option<Autoscaling>,
    /// Which share of its replicas shall run. As the plan has it.
    pub(crate) capacity: Capacity,
    pub(crate) refusals: Option<Refusals>,
    /// An update keeps no more old replicas than this, since new ones do not fit beside them; `None`: they do.
    pub(crate) old_limit: Option<usize>,
    /// What replicas that were started import, while the node may fork others from what has imported it.
    pub(crate) imports: BTreeSet<String>,
}

impl Deployment {
    pub(crate) fn new(key: DeploymentKey) -> Self {
        Self {
            key,
            target: None,
            failed: None,
            serving: None,
            wanted: Wanted::default(),
            replicas: BTreeMap::new(),
            attempts: BTreeMap::new(),
            status: StatusInfo::new(),
            dead: VecDeque::new(),
            cold_start: ColdStart::default(),
            autoscaling: None,
            capacity: Capacity::default(),
            refusals: None,
            old_limit: None,
            imports: BTreeSet::new(),
        }
    }

    /// What shall run of it is what the plan says; without a plan, nothing.
    pub(crate) fn follow(&mut self, plan: Option<&Plan>) {
        let name = self.key.deployment.as_str();
        let target = plan.and_then(|plan| plan.aim().find(name));
        if plan.is_none_or(|plan| plan.rolled_back_to.is_none()) {
            self.failed = None;
        }
        if target.is_none() && self.target.is_some() && self.failed.is_none() {
            self.status.on(StatusInput::Delete, "");
        }
        let serving = plan.and_then(|plan| plan.serving(name));
        let before = (
            mem::replace(&mut self.target, target),
            mem::replace(&mut self.serving, serving),
        );
        if self.target.is_none() {
            self.autoscaling = None;
        }
        self.end_trials_of_serving();
        let Some(plan) = plan else { return };
        self.resize(plan);
        if let Some(target) = news(before.0.as_ref(), self.target.as_ref()) {
            self.old_limit = None;
            let served = before.1.as_ref();
            let returns = plan.rolled_back_to.is_some()
                && served.is_some_and(|served| served.same_revision(target));
            self.scale(if returns {
                self.wanted.serving
            } else {
                plan.wanted(self.key.deployment.as_str())
            });
            let before = self.autoscaling.take();
            self.autoscaling = Autoscaling::follow(before, self.target.as_ref(), plan.capacity);
        }
        if let Some(serving) = news(before.1.as_ref(), self.serving.as_ref()) {
            let target = self.target.as_ref();
            self.wanted.serving = if target.is_some_and(|one| one.same_revision(serving)) {
                self.wanted.target
            } else {
                plan.wanted_serving(self.key.deployment.as_str())
            };
        }
    }

    /// Another share of its replicas shall run. Where their number follows the load, the next look keeps it within bounds.
    fn resize(&mut self, plan: &Plan) {
        if std::mem::replace(&mut self.capacity, plan.capacity) == plan.capacity {
            return;
        }
        if let Some(autoscaling) = &mut self.autoscaling {
            autoscaling.capacity = plan.capacity;
            return;
        }
        let before = self.wanted.target;
        let name = self.key.deployment.as_str();
        self.wanted.target = plan.wanted(name);
        self.wanted.serving = plan.wanted_serving(name);
        let input = match before.cmp(&self.wanted.target) {
            Ordering::Less => StatusInput::ScaledUp,
            Ordering::Greater => StatusInput::ScaledDown,
            Ordering::Equal => return,
        };
        self.status.on(input, "");
    }

    /// What has run at full size is not tried.
    fn end_trials_of_serving(&mut self) {
        let Some(serving) = &self.serving else { return };
        for replica in self.replicas.values_mut() {
            if replica.spec.version() == serving.version() {
                replica.trial.end();
            }
        }
    }

    /// Of a replica of `spec` that is ready now.
    pub(crate) fn trial_of(&self, spec: &VersionSpec, now: Duration) -> Trial {
        let version = spec.version();
        let serves = self.serving.as_ref();
        let has_served = serves.is_some_and(|serving| serving.version() == version);
        if self.is_target(version) && !has_served {
            Trial::begin(now, spec.options())
        } else {
            Trial::default()
        }
    }

    /// In the midst of a deploy: the target does not come up, or what comes up of it dies again and again, which is not the
    /// deploy's doing if `before` is the same version.
    pub(crate) fn is_hopeless(&self, before: Option<&VersionSpec>) -> bool {
        let loops = || {
            let attempts = self.target_attempts();
            attempts.is_some_and(|one| one.crash_loop.is_some())
        };
        match self.status.status {
            Status::DeployFailed => true,
            Status::Unhealthy => {
                loops() && before.is_none_or(|before| !self.is_target(before.version()))
            }
            Status::Updating | Status::Healthy | Status::Upscaling | Status::Downscaling => false,
        }
    }

    /// The target has failed, and its application is rolled back to where `before` was whole.
    pub(crate) fn fail(&mut self, before: Option<&VersionSpec>) {
        let message = self.status.message.clone();
        self.status.on(StatusInput::TakenBack, message);
        if let Some(spec) = self.target.clone() {
            let attempts = self.attempts.remove(spec.version()).unwrap_or_default();
            self.failed = Some(Failed { spec, attempts });
        }
        if let Some(before) = before {
            self.attempts_of(before.version()).proven = true;
        }
    }

    /// A deploy, or somebody's word, has not come true yet. What its load asks for is no deploy.
    pub(crate) fn is_deploying(&self) -> bool {
        let StatusInfo {
            status, trigger, ..
        } = &self.status;
        let scales = matches!(status, Status::Upscaling | Status::Downscaling);
        let stated = scales && *trigger != Trigger::Autoscaling;
        self.target.is_some() && (*status == Status::Updating || stated)
    }

    /// From now on so many replicas of the target are wanted.
    pub(crate) fn scale(&mut self, count: u32) {
        self.wanted.target = count;
        if let (Some(target), Some(serving)) = (&self.target, &self.serving)
            && target.same_revision(serving)
        {
            self.wanted.serving = count;
        }
    }

    /// The load asks for so many. After an update that was given up, it is what serves that has the load.
    pub(crate) fn autoscale(&mut self, count: u32) {
        self.wanted.target = count;
        if self.serving.is_some() {
            self.wanted.serving = count;
        }
    }

    /// How many replicas of the version of `spec` are wanted. One that was overtaken keeps what it was deployed with.
    pub(crate) fn wanted_of(&self, spec: &VersionSpec) -> u32 {
        let version = spec.version();
        if self.is_target(version) && !self.is_held_back() {
            self.wanted.target
        } else if self
            .serving
            .as_ref()
            .is_some_and(|one| one.version() == version)
        {
            self.wanted.serving
        } else {
            self.capacity.of(begins_with(spec.deployment()))
        }
    }

    /// By what failures of the version of `spec` are counted.
    pub(crate) fn round_of(&self, spec: &VersionSpec) -> Round {
        Round {
            wanted: self.wanted_of(spec),
            retries: if self.old_limit.is_some() && self.is_target(spec.version()) {
                // Fewer replicas than are wanted run while it is tried.
                1
            } else {
                spec.options().max_constructor_retry_count
            },
        }
    }

    /// A replica is gone; how it ended is shown for a while.
    pub(crate) fn bury(&mut self, dead: Dead) {
        self.dead.push_front(dead);
        self.dead.truncate(DEAD_KEPT);
    }

    /// What has run at full size has been ready.
    pub(crate) fn trust_serving(&mut self) {
        if let Some(serving) = self.serving.clone() {
            self.attempts_of(serving.version()).proven = true;
        }
    }

    /// For assertions: nothing has changed it but [`Deployment::follow`].
    pub(crate) fn follows(&self, plan: Option<&Plan>) -> bool {
        let name = self.key.deployment.as_str();
        let blob =
            |spec: &Option<VersionSpec>| spec.as_ref().map(|one| one.revision().blob.clone());
        blob(&self.target) == blob(&plan.and_then(|plan| plan.aim().find(name)))
            && blob(&self.serving) == blob(&plan.and_then(|plan| plan.serving(name)))
    }

    /// A replica that the register says is here, or whose id was just read here.
    pub(crate) fn replica_mut(&mut self, id: &str) -> Option<&mut Replica> {
        let replica = self.replicas.get_mut(id);
        debug_assert!(replica.is_some(), "{} has no replica {id}", self.key);
        replica
    }

    pub(crate) fn attempts_of(&mut self, version: &str) -> &mut Attempts {
        self.attempts.entry(version.to_owned()).or_default()
    }

    pub(crate) fn target_attempts(&self) -> Option<&Attempts> {
        self.attempts.get(self.target.as_ref()?.version())
    }

    /// What its status speaks of: of the target, or of what has failed in its place.
    pub(crate) fn judged(&self) -> Option<(&VersionSpec, Option<&Attempts>)> {
        match (&self.failed, &self.target) {
            (Some(failed), _) => Some((&failed.spec, Some(&failed.attempts))),
            (None, Some(target)) => Some((target, self.attempts.get(target.version()))),
            (None, None) => None,
        }
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
        self.is_target(version) && !self.is_refused() && self.failed.is_none()
    }

    /// The target's `user_config` was refused, and there is the one before it to keep.
    fn is_held_back(&self) -> bool {
        let serving = self.serving.as_ref();
        self.is_refused() && serving.is_some_and(|serving| self.is_target(serving.version()))
    }

    /// What shall run of the target's version: the target, or what it had before, when its `user_config` was refused.
    pub(crate) fn aim(&self) -> Option<&VersionSpec> {
        let target = self.target.as_ref()?;
        let before = self.serving.as_ref().filter(|_| self.is_held_back());
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
        match (self.aim(), self.serving.as_ref()) {
            (Some(target), Some(serving)) => Some(if proven { target } else { serving }),
            (target, serving) => target.or(serving),
        }
    }

    /// How many replicas it has follows from its load.
    pub(crate) fn scales(&self) -> bool {
        self.answering().is_some_and(VersionSpec::scales)
    }

    /// Replicas that serve, as `spec` wants them.
    pub(crate) fn running(&self, spec: &VersionSpec) -> usize {
        let running = |replica: &&Replica| {
            replica.state == ReplicaState::Running
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
            (ReplicaState::Starting, _) => true,
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
        news |= self.end_trials(now);
        news |= self.cold_start.time_passes(now);
        for attempts in self.attempts.values_mut() {
            news |= attempts.next_start.take_if(|at| *at <= now).is_some();
        }
        news
    }

    /// Returns whether there were any to end.
    fn end_trials(&mut self, now: Duration) -> bool {
        let mut proven = BTreeSet::new();
        for replica in self.replicas.values_mut() {
            if replica.trial_over_at().is_some_and(|at| at <= now) {
                replica.trial.end();
                proven.insert(replica.spec.version().to_owned());
            }
        }
        for version in &proven {
            self.attempts_of(version).proven = true;
        }
        !proven.is_empty()
    }

    /// Versions of which not all start again before one has settled.
    fn slowed(&self) -> impl Iterator<Item = &String> {
        self.attempts
            .iter()
            .filter(|(_, attempts)| attempts.slowed.is_some())
            .map(|(version, _)| version)
    }

    /// When [`Deployment::time_passes`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let starts = self
            .attempts
            .values()
            .filter_map(|attempts| attempts.next_start);
        let proofs = self
            .attempts
            .keys()
            .filter_map(|version| self.crash_loop_over_at(version));
        starts
            .chain(proofs.map(|(at, _)| at))
            .chain(self.slowed().filter_map(|version| self.settled_at(version)))
            .chain(self.replicas.values().filter_map(Replica::trial_over_at))
            .chain(self.cold_start.overdue_at())
            .chain(
                self.autoscaling
                    .as_ref()
                    .and_then(Autoscaling::next_timeout),
            )
            .min()
    }
}

/// `after`, when that is of another revision than `before`.
fn news<'a>(
    before: Option<&VersionSpec>,
    after: Option<&'a VersionSpec>,
) -> Option<&'a VersionSpec> {
    after.filter(|after| !before.is_some_and(|before| before.same_revision(after)))
}
