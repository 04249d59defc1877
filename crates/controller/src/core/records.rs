//! What comes of a deploy is written into its record: that it is up, or why it is not, when that was, and what became of
//! the requests that began meanwhile.

use std::sync::Arc;

use eagleray_types::control::{ApiError, History, RevisionRecord, Tallies};
use prost::Message as _;

use super::{
    Core, fault,
    outbox::{About, EventLevel},
    validate::api_error,
};
use crate::{
    books::{
        Books,
        application::Application,
        deployment::Deployment,
        desired::{Change, DELETED_KEPT_S, Plan},
        events::EventKind,
        history::{self, Record},
        revision::Revision,
        status::Status,
    },
    store::checkpoint::{Outcome, Verdict},
};

/// Bytes of records in one answer: well below what a frame may hold.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A request that ends later than this after its deploy is not written into the record any more.
const LATE_S: f64 = 600.0;

impl Core {
    /// Notices deploys that are up, or that have failed. First the proxies are told that requests count for them no more;
    /// when they have said what began until then, it is written into the record. Returns whether there is something to tell.
    pub(super) fn settle_records(&mut self) -> bool {
        let (mut settled, mut ended, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (name, plan) in self.books.desired.plans() {
            let Some(application) = self.books.applications.get(name) else {
                continue;
            };
            let Some(last) = plan.history.last() else {
                continue;
            };
            if let Some(to) = goes_back_to(application, plan) {
                failed.push((name.clone(), Arc::clone(to)));
            }
            let shown = self.applied >= self.targets.number_of(name);
            let outcome = match &application.ending {
                Some(ending) if shown => ending.clone(),
                Some(_) => continue,
                None => {
                    let Some(outcome) = outcome(application, plan, shown) else {
                        continue;
                    };
                    let outcome = Outcome {
                        ended_at_s: self.out.wall_now_s,
                        ..outcome
                    };
                    if last.is_deploying() {
                        ended.push((name.clone(), outcome));
                        continue;
                    }
                    outcome
                }
            };
            let counts = self.books.tallies.counts(name, last.number());
            let outcome = outcome.with_counts(counts);
            let (level, message) = said(last, &outcome);
            let change = Change::Settle {
                application: name.clone(),
                number: last.number(),
                outcome,
            };
            settled.push((change, level, message));
        }
        for (change, level, message) in settled {
            if let Change::Settle { application, .. } = &change {
                let about = About::application(application);
                self.out.event(EventKind::Deploy, level, about, &message);
                if let Some(application) = self.books.applications.get_mut(application) {
                    application.ending = None;
                }
            }
            self.learn(&change);
        }
        let tells = !ended.is_empty() || !failed.is_empty();
        for (name, outcome) in ended {
            if let Some(application) = self.books.applications.get_mut(&name) {
                application.ending = Some(outcome);
            }
            self.touched.insert(name);
        }
        for (name, to) in failed {
            self.roll_back(&name, &to);
        }
        tells
    }

    /// A proxy says what became of requests. While a deploy is under way that is only shown; afterwards it is written into
    /// the record when the last of them has ended.
    pub(super) fn on_tallied(&mut self, said: &Tallies) {
        for (application, mark) in self.books.tallies.hear(said) {
            let history = self.books.desired.history(&application);
            let record = history.and_then(|history| {
                let mut records = history.newest_first();
                records.find(|one| one.number() == mark)
            });
            let counts = self.books.tallies.counts(&application, mark);
            let (Some(record), Some(counts)) = (record, counts) else {
                continue;
            };
            let age = self.out.wall_now_s - record.outcome.ended_at_s;
            if record.is_deploying() || counts.running > 0 || age > LATE_S {
                continue;
            }
            let outcome = record.outcome.clone().with_counts(Some(counts));
            self.learn(&Change::Settle {
                application,
                number: mark,
                outcome,
            });
        }
    }

    /// Forgets applications that were deleted long ago.
    pub(super) fn forget_deleted(&mut self) {
        let before_s = self.out.wall_now_s - DELETED_KEPT_S;
        let deleted = self.books.desired.deleted();
        let old = deleted.filter(|(_, deleted)| deleted.at_s < before_s);
        let names: Vec<String> = old.map(|(name, _)| name.clone()).collect();
        for application in names {
            self.learn(&Change::Forget { application });
        }
    }

    /// Deploys whose blobs have no room any more are forgotten.
    pub(super) fn trim_histories(&mut self) {
        if !self.books.sizes.take_news() {
            return;
        }
        let desired = &self.books.desired;
        let named = desired.revisions().flat_map(|revision| revision.files());
        self.books.sizes.keep(&named.collect());
        let trims = desired.names().into_iter().filter_map(|name| {
            let history = desired.history(name)?;
            let first = self.books.sizes.first_with_room(history);
            let application = name.to_owned();
            Some(Change::Trim { application, first })
        });
        let trims: Vec<Change> = trims.collect();
        for trim in trims {
            self.learn(&trim);
        }
    }

    pub(super) fn learn(&mut self, change: &Change) {
        if self.books.desired.apply(change) {
            self.out.want_save();
        }
    }
}

/// The end of a deploy in words.
fn said(record: &Record, outcome: &Outcome) -> (EventLevel, String) {
    let number = record.number();
    let took = outcome.ended_at_s - record.entry.record.deployed_at_s;
    let failure = outcome.failure.as_ref().map_or("", |one| &one.message);
    match outcome.verdict() {
        Verdict::RolledBack => {
            let message =
                format!("r{number} did not come up, and what ran before serves: {failure}");
            (EventLevel::Error, message)
        }
        Verdict::Failed => {
            let message = format!("r{number} did not come up: {failure}");
            (EventLevel::Error, message)
        }
        _ => {
            let message = format!("r{number} is running after {took:.1} s");
            (EventLevel::Info, message)
        }
    }
}

/// What has come of the newest deploy; `None`: nothing new. `shown`: routers know of it.
fn outcome(application: &Application, plan: &Plan, shown: bool) -> Option<Outcome> {
    let record = plan.history.last()?;
    let before = record.outcome.verdict();
    // A deploy that failed may come up later by itself; one that was up is not judged again, nor one that is taken back.
    let taken_back = before == Verdict::RolledBack && plan.rolled_back_to.is_some();
    if before == Verdict::Running || taken_back {
        return None;
    }
    let verdict = match application.word(Some(plan)) {
        "RUNNING" if shown => Verdict::Running,
        "DEPLOY_FAILED" if plan.history.before().is_some() || fell_back(application) => {
            Verdict::RolledBack
        }
        "DEPLOY_FAILED" => Verdict::Failed,
        _ => return None,
    };
    if verdict == before {
        return None;
    }
    let failure = (verdict != Verdict::Running).then(|| fault::failure(application));
    Some(Outcome {
        verdict: verdict.into(),
        failure,
        ..record.outcome.clone()
    })
}

/// The revision that shall run instead of the newest, because one of its deployments does not come up, or does not live,
/// before all of them are there. `None`: that is not so, or it is taken back already, or nothing before it came up whole.
fn goes_back_to<'a>(application: &Application, plan: &'a Plan) -> Option<&'a Arc<Revision>> {
    let was_up = plan.history.last()?.outcome.verdict() == Verdict::Running;
    if was_up || plan.rolled_back_to.is_some() {
        return None;
    }
    let before = &plan.history.before()?.revision;
    let hopeless =
        |(name, one): (&String, &Deployment)| one.is_hopeless(before.find(name).as_ref());
    let fails = application.deployments.iter().any(hopeless);
    fails.then_some(before)
}

/// Everything that failed is still served by what was there before.
fn fell_back(application: &Application) -> bool {
    let deployments = application.deployments.values();
    deployments
        .filter(|one| one.status.status == Status::DeployFailed)
        .all(|one| one.fallback().is_some() || one.is_refused())
}

/// The deploys of one application, or of all (empty), newest first; the oldest are left out where one answer cannot
/// hold them all.
pub(super) fn history(books: &Books, application: &str) -> Result<History, ApiError> {
    let mut revisions = Vec::new();
    if application.is_empty() {
        for name in books.desired.names() {
            revisions.extend(records(books, name));
        }
        revisions.sort_by(|a: &RevisionRecord, b| b.deployed_at_s.total_cmp(&a.deployed_at_s));
    } else {
        revisions.extend(records(books, application));
        if revisions.is_empty() {
            let message = format!(
                "there is no application '{application}', and none of that name was deleted in the last 7 days"
            );
            return Err(api_error("not_found", message));
        }
    }
    let mut room = ANSWER_BYTES;
    let fits = |record: &RevisionRecord| {
        let bytes = record.encoded_len();
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    };
    let revisions = revisions.into_iter().take_while(fits).collect();
    Ok(History { revisions })
}

fn records(books: &Books, application: &str) -> Vec<RevisionRecord> {
    let planned = books.plan(application).is_some();
    let last = books
        .desired
        .history(application)
        .and_then(|history| history.last());
    let last = last.filter(|_| planned).map(Record::number);
    let history = books.desired.history(application);
    history
        .into_iter()
        .flat_map(history::History::newest_first)
        .map(|record| {
            let counts = books.tallies.counts(application, record.number());
            record.render(Some(record.number()) == last, counts)
        })
        .collect()
}
