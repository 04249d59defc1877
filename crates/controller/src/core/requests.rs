//! Changes of desired state: checked, made durable, then in force.
//!
//! One change is with the store at a time and the rest wait, so the root that is saved always follows from the one
//! before it. What the core learns by itself (a revision now runs at full size) is saved the same way, when no
//! client's change is waiting; losing it costs nothing but work done twice.

use std::time::Duration;

use eagleray_types::control::{ApiError, ApplicationSpec, Deployed, Rollback, api_response};
use prost::Message as _;

use super::{
    Core, REVISIONS_KEPT,
    command::{Command, Level, Save},
    event::{CallId, SaveError},
    notes,
    validate::{api_error, validate},
};
use crate::{
    books::revision::Revision,
    store::checkpoint::{Root, RootApplication},
};

/// Deploys and deletes that may wait for the store; more are refused.
const CHANGES_QUEUED: usize = 64;
/// Pause before a checkpoint that failed is tried again.
const SAVE_RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a short queue")]
pub(super) enum Change {
    Deploy {
        call: CallId,
        spec: ApplicationSpec,
        wall_time_s: f64,
    },
    Rollback {
        call: CallId,
        rollback: Rollback,
        wall_time_s: f64,
    },
    Delete {
        call: CallId,
        name: String,
    },
    DeleteAll {
        call: CallId,
    },
    BeginDelete {
        call: CallId,
        name: String,
    },
    /// What the core learnt by itself.
    Progress,
}

impl Change {
    fn call(&self) -> Option<CallId> {
        match self {
            Self::Deploy { call, .. }
            | Self::Rollback { call, .. }
            | Self::Delete { call, .. }
            | Self::BeginDelete { call, .. }
            | Self::DeleteAll { call } => Some(*call),
            Self::Progress => None,
        }
    }

    /// Names of the files that it needs. A rollback is to a revision that is kept.
    pub(super) fn files(&self) -> Vec<String> {
        match self {
            Self::Deploy { spec, .. } => {
                let revision = Revision::new(spec.clone());
                revision.files().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Core {
    pub(super) fn enqueue(&mut self, change: Change) {
        if self.changes.len() < CHANGES_QUEUED && !self.waits.is_full() {
            self.changes.push_back(change);
        } else if let Some(call) = change.call() {
            let message = "too many changes are waiting to be carried out; try again in a moment";
            self.out.reply(
                call,
                api_response::Body::Error(api_error("internal", message)),
            );
        }
    }

    /// Takes waiting changes until one needs the store.
    pub(super) fn begin_changes(&mut self) {
        while self.saving.is_none() {
            let Some(change) = self.changes.pop_front() else {
                return;
            };
            let call = change.call();
            if let Err(error) = self.begin(change)
                && let Some(call) = call
            {
                self.out.reply(call, api_response::Body::Error(error));
            }
        }
    }

    fn begin(&mut self, change: Change) -> Result<(), ApiError> {
        let change = match change {
            Change::Rollback {
                call,
                rollback,
                wall_time_s,
            } => {
                let spec = self.earlier_revision(&rollback)?;
                Change::Deploy {
                    call,
                    spec,
                    wall_time_s,
                }
            }
            other => other,
        };
        let (mut root, mut files, mut revisions) = (self.root(), Vec::new(), Vec::new());
        match &change {
            Change::Deploy {
                call,
                spec,
                wall_time_s,
            } => {
                validate(spec)?;
                self.check_routes(spec)?;
                if let Some(notes) = self.unchanged(spec) {
                    self.out.reply(
                        *call,
                        api_response::Body::Deployed(Deployed {
                            revision: spec.revision.clone(),
                            notes,
                        }),
                    );
                    return Ok(());
                }
                let revision = Revision::new(spec.clone());
                files = revision.files().map(str::to_owned).collect();
                files.sort_unstable();
                files.dedup();
                revisions.push((revision.blob.clone(), spec.encode_to_vec()));
                deploy_in_root(&mut root, &spec.name, revision.blob, *wall_time_s);
            }
            Change::Delete { name, .. } | Change::BeginDelete { name, .. } => {
                root.applications.retain(|one| one.name != *name);
            }
            Change::DeleteAll { .. } => root.applications.clear(),
            Change::Rollback { .. } | Change::Progress => {}
        }
        if self.saved.as_ref() == Some(&root) && files.is_empty() {
            self.take_effect(change);
        } else {
            self.out.push(Command::Save(Save {
                files,
                revisions,
                root: root.clone(),
            }));
            self.saved = Some(root);
            self.saving = Some(change);
        }
        Ok(())
    }

    /// Notes, when the application has this very spec already and nothing of it failed or is in a crash loop: to
    /// deploy it again then is to ask for another try now.
    fn unchanged(&self, spec: &ApplicationSpec) -> Option<Vec<String>> {
        let application = self.books.applications.get(&spec.name)?;
        let target = application.target.as_ref()?;
        let loops = application.deployments.values().any(|deployment| {
            let attempts = deployment.target_attempts();
            attempts.is_some_and(|attempts| attempts.crash_loop.is_some())
        });
        let failed = loops || application.word() == "DEPLOY_FAILED";
        let same = target.spec == *spec && !failed;
        same.then(|| notes::notes(Some(&target.spec), spec))
    }

    fn earlier_revision(&self, rollback: &Rollback) -> Result<ApplicationSpec, ApiError> {
        let name = &rollback.application;
        let application = self
            .books
            .applications
            .get(name)
            .filter(|one| !one.deleting());
        let application = application.ok_or_else(|| unknown(name))?;
        let earlier = if rollback.revision.is_empty() {
            application.history.iter().rev().nth(1)
        } else {
            application
                .history
                .iter()
                .rev()
                .find(|one| one.spec.revision == rollback.revision)
        };
        earlier
            .map(|revision| revision.spec.clone())
            .ok_or_else(|| {
                let known: Vec<&str> = application
                    .history
                    .iter()
                    .map(|one| one.spec.revision.as_str())
                    .collect();
                let wanted = match rollback.revision.as_str() {
                    "" => "a revision before the present one".to_owned(),
                    revision => format!("revision {revision}"),
                };
                api_error(
                    "not_found",
                    format!(
                        "application '{name}' has not kept {wanted}; kept: {}",
                        known.join(", ")
                    ),
                )
            })
    }

    fn check_routes(&self, spec: &ApplicationSpec) -> Result<(), ApiError> {
        if spec.route_prefix.is_empty() {
            return Ok(());
        }
        let others = self
            .books
            .applications
            .values()
            .filter(|one| one.name != spec.name && !one.deleting());
        for other in others {
            let wanted = other
                .target
                .as_ref()
                .map(|target| target.spec.route_prefix.as_str());
            let present = other.route.as_ref().map(|route| route.prefix.as_str());
            if wanted == Some(spec.route_prefix.as_str())
                || present == Some(spec.route_prefix.as_str())
            {
                let (prefix, other, name) = (&spec.route_prefix, &other.name, &spec.name);
                let message = format!(
                    "route_prefix '{prefix}' is used by application '{other}', so '{name}' was not deployed; give one \
                     of them another route_prefix, or delete '{other}' first"
                );
                return Err(api_error("conflict", message));
            }
        }
        Ok(())
    }

    /// Desired state as it stands.
    pub(super) fn root(&self) -> Root {
        let applications = self
            .books
            .applications
            .values()
            .filter(|one| !one.deleting())
            .map(|application| {
                let serving = application.deployments.values().filter_map(|deployment| {
                    let serving = deployment.serving.as_ref()?;
                    Some((
                        deployment.key.deployment.clone(),
                        serving.revision().blob.clone(),
                    ))
                });
                let route = application.route.clone().unwrap_or_default();
                RootApplication {
                    name: application.name.clone(),
                    history: application
                        .history
                        .iter()
                        .map(|revision| revision.blob.clone())
                        .collect(),
                    serving: serving.collect(),
                    deployed_at_s: application.deployed_at_s,
                    route_prefix: route.prefix,
                    route_ingress: route.ingress.deployment,
                }
            });
        Root {
            applications: applications.collect(),
        }
    }

    pub(super) fn on_saved(&mut self, result: Result<(), SaveError>, now: Duration) {
        let Some(change) = self.saving.take() else {
            return;
        };
        match result {
            Ok(()) => self.take_effect(change),
            Err(error) => {
                // What the store holds now is the old root or the new one: the next save must not be left out.
                self.saved = None;
                self.save_again_at = Some(now + SAVE_RETRY);
                let (kind, message) = match error {
                    SaveError::Blob(message) => ("invalid", message),
                    SaveError::Store(message) => ("internal", message),
                };
                self.out
                    .log(Level::Warning, format!("nothing was changed: {message}"));
                if let Some(call) = change.call() {
                    self.out
                        .reply(call, api_response::Body::Error(api_error(kind, message)));
                }
            }
        }
    }

    /// Saves what the core learnt by itself.
    pub(super) fn save_progress(&mut self, now: Duration) {
        self.save_again_at = self.save_again_at.filter(|at| *at > now);
        let wait = self.save_again_at.is_some();
        if !self.listed || wait || self.saving.is_some() || !self.changes.is_empty() {
            return;
        }
        let root = self.root();
        if self.saved.as_ref() != Some(&root) {
            self.out.push(Command::Save(Save {
                files: Vec::new(),
                revisions: Vec::new(),
                root: root.clone(),
            }));
            self.saved = Some(root);
            self.saving = Some(Change::Progress);
        }
    }
}

fn unknown(name: &str) -> ApiError {
    api_error("not_found", format!("there is no application '{name}'"))
}

fn deploy_in_root(root: &mut Root, name: &str, blob: String, wall_time_s: f64) {
    let at = root
        .applications
        .binary_search_by(|one| one.name.as_str().cmp(name))
        .unwrap_or_else(|at| {
            root.applications.insert(
                at,
                RootApplication {
                    name: name.to_owned(),
                    ..Default::default()
                },
            );
            at
        });
    let application = &mut root.applications[at];
    application.history.retain(|kept| *kept != blob);
    application.history.push(blob);
    let excess = application.history.len().saturating_sub(REVISIONS_KEPT);
    application.history.drain(..excess);
    application.deployed_at_s = wall_time_s;
}
