//! What clients ask to be changed: checked, made durable, then in force.
//!
//! One change is with the store at a time and the rest wait, so what is saved always follows from what was saved
//! before. [`Desired::apply`](crate::books::desired::Desired::apply) says what a change does, here for what is saved and
//! in [`super::effect`] for what takes effect.

use std::{sync::Arc, time::Duration};

use eagleray_types::control::{
    ApiError, ApplicationSpec, Deployed, Empty, Receipt, RevisionRecord, api_response,
};

use super::{
    Core,
    command::{Command, Level, Save},
    effect::{Answer, Pending},
    event::{CallId, Origin, Request, SaveError},
    http_options, notes, plan, rollback, scaling,
    validate::{api_error, validate},
};
use crate::books::{
    Books,
    declared::Step,
    desired::Change,
    history::{Entry, History, Record},
    revision::Revision,
};

/// Requests that may wait for the store; more are refused.
const REQUESTS_QUEUED: usize = 64;
/// Pause before a checkpoint that failed is tried again.
const SAVE_RETRY: Duration = Duration::from_secs(1);

/// What the store is being given.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
pub(super) enum Saving {
    Requested(Pending),
    /// What the core learnt by itself, which is in force.
    Learnt,
}

/// The checkpoint cannot be saved.
#[derive(Debug)]
pub(super) struct Unsaved {
    pub(super) since: Duration,
    pub(super) error: String,
}

impl Saving {
    /// Whether it is the result of this build.
    pub(super) fn ends_build(&self, number: u64) -> bool {
        let Self::Requested(pending) = self else {
            return false;
        };
        let Change::Declared { step, .. } = &pending.change else {
            return false;
        };
        matches!(step, Step::Built { build, .. } | Step::Failed { build, .. } if *build == number)
    }
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
        let wall_time_s = self.out.wall_now_s;
        let delete = |application| Change::Delete {
            application,
            wall_time_s,
        };
        let (change, answer) = match request {
            Request::Deploy { spec, origin } => return self.begin_deploy(call, spec, *origin),
            Request::Rollback { rollback } => {
                let (spec, origin) = rollback::earlier(&self.books, &rollback)?;
                return self.begin_deploy(call, spec, *origin);
            }
            Request::Plan(apply) => return self.plan(call, &apply, ""),
            Request::Apply(apply) if !apply.plan.is_empty() => {
                return self.plan(call, &apply, &apply.plan);
            }
            Request::Apply(apply) => self.declare(&apply)?,
            Request::CarryOut(planning) => self.carry_out_plan(*planning)?,
            Request::Built(built) => {
                let Some(change) = self.built(*built) else {
                    self.out.reply(call, api_response::Body::Done(Empty {}));
                    return Ok(());
                };
                (change, Answer::AtOnce)
            }
            Request::Scale { scale } => (scaling::change(&self.books, &scale)?, Answer::AtOnce),
            Request::Delete { name } => (delete(name), Answer::WhenGone),
            Request::BeginDelete { name } => (delete(name), Answer::AtOnce),
            Request::DeleteAll => (Change::DeleteAll { wall_time_s }, Answer::WhenGone),
        };
        self.save_or_take_effect(Pending {
            call,
            change,
            answer,
        });
        Ok(())
    }

    /// A revision that a client has, or goes back to. What is declared follows it: a build that runs counts no more.
    fn begin_deploy(
        &mut self,
        call: CallId,
        spec: ApplicationSpec,
        origin: Origin,
    ) -> Result<(), ApiError> {
        validate(&spec)?;
        check_routes(&self.books, &spec, |_| false)?;
        let step = Step::follow(&spec.name, &origin.config, &origin.node_options);
        let changes_declared = self.books.desired.declared.clone().apply(&step);
        let deployed = unchanged(&self.books, &spec);
        if let Some(deployed) = deployed.filter(|_| !changes_declared) {
            self.out.reply(call, api_response::Body::Deployed(deployed));
            return Ok(());
        }
        let mut change = deploy(&self.books, spec, origin, self.out.wall_now_s);
        if changes_declared {
            let beside = vec![change];
            change = Change::Declared { step, beside };
        }
        self.save_or_take_effect(Pending {
            call,
            change,
            answer: Answer::AtOnce,
        });
        Ok(())
    }

    fn save_or_take_effect(&mut self, pending: Pending) {
        let mut desired = self.books.desired.clone();
        if !desired.apply(&pending.change) && !self.out.is_save_wanted() {
            return self.take_effect(pending);
        }
        let files = pending.change.files().into_iter().map(str::to_owned);
        let save = Save {
            files: files.collect(),
            blobs: pending.change.blobs(),
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
        if result.is_ok() {
            self.unsaved = None;
        }
        match (result, saving) {
            (Ok(()), Saving::Requested(pending)) => self.take_effect(pending),
            (Ok(()), Saving::Learnt) => {}
            (Err(error), saving) => {
                // What the store holds now is the old root or the new one: the next save must not be left out.
                self.out.want_save();
                self.save_again_at = Some(now + SAVE_RETRY);
                let (kind, message) = match error {
                    SaveError::Blob(message) => ("invalid", message),
                    SaveError::Store(message) => {
                        let since = self.unsaved.take().map_or(now, |one| one.since);
                        let error = message.clone();
                        self.unsaved = Some(Unsaved { since, error });
                        ("internal", message)
                    }
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
                blobs: Vec::new(),
                root: self.books.desired.root(),
            };
            self.save(save, Saving::Learnt);
        }
    }

    /// Names of the files that changes which are on their way need.
    pub fn pending_files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for (_, request) in &self.requests {
            if let Request::CarryOut(planning) = request {
                files.extend(planning.files().map(str::to_owned));
            }
            let spec = match request {
                Request::Deploy { spec, .. } => Some(spec),
                Request::Built(built) => built.spec.as_ref(),
                _ => None,
            };
            let named = spec.into_iter().flat_map(Revision::files_of);
            files.extend(named.map(str::to_owned));
        }
        files.extend(self.plannings.files().map(str::to_owned));
        if let Some(Saving::Requested(pending)) = &self.saving {
            files.extend(pending.change.files().into_iter().map(str::to_owned));
        }
        files
    }
}

/// The next deploy of an application, with its number.
pub(super) fn deploy(
    books: &Books,
    spec: ApplicationSpec,
    origin: Origin,
    wall_time_s: f64,
) -> Change {
    let before = books.plan(&spec.name).map(|plan| &plan.aim().spec);
    let mut planned = plan::compare(before, Some(&spec));
    let revision = Revision::new(spec);
    let spec = &revision.spec;
    if let Some(plan) = books.plan(&spec.name) {
        let rollback = origin.rollback_of != 0;
        for one in &mut planned.deployments {
            one.replicas_before = plan.wanted(&one.name);
            one.replicas_after = plan.would_want(&revision, rollback, &one.name);
        }
    }
    let mut changed = plan::summary(&planned);
    if http_options::are_new(books, &spec.name, &origin.node_options) {
        changed.push("http_options".to_owned());
    }
    let history = books.desired.history(&spec.name);
    let record = RevisionRecord {
        application: spec.name.clone(),
        number: history.map_or(1, History::next_number),
        revision: spec.revision.clone(),
        deployed_at_s: wall_time_s,
        author: origin.author,
        message: origin.message,
        changed,
        source: origin.source.word().to_owned(),
        config: origin.config,
        rollback_of: origin.rollback_of,
        node_options: origin.node_options,
        receipt: Some(Receipt {
            began_at_s: wall_time_s,
            deployments: planned.deployments,
            build_skipped: origin.build_skipped,
            build_milliseconds: origin.build_milliseconds,
            ..Receipt::default()
        }),
        ..RevisionRecord::default()
    };
    Change::Deploy {
        revision: Arc::new(revision),
        entry: Arc::new(Entry::new(record)),
    }
}

/// The answer, when the application has this very spec already and nothing of it failed or is in a crash loop: to
/// deploy it again then is to ask for another try now.
pub(super) fn unchanged(books: &Books, spec: &ApplicationSpec) -> Option<Deployed> {
    let plan = books.plan(&spec.name)?;
    let application = books.applications.get(&spec.name)?;
    let loops = application.deployments.values().any(|deployment| {
        let attempts = deployment.target_attempts();
        attempts.is_some_and(|attempts| attempts.crash_loop.is_some())
    });
    let failed = loops || application.word(Some(plan)) == "DEPLOY_FAILED";
    let same = plan.target.spec == *spec && !failed;
    same.then(|| Deployed {
        revision: spec.revision.clone(),
        notes: notes::notes(&plan::compare(Some(spec), Some(spec)).deployments),
        number: plan.history.last().map_or(0, Record::number),
        rollback_of: 0,
    })
}

/// No two applications at one prefix: neither where another is reachable now nor where it will be, unless that `leaves`.
pub(super) fn check_routes(
    books: &Books,
    spec: &ApplicationSpec,
    leaves: impl Fn(&str) -> bool,
) -> Result<(), ApiError> {
    let prefix = spec.route_prefix.as_str();
    if prefix.is_empty() {
        return Ok(());
    }
    let taken = books.desired.plans().find(|(name, plan)| {
        let present = plan.route.as_ref().map(|route| route.prefix.as_str());
        let takes = **name != spec.name
            && (plan.aim().spec.route_prefix == prefix || present == Some(prefix));
        takes && !leaves(name)
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
