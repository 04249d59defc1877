//! Durable changes take effect: applications and deployments get their new targets.

use std::{cmp::Ordering, sync::Arc};

use eagleray_types::control::{Applied, Deployed, Empty, api_response};

use super::{Core, command::Level, event::CallId, notes};
use crate::books::{
    Books,
    application::Application,
    deployment::Deployment,
    desired::Change,
    history::Entry,
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
            Change::Delete { application, .. } => application.as_str(),
            Change::DeleteAll { .. } => "",
            Change::Serve { .. }
            | Change::Dismiss { .. }
            | Change::Route { .. }
            | Change::Settle { .. }
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
        if ends_delete {
            notes.insert(0, notes::DELETE_ENDS.to_owned());
        }

        self.books.desired.apply(change);
        let applications = self.books.applications.entry(name.to_owned());
        let application = applications.or_insert_with(|| Application::new(name));
        for (name, deployment) in &mut application.deployments {
            if let Some(target) = revision.find(name) {
                retarget(deployment, &target);
            }
        }
        application.follow(self.books.desired.plan(name));

        let short: String = revision.spec.revision.chars().take(12).collect();
        let number = record.number;
        for note in &notes {
            let message = format!("application '{name}', r{number} (revision {short}): {note}");
            self.out.log(Level::Info, message);
        }
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
                let message = format!("application '{}' is deleted", application.name);
                self.out.log(Level::Info, message);
            }
            application.follow(None);
            self.waits.on_deleted(&application.name, &mut self.out);
            self.touched.insert(application.name.clone());
        }
    }
}

/// A deployment is about to get this target: moves its status as the size of the change asks, and tries anew what had
/// failed.
fn retarget(deployment: &mut Deployment, target: &VersionSpec) {
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
        Some(before) => size_of_change(deployment, before, target),
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
) -> Option<StatusInput> {
    let count = after.options().num_replicas;
    let mut rescaled = before.options().clone();
    rescaled.num_replicas = count;
    if rescaled != *after.options() {
        return Some(StatusInput::Configured);
    }
    match deployment.wanted.target.cmp(&count) {
        Ordering::Less => Some(StatusInput::ScaledUp),
        Ordering::Greater => Some(StatusInput::ScaledDown),
        Ordering::Equal if deployment.status.status == Status::DeployFailed => {
            Some(StatusInput::Configured)
        }
        Ordering::Equal => None,
    }
}
