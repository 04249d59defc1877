//! What the root record says: what runs and what ran, by name of blob.
//!
//! Only what changes stands here. A revision, and what is known of a deploy as it begins, never change: they are blobs,
//! so that a root stays small however many deploys are kept.

use std::collections::{BTreeMap, BTreeSet};

use eagleray_types::control::{ApplicationSpec, Failure, RevisionRecord};

use crate::books::{declared::Declared, tallies::Counts};

/// Desired state, complete.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Root {
    #[prost(message, repeated, tag = "1")]
    pub applications: Vec<RootApplication>,
    /// What configs declare, of which a revision may have come or not.
    #[prost(message, repeated, tag = "10")]
    pub declared: Vec<Declared>,
    /// Numbers of the last apply and of the last build.
    #[prost(uint64, tag = "11")]
    pub last_deploy: u64,
    #[prost(uint64, tag = "12")]
    pub last_build: u64,
    /// What is stated beside the applications, as JSON; empty: none.
    #[prost(string, tag = "13")]
    pub node_options: String,
    /// Where `target_capacity` is going: `up`, `down` or empty.
    #[prost(string, tag = "14")]
    pub capacity_direction: String,
    /// Applications that are gone and can be brought back.
    #[prost(message, repeated, tag = "20")]
    pub deleted: Vec<RootDeleted>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RootApplication {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Of format 1: blobs of the revisions that can be gone back to, oldest first. The last is the target.
    #[prost(string, repeated, tag = "2")]
    pub history: Vec<String>,
    /// By deployment: the blob of the revision that last ran at full size.
    #[prost(btree_map = "string, string", tag = "3")]
    pub serving: BTreeMap<String, String>,
    #[prost(double, tag = "4")]
    pub deployed_at_s: f64,
    /// Where the application is reachable now; both empty: nowhere yet.
    #[prost(string, tag = "5")]
    pub route_prefix: String,
    #[prost(string, tag = "6")]
    pub route_ingress: String,
    /// Its deploys, oldest first. The last is the target.
    #[prost(message, repeated, tag = "20")]
    pub records: Vec<RootRecord>,
    /// By deployment: how many replicas somebody asked for.
    #[prost(btree_map = "string, message", tag = "21")]
    pub counts: BTreeMap<String, RootCount>,
    /// Blob of the revision that runs in place of the target, which has failed; empty: the target has not.
    #[prost(string, tag = "22")]
    pub rolled_back_to: String,
}

/// How many replicas, where that is not what the options say.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RootCount {
    /// Of the target.
    #[prost(uint32, optional, tag = "1")]
    pub target: Option<u32>,
    /// Of what serves.
    #[prost(uint32, optional, tag = "2")]
    pub serving: Option<u32>,
    /// Of what last came up whole, while another is deployed.
    #[prost(uint32, optional, tag = "3")]
    pub whole: Option<u32>,
}

/// One deploy. What is known when it begins never changes and is a blob; what comes of it is here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RootRecord {
    /// Blob of a [`RevisionRecord`], as the deploy began.
    #[prost(string, tag = "1")]
    pub record: String,
    /// Blob of the revision.
    #[prost(string, tag = "2")]
    pub revision: String,
    #[prost(message, required, tag = "3")]
    pub outcome: Outcome,
}

/// What came of a deploy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Outcome {
    #[prost(enumeration = "Verdict", tag = "1")]
    pub verdict: i32,
    /// Wall clock, seconds; 0: not yet.
    #[prost(double, tag = "2")]
    pub ended_at_s: f64,
    /// These three as in a [`Receipt`](eagleray_types::control::Receipt).
    #[prost(uint64, tag = "3")]
    pub answered: u64,
    #[prost(uint64, tag = "4")]
    pub failed: u64,
    #[prost(uint64, tag = "5")]
    pub running: u64,
    #[prost(message, optional, tag = "6")]
    pub failure: Option<Failure>,
    /// As in a [`Receipt`](eagleray_types::control::Receipt).
    #[prost(uint64, tag = "7")]
    pub left: u64,
}

impl Outcome {
    /// With what is known of requests by now; `None`: no more than before.
    pub(crate) fn with_counts(self, counts: Option<Counts>) -> Self {
        let Some(counts) = counts else { return self };
        Self {
            answered: counts.answered,
            failed: counts.failed,
            running: counts.running,
            left: counts.left,
            ..self
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Verdict {
    Deploying = 0,
    /// It is up, or was until the next deploy.
    Running = 1,
    Failed = 2,
    /// It did not come up, and what ran before serves on.
    RolledBack = 3,
    /// Another deploy came before it was up.
    Superseded = 4,
    /// It was the last before the application was deleted.
    Deleted = 5,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RootDeleted {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Wall clock, seconds.
    #[prost(double, tag = "2")]
    pub deleted_at_s: f64,
    #[prost(message, repeated, tag = "3")]
    pub records: Vec<RootRecord>,
}

impl Root {
    /// Every blob that it names.
    pub fn blobs(&self) -> BTreeSet<&str> {
        let mut all = self.revision_blobs();
        all.extend(self.record_blobs());
        all
    }

    pub fn revision_blobs(&self) -> BTreeSet<&str> {
        let recorded = self.records().map(|one| &one.revision);
        let applications = self.applications.iter();
        applications
            .flat_map(|one| {
                let named = one.history.iter().chain(one.serving.values());
                named.chain(Some(&one.rolled_back_to).filter(|blob| !blob.is_empty()))
            })
            .chain(recorded)
            .map(String::as_str)
            .collect()
    }

    pub fn record_blobs(&self) -> BTreeSet<&str> {
        self.records().map(|one| one.record.as_str()).collect()
    }

    fn records(&self) -> impl Iterator<Item = &RootRecord> {
        let applications = self.applications.iter().flat_map(|one| &one.records);
        applications.chain(self.deleted.iter().flat_map(|one| &one.records))
    }
}

/// What the last controller left.
#[derive(Debug, Default)]
pub struct Loaded {
    pub epoch: u64,
    pub root: Root,
    /// Every revision that the root names, by blob.
    pub revisions: BTreeMap<String, ApplicationSpec>,
    /// Every record that the root names, by blob.
    pub records: BTreeMap<String, RevisionRecord>,
}
