//! Durable changes take effect: applications and deployments get their new targets.

use std::sync::Arc;

use eagleray_types::{
    DeploymentKey,
    control::{ApplicationSpec, Deployed, Empty, api_response},
};

use super::{Core, REVISIONS_KEPT, command::Level, event::CallId, notes, requests::Change};
use crate::books::{
    application::Application,
    deployment::Deployment,
    revision::{Revision, VersionSpec},
    status::{Status, StatusInput},
};

impl Core {
    pub(super) fn take_effect(&mut self, change: Change) {
        match change {
            Change::Deploy {
                call,
                spec,
                wall_time_s,
            } => self.deploy(call, spec, wall_time_s),
            Change::Delete { call, name } => {
                self.delete(&name);
                self.waits.until_gone(call, name, &mut self.out);
            }
            Change::DeleteAll { call } => {
                for name in self.books.applications.keys().cloned().collect::<Vec<_>>() {
                    self.delete(&name);
                }
                self.waits.until_gone(call, String::new(), &mut self.out);
            }
            Change::BeginDelete { call, name } => {
                self.delete(&name);
                self.out.reply(call, api_response::Body::Done(Empty {}));
            }
            Change::Rollback { .. } | Change::Progress => {}
        }
    }

    fn deploy(&mut self, call: CallId, spec: ApplicationSpec, wall_time_s: f64) {
        let name = spec.name.clone();
        let revision = Arc::new(Revision::new(spec));
        let application = self
            .books
            .applications
            .entry(name.clone())
            .or_insert_with(|| Application::new(&name));
        let was_deleting = application.deleting() && !application.deployments.is_empty();
        let mut notes = notes::notes(
            application.target.as_ref().map(|old| &old.spec),
            &revision.spec,
        );
        if was_deleting {
            notes.insert(0, notes::DELETE_ENDS.to_owned());
        }

        application
            .history
            .retain(|kept| kept.blob != revision.blob);
        application.history.push(Arc::clone(&revision));
        let excess = application.history.len().saturating_sub(REVISIONS_KEPT);
        application.history.drain(..excess);
        application.target = Some(Arc::clone(&revision));
        application.deployed_at_s = wall_time_s;

        for deployment in &revision.spec.deployments {
            let key = DeploymentKey::new(name.as_str(), deployment.name.as_str());
            let entry = application.deployments.entry(deployment.name.clone());
            let entry = entry.or_insert_with(|| Deployment::new(key));
            if let Some(target) = revision.find(&deployment.name) {
                retarget(entry, target);
            }
        }
        for (_, deployment) in application
            .deployments
            .iter_mut()
            .filter(|(name, _)| revision.find(name.as_str()).is_none())
        {
            deployment.target = None;
            deployment.status.on(StatusInput::Delete, "");
        }
        let short: String = revision.spec.revision.chars().take(12).collect();
        for note in &notes {
            self.out.log(
                Level::Info,
                format!("application '{name}', revision {short}: {note}"),
            );
        }
        self.out.reply(
            call,
            api_response::Body::Deployed(Deployed {
                revision: revision.spec.revision.clone(),
                notes,
            }),
        );
        self.waits
            .on_deployed(&self.books, &name, was_deleting, &mut self.out);
        self.touch(&name);
    }

    fn delete(&mut self, name: &str) {
        let Some(application) = self.books.applications.get_mut(name) else {
            return;
        };
        if application.target.take().is_some() {
            application.history.clear();
            application.route = None;
            for deployment in application.deployments.values_mut() {
                deployment.target = None;
                deployment.serving = None;
                deployment.status.on(StatusInput::Delete, "");
            }
            self.out
                .log(Level::Info, format!("application '{name}' is deleted"));
        }
        self.waits.on_deleted(name, &mut self.out);
        self.touch(name);
    }
}

/// Points a deployment at its new spec and moves its status as the size of the change asks.
fn retarget(deployment: &mut Deployment, target: VersionSpec) {
    let version = target.version().to_owned();
    let proven_before = deployment
        .serving
        .as_ref()
        .is_some_and(|serving| serving.version() == version)
        || deployment
            .routable()
            .any(|replica| replica.spec.version() == version);
    let attempts = deployment.attempts_of(&version);
    let gave_up = attempts.gave_up;
    attempts.reset();
    attempts.proven |= proven_before;

    let input = match &deployment.target {
        Some(old) if old.version() == version && !gave_up => {
            let (before, after) = (old.options(), target.options());
            let mut rescaled = before.clone();
            rescaled.num_replicas = after.num_replicas;
            match (
                rescaled == *after,
                before.num_replicas.cmp(&after.num_replicas),
            ) {
                (false, _) => Some(StatusInput::Configured),
                (true, std::cmp::Ordering::Less) => Some(StatusInput::ScaledUp),
                (true, std::cmp::Ordering::Greater) => Some(StatusInput::ScaledDown),
                (true, std::cmp::Ordering::Equal)
                    if deployment.status.status == Status::DeployFailed =>
                {
                    Some(StatusInput::Configured)
                }
                (true, std::cmp::Ordering::Equal) => None,
            }
        }
        _ => Some(StatusInput::Configured),
    };
    if let Some(input) = input {
        deployment.status.on(input, "");
    }
    deployment.target = Some(target);
    let matters: Vec<String> = deployment
        .target
        .iter()
        .chain(&deployment.serving)
        .map(|spec| spec.version().to_owned())
        .collect();
    deployment
        .attempts
        .retain(|version, _| matters.contains(version));
}
