//! What clients ask to be changed: checked, made durable, then in force.
//!
//! One change is with the store at a time and the rest wait, so what is saved always follows from what was saved
//! before. [`Desired::apply`](crate::books::desired::Desired::apply) says what a change does, here for what is saved and
//! in [`super::effect`] for what takes effect.

use std::{sync::Arc, time::Duration};

use eagleray_types::control::{ApiError, ApplicationSpec, Deployed, Rollback, api_response};
use prost::Message as _;

use super::{
    Core,
    command::{Command, Level, Save},
    effect::{Answer, Pending},
    event::{CallId, Request, SaveError},
    notes,
    validate::{api_error, validate},
};
use crate::books::{Books, desired::Change, revision::Revision};

/// Requests that may wait for the store; more are refused.
const REQUESTS_QUEUED: usize = 64;
/// Pause before a checkpoint that failed is tried again.
const SAVE_RETRY: Duration = Duration::from_secs(1);

/// What the store is being given.
#[derive(Debug)]
pub(super) enum Saving {
    Requested(Pending),
    /// What the core learnt by itself, which is in force.
    Learnt,
}

impl Core {
    pub(super) fn on_request(&mut self, call: CallId, request: Request) {
        if self.requests.len() < REQUESTS_QUEUED && !self.waits.is_full() {
            self.requests.push_back((call, request));
        } else {
            let message = "too many changes are waiting to be carried out; try again in a moment";
            self.out.refuse(call, api_error("internal", message));
        }
    }

    /// Takes waiting requests until one needs the store.
    pub(super) fn begin_requests(&mut self) {
        while self.saving.is_none() {
            let Some((call, request)) = self.requests.pop_front() else {
                return;
            };
            if let Err(error) = self.begin(call, request) {
                self.out.refuse(call, error);
            }
        }
    }

    fn begin(&mut self, call: CallId, request: Request) -> Result<(), ApiError> {
        let (change, answer) = match request {
            Request::Deploy { spec, wall_time_s } => {
                validate(&spec)?;
                check_routes(&self.books, &spec)?;
                if let Some(notes) = unchanged(&self.books, &spec) {
                    let revision = spec.revision;
                    let body = api_response::Body::Deployed(Deployed { revision, notes });
                    self.out.reply(call, body);
                    return Ok(());
                }
                (deploy(spec, wall_time_s), Answer::AtOnce)
            }
            Request::Rollback {
                rollback,
                wall_time_s,
            } => {
                let spec = earlier_revision(&self.books, &rollback)?;
                return self.begin(call, Request::Deploy { spec, wall_time_s });
            }
            Request::Delete { name } => (Change::Delete { application: name }, Answer::WhenGone),
            Request::BeginDelete { name } => (Change::Delete { application: name }, Answer::AtOnce),
            Request::DeleteAll => (Change::DeleteAll, Answer::WhenGone),
        };
        self.save_or_take_effect(Pending {
            call,
            change,
            answer,
        });
        Ok(())
    }

    fn save_or_take_effect(&mut self, pending: Pending) {
        let mut desired = self.books.desired.clone();
        if !desired.apply(&pending.change) && !self.out.is_save_wanted() {
            return self.take_effect(pending);
        }
        let files = pending.change.files().into_iter().map(str::to_owned);
        let revision = pending.change.revision();
        let save = Save {
            files: files.collect(),
            revisions: revision
                .map(|one| (one.blob.clone(), one.spec.encode_to_vec()))
                .into_iter()
                .collect(),
            root: desired.root(),
        };
        self.save(save, Saving::Requested(pending));
    }

    fn save(&mut self, save: Save, saving: Saving) {
        debug_assert!(self.saving.is_none(), "one save at a time");
        self.out.push(Command::Save(save));
        self.out.save_is_begun();
        self.saving = Some(saving);
    }

    pub(super) fn on_saved(&mut self, result: Result<(), SaveError>, now: Duration) {
        let Some(saving) = self.saving.take() else {
            debug_assert!(false, "nothing was being saved");
            return;
        };
        match (result, saving) {
            (Ok(()), Saving::Requested(pending)) => self.take_effect(pending),
            (Ok(()), Saving::Learnt) => {}
            (Err(error), saving) => {
                // What the store holds now is the old root or the new one: the next save must not be left out.
                self.out.want_save();
                self.save_again_at = Some(now + SAVE_RETRY);
                let (kind, message) = match error {
                    SaveError::Blob(message) => ("invalid", message),
                    SaveError::Store(message) => ("internal", message),
                };
                let log = format!("nothing was changed: {message}");
                self.out.log(Level::Warning, log);
                if let Saving::Requested(Pending { call, .. }) = saving {
                    self.out.refuse(call, api_error(kind, message));
                }
            }
        }
    }

    /// Saves what the core learnt by itself, when nothing else is with the store or waits for it.
    pub(super) fn save_learnt(&mut self, now: Duration) {
        self.save_again_at.take_if(|at| *at <= now);
        let waits = self.save_again_at.is_some() || !self.requests.is_empty();
        if self.listed && self.out.is_save_wanted() && self.saving.is_none() && !waits {
            let save = Save {
                files: Vec::new(),
                revisions: Vec::new(),
                root: self.books.desired.root(),
            };
            self.save(save, Saving::Learnt);
        }
    }

    /// Names of the files that changes which are on their way need.
    pub fn pending_files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for (_, request) in &self.requests {
            if let Request::Deploy { spec, .. } = request {
                files.extend(Revision::files_of(spec).map(str::to_owned));
            }
        }
        if let Some(Saving::Requested(pending)) = &self.saving {
            files.extend(pending.change.files().into_iter().map(str::to_owned));
        }
        files
    }
}

fn deploy(spec: ApplicationSpec, wall_time_s: f64) -> Change {
    Change::Deploy {
        revision: Arc::new(Revision::new(spec)),
        wall_time_s,
    }
}

/// Notes, when the application has this very spec already and nothing of it failed or is in a crash loop: to
/// deploy it again then is to ask for another try now.
fn unchanged(books: &Books, spec: &ApplicationSpec) -> Option<Vec<String>> {
    let plan = books.plan(&spec.name)?;
    let application = books.applications.get(&spec.name)?;
    let loops = application.deployments.values().any(|deployment| {
        let attempts = deployment.target_attempts();
        attempts.is_some_and(|attempts| attempts.crash_loop.is_some())
    });
    let failed = loops || application.word(Some(plan)) == "DEPLOY_FAILED";
    let same = plan.target.spec == *spec && !failed;
    same.then(|| notes::notes(Some(&plan.target.spec), spec))
}

fn earlier_revision(books: &Books, rollback: &Rollback) -> Result<ApplicationSpec, ApiError> {
    let name = &rollback.application;
    let Some(plan) = books.plan(name) else {
        let message = format!("there is no application '{name}'");
        return Err(api_error("not_found", message));
    };
    let earlier = match rollback.revision.as_str() {
        "" => plan.history().nth(1),
        revision => plan.history().find(|one| one.spec.revision == revision),
    };
    if let Some(revision) = earlier {
        return Ok(revision.spec.clone());
    }
    let mut known: Vec<&str> = plan
        .history()
        .map(|one| one.spec.revision.as_str())
        .collect();
    known.reverse();
    let wanted = match rollback.revision.as_str() {
        "" => "a revision before the present one".to_owned(),
        revision => format!("revision {revision}"),
    };
    let message = format!(
        "application '{name}' has not kept {wanted}; kept: {}",
        known.join(", ")
    );
    Err(api_error("not_found", message))
}

/// No two applications at one prefix: neither where another is reachable now nor where it will be.
fn check_routes(books: &Books, spec: &ApplicationSpec) -> Result<(), ApiError> {
    let prefix = spec.route_prefix.as_str();
    if prefix.is_empty() {
        return Ok(());
    }
    let taken = books.desired.plans().find(|(name, plan)| {
        let present = plan.route.as_ref().map(|route| route.prefix.as_str());
        **name != spec.name && (plan.target.spec.route_prefix == prefix || present == Some(prefix))
    });
    let Some((other, _)) = taken else {
        return Ok(());
    };
    let name = &spec.name;
    let message = format!(
        "route_prefix '{prefix}' is used by application '{other}', so '{name}' was not deployed; give one of them \
         another route_prefix, or delete '{other}' first"
    );
    Err(api_error("conflict", message))
}
