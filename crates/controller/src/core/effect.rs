//! Durable changes take effect: applications and deployments get their new targets.

use std::{cmp::Ordering, sync::Arc};

use eagleray_autoscaler::Capacity;
use eagleray_types::{
    DeploymentKey,
    control::{Applied, Deployed, Empty, api_response},
};

use super::{
    Core,
    command::Level,
    event::CallId,
    notes,
    outbox::{About, EventLevel},
    rollback,
};
use crate::books::{
    Books,
    application::Application,
    deployment::Deployment,
    desired::Change,
    events::EventKind,
    history::{Entry, Record},
    revision::{Revision, VersionSpec},
    status::{Status, StatusInput},
};

/// A change that a client asked for.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) call: CallId,
    pub(super) change: Change,
    pub(super) answer: Answer,
}

/// When the client hears of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// It is accepted, and will come true.
    AtOnce,
    /// What goes is gone.
    WhenGone,
    /// It is accepted, and this is what that means.
    Applied(Applied),
}

impl Core {
    pub(super) fn take_effect(&mut self, pending: Pending) {
        let Pending {
            call,
            change,
            answer,
        } = pending;
        let gone = match &change {
            Change::Deploy { revision, entry } => {
                let deployed = self.deploy(&change, revision, entry);
                return self.out.reply(call, api_response::Body::Deployed(deployed));
            }
            Change::Declared { step, beside } => return self.declared(call, step, beside, answer),
            Change::Scale {
                deployment,
                replicas,
            } => {
                self.scale(&change, deployment, *replicas);
                return self.out.reply(call, api_response::Body::Done(Empty {}));
            }
            Change::Delete { application, .. } => application.as_str(),
            Change::DeleteAll { .. } => "",
            Change::Serve { .. }
            | Change::RollBack { .. }
            | Change::Autoscale { .. }
            | Change::Dismiss { .. }
            | Change::Route { .. }
            | Change::Settle { .. }
            | Change::Trim { .. }
            | Change::Forget { .. } => {
                debug_assert!(false, "no client asks for {change:?}");
                return;
            }
        };
        self.delete(&change);
        match answer {
            Answer::AtOnce | Answer::Applied(_) => {
                self.out.reply(call, api_response::Body::Done(Empty {}));
            }
            Answer::WhenGone => self.waits.until_gone(call, gone.to_owned(), &mut self.out),
        }
    }

    pub(super) fn deploy(
        &mut self,
        change: &Change,
        revision: &Arc<Revision>,
        entry: &Arc<Entry>,
    ) -> Deployed {
        let name = revision.spec.name.as_str();
        let record = &entry.record;
        let ends_delete = self.books.is_deleting(name);
        let planned = record.receipt.iter().flat_map(|one| &one.deployments);
        let mut notes: Vec<String> = planned.map(notes::note).collect();
        if record.rollback_of != 0 {
            let history = self.books.desired.history(name);
            let before = history.and_then(|history| history.last());
            notes.extend(before.into_iter().flat_map(|before| {
                rollback::warnings(&before.revision.spec, &revision.spec, record.rollback_of)
            }));
        }
        if ends_delete {
            notes.insert(0, notes::DELETE_ENDS.to_owned());
        }

        self.books.desired.apply(change);
        let applications = self.books.applications.entry(name.to_owned());
        let application = applications.or_insert_with(|| Application::new(name));
        let plan = self.books.desired.plan(name);
        for (name, deployment) in &mut application.deployments {
            if let (Some(target), Some(plan)) = (revision.find(name), plan) {
                retarget(deployment, &target, plan.wanted(name));
            }
        }
        application.follow(plan);
        application.ending = None;

        let short: String = revision.spec.revision.chars().take(12).collect();
        let number = record.number;
        for note in &notes {
            let message = format!("application '{name}', r{number} (revision {short}): {note}");
            self.out.log(Level::Info, message);
        }
        let back = match record.rollback_of {
            0 => String::new(),
            number => format!(", back to r{number}"),
        };
        let message = format!("r{number}{back}: {}", notes.join("; "));
        let about = About::application(name);
        self.out
            .event(EventKind::Deploy, EventLevel::Info, about, &message);
        let deployed = Deployed {
            revision: revision.spec.revision.clone(),
            notes,
            number,
            rollback_of: record.rollback_of,
        };
        self.waits
            .on_deployed(&self.books, name, ends_delete, &mut self.out);
        self.touched.insert(name.to_owned());
        deployed
    }

    /// The newest revision of an application has failed: all of its deployments go back together, those that did come up
    /// included, so that no request meets two revisions for longer than the way back takes.
    pub(super) fn roll_back(&mut self, name: &str, to: &Arc<Revision>) {
        self.learn(&Change::RollBack {
            application: name.to_owned(),
            revision: Arc::clone(to),
        });
        let plan = self.books.desired.plan(name);
        let (Some(plan), Some(application)) = (plan, self.books.applications.get_mut(name)) else {
            return;
        };
        for (name, deployment) in &mut application.deployments {
            let target = to.find(name);
            if deployment.is_hopeless(target.as_ref()) {
                deployment.fail(target.as_ref());
            } else if let Some(target) = target {
                retarget(deployment, &target, plan.wanted(name));
            }
        }
        application.follow(Some(plan));
        let number = |record: Option<&Record>| record.map_or(0, Record::number);
        let message = format!(
            "r{} did not come up; every deployment goes back to r{}",
            number(plan.history.last()),
            number(plan.aimed_at())
        );
        let about = About::application(name);
        self.out
            .event(EventKind::Deploy, EventLevel::Warning, about, &message);
        self.out
            .log(Level::Warning, format!("application '{name}', {message}"));
        self.touched.insert(name.to_owned());
    }

    fn scale(&mut self, change: &Change, key: &DeploymentKey, replicas: u32) {
        self.books.desired.apply(change);
        let plan = self.books.plan(&key.application);
        let replicas = plan.map_or(replicas, |plan| plan.wanted(&key.deployment));
        let Some(deployment) = self.books.deployment_mut(key) else {
            return;
        };
        let before = deployment.wanted.target;
        let input = match before.cmp(&replicas) {
            Ordering::Less => StatusInput::ScaledUp,
            Ordering::Greater => StatusInput::ScaledDown,
            Ordering::Equal => return,
        };
        deployment.status.on(input, "");
        deployment.scale(replicas);
        let message = format!("scaled from {before} to {replicas} replica(s)");
        let about = About::deployment(key);
        self.out
            .event(EventKind::Scale, EventLevel::Info, about, &message);
        let message = format!("{key} is {message}");
        self.out.log(Level::Info, message);
        self.touched.insert(key.application.clone());
    }

    /// Another share of all replicas shall run, unless it is as `before`.
    pub(super) fn resize(&mut self, before: Capacity) {
        let capacity = self.books.desired.declared.capacity();
        if capacity == before {
            return;
        }
        self.books.desired.resize();
        let Books {
            desired,
            applications,
            ..
        } = &mut self.books;
        for (name, application) in applications {
            application.follow(desired.plan(name));
        }
        self.touch_all();
        let words = |capacity: Capacity| {
            let percent = capacity.percent;
            percent.map_or_else(|| "none, so all".to_owned(), |one| format!("{one} %"))
        };
        let message = format!(
            "target_capacity was {} and is {}: so much of all replicas shall run",
            words(before),
            words(capacity)
        );
        self.out.event(
            EventKind::Config,
            EventLevel::Info,
            About::default(),
            &message,
        );
        self.out.log(Level::Info, message);
    }

    pub(super) fn delete(&mut self, change: &Change) {
        let Books {
            desired,
            applications,
            ..
        } = &mut self.books;
        desired.apply(change);
        let unplanned = |one: &&mut Application| desired.plan(&one.name).is_none();
        for application in applications.values_mut().filter(unplanned) {
            let mut deployments = application.deployments.values();
            if deployments.any(|one| one.target.is_some()) {
                let about = About::application(&application.name);
                self.out
                    .event(EventKind::Deploy, EventLevel::Info, about, "deleted");
                let message = format!("application '{}' is deleted", application.name);
                self.out.log(Level::Info, message);
            }
            application.follow(None);
            self.waits.on_deleted(&application.name, &mut self.out);
            self.touched.insert(application.name.clone());
        }
    }
}

/// A deployment is about to get this target, with so many replicas: moves its status as the size of the change asks, and
/// tries anew what had failed.
fn retarget(deployment: &mut Deployment, target: &VersionSpec, wanted: u32) {
    let version = target.version();
    let proven_before = deployment
        .serving
        .as_ref()
        .is_some_and(|serving| serving.version() == version)
        || deployment
            .routable()
            .any(|replica| replica.spec.version() == version);
    let attempts = deployment.attempts_of(version);
    let gave_up = attempts.gave_up;
    attempts.reset();
    attempts.proven |= proven_before;

    let before = deployment
        .target
        .as_ref()
        .filter(|before| before.version() == version && !gave_up);
    let input = match before {
        Some(before) => size_of_change(deployment, before, target, wanted),
        None => Some(StatusInput::Configured),
    };
    if let Some(input) = input {
        deployment.status.on(input, "");
    }
    let serving = deployment.serving.as_ref().map(VersionSpec::version);
    deployment
        .attempts
        .retain(|known, _| known == version || Some(known.as_str()) == serving);
}

/// What the status hears of a target of the same version; `None`: nothing.
fn size_of_change(
    deployment: &Deployment,
    before: &VersionSpec,
    after: &VersionSpec,
    wanted: u32,
) -> Option<StatusInput> {
    // It is tried anew.
    if deployment.status.status == Status::DeployFailed {
        return Some(StatusInput::Configured);
    }
    let mut rescaled = before.options().clone();
    rescaled.num_replicas = after.options().num_replicas;
    if rescaled != *after.options() {
        return Some(StatusInput::Configured);
    }
    match deployment.wanted.target.cmp(&wanted) {
        Ordering::Less => Some(StatusInput::ScaledUp),
        Ordering::Greater => Some(StatusInput::ScaledDown),
        Ordering::Equal => None,
    }
}
