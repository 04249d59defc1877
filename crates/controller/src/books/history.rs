//! The history of one application: every deploy that was taken, numbered from 1, and what came of each.
//!
//! What is known of a deploy when it begins never changes ([`Entry`]); only its outcome does, once or twice. Of an
//! application so many deploys are kept, the newest; the numbers of those that are forgotten do not come again. The
//! revisions that records name are what can be gone back to: nothing else keeps the code of a revision that has
//! neither runs nor shall run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eagleray_types::control::{Receipt, RevisionRecord};
use prost::Message as _;
use serde_json::{Map, Value};

use super::{revision::Revision, tallies::Counts};
use crate::store::{
    checkpoint::{Outcome, Verdict},
    sha256_hex,
};

/// Deploys of an application that are kept.
pub const REVISIONS_KEPT: usize = 50;

/// What is known of a deploy when it begins, with the name of the blob that keeps it.
#[derive(Debug)]
pub struct Entry {
    pub record: RevisionRecord,
    /// Hex SHA-256 of the encoded record.
    pub blob: String,
}

/// The name of the blob says all: it is a hash.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Entry {
    pub fn new(record: RevisionRecord) -> Self {
        let blob = sha256_hex(&record.encode_to_vec());
        Self { record, blob }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) entry: Arc<Entry>,
    pub(crate) revision: Arc<Revision>,
    pub(crate) outcome: Outcome,
}

impl Record {
    /// What was stated beside it of HTTP.
    pub(crate) fn http_options(&self) -> Map<String, Value> {
        let all: Value = serde_json::from_str(&self.entry.record.node_options).unwrap_or_default();
        let stated = all.get("http_options").and_then(Value::as_object);
        stated.cloned().unwrap_or_default()
    }

    pub(crate) fn new(entry: Arc<Entry>, revision: Arc<Revision>) -> Self {
        Self {
            entry,
            revision,
            outcome: Outcome::default(),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.entry.record.number
    }

    /// Whether what comes of it is still open.
    pub(crate) fn is_deploying(&self) -> bool {
        self.outcome.verdict() == Verdict::Deploying
    }

    /// Where it came up, it can be gone back to with some hope.
    pub(crate) fn ran(&self) -> bool {
        matches!(self.outcome.verdict(), Verdict::Running | Verdict::Deleted)
    }

    /// `counts`: what is known by now of the requests that began meanwhile, if that is more than was written down.
    pub(crate) fn receipt(&self, counts: Option<Counts>) -> Receipt {
        let outcome = self.outcome.clone().with_counts(counts);
        Receipt {
            ended_at_s: outcome.ended_at_s,
            answered: outcome.answered,
            failed: outcome.failed,
            left: outcome.left,
            running: outcome.running,
            ..self.entry.record.receipt.clone().unwrap_or_default()
        }
    }

    /// For clients. `current`: it is the application's target.
    pub(crate) fn render(&self, current: bool, counts: Option<Counts>) -> RevisionRecord {
        RevisionRecord {
            result: word(self.outcome.verdict()).to_owned(),
            receipt: Some(self.receipt(counts)),
            failure: self.outcome.failure.clone(),
            current,
            ..self.entry.record.clone()
        }
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Deploying => "deploying",
        Verdict::Running => "running",
        Verdict::Failed => "failed",
        Verdict::RolledBack => "rolled_back",
        Verdict::Superseded => "superseded",
        Verdict::Deleted => "deleted",
    }
}

/// Oldest first; the last is the newest deploy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct History(Vec<Record>);

impl History {
    pub(crate) fn of(records: Vec<Record>) -> Self {
        Self(records)
    }

    /// The number of the next deploy.
    pub(crate) fn next_number(&self) -> u64 {
        self.last().map_or(0, Record::number) + 1
    }

    pub(crate) fn last(&self) -> Option<&Record> {
        self.0.last()
    }

    /// What served before the newest deploy. One that failed did not, nor one of an application that was then deleted.
    pub(crate) fn before(&self) -> Option<&Record> {
        let ran = |one: &&Record| one.outcome.verdict() == Verdict::Running;
        let others = self.newest_first().skip(1);
        others
            .take_while(|one| one.outcome.verdict() != Verdict::Deleted)
            .find(ran)
    }

    /// The number of the newest deploy that has each version of a deployment.
    pub(crate) fn numbers(&self, deployment: &str) -> BTreeMap<&str, u64> {
        let mut numbers = BTreeMap::new();
        for record in &self.0 {
            let mut deployments = record.revision.spec.deployments.iter();
            if let Some(found) = deployments.find(|one| one.name == deployment) {
                numbers.insert(found.version.as_str(), record.number());
            }
        }
        numbers
    }

    /// What serves, or is about to.
    pub(crate) fn serving(&self) -> Option<&Record> {
        let last = self.last()?;
        match last.outcome.verdict() {
            Verdict::Failed | Verdict::RolledBack => self.before(),
            Verdict::Deleted => None,
            Verdict::Deploying | Verdict::Running | Verdict::Superseded => Some(last),
        }
    }

    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = &Record> {
        self.0.iter()
    }

    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().rev()
    }

    /// One more deploy: what came of the last before it is not asked any more.
    pub(crate) fn add(&mut self, record: Record) {
        if let Some(last) = self.0.last_mut()
            && last.is_deploying()
        {
            last.outcome.set_verdict(Verdict::Superseded);
            last.outcome.ended_at_s = record.entry.record.deployed_at_s;
        }
        self.0.push(record);
        let excess = self.0.len().saturating_sub(REVISIONS_KEPT);
        self.0.drain(..excess);
    }

    /// Forgets all deploys before this number. Returns whether there were any.
    pub(crate) fn forget_before(&mut self, number: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|record| record.number() >= number);
        self.0.len() != before
    }

    /// Returns whether it is another now.
    pub(crate) fn set_outcome(&mut self, number: u64, outcome: &Outcome) -> bool {
        let record = self.0.iter_mut().rev().find(|one| one.number() == number);
        record.is_some_and(|record| {
            let before = std::mem::replace(&mut record.outcome, outcome.clone());
            before != *outcome
        })
    }

    /// The application is deleted.
    pub(crate) fn end(&mut self, wall_time_s: f64) {
        if let Some(last) = self.0.last_mut() {
            if last.is_deploying() {
                last.outcome.ended_at_s = wall_time_s;
            }
            last.outcome.set_verdict(Verdict::Deleted);
        }
    }

    /// The record that a rollback names: a number (`r12`, `12`), a hash or its beginning, or nothing for the one before.
    pub(crate) fn find(&self, name: &str) -> Option<&Record> {
        if name.is_empty() {
            return self.before_last();
        }
        let number = name.strip_prefix('r').unwrap_or(name).parse::<u64>().ok();
        let numbered =
            number.and_then(|number| self.newest_first().find(|one| one.number() == number));
        let hash = |one: &&Record| one.revision.spec.revision == name;
        let start = |one: &&Record| name.len() >= 6 && one.revision.spec.revision.starts_with(name);
        numbered
            .or_else(|| self.newest_first().find(hash))
            .or_else(|| self.newest_first().find(start))
    }

    /// The newest that is not the present state, and that ran if any did: to go back to what never ran would help nobody.
    fn before_last(&self) -> Option<&Record> {
        let last = self.last()?;
        if last.outcome.verdict() == Verdict::Deleted {
            return Some(last);
        }
        let others = || {
            self.newest_first().filter(|one| {
                one.revision != last.revision || one.http_options() != last.http_options()
            })
        };
        others().find(|one| one.ran()).or_else(|| others().next())
    }

    /// Each revision once, newest first.
    pub(crate) fn revisions(&self) -> impl Iterator<Item = &Arc<Revision>> {
        let mut seen = BTreeSet::new();
        self.newest_first()
            .map(|record| &record.revision)
            .filter(move |revision| seen.insert(revision.blob.as_str()))
    }
}
