//! What has happened: revisions, receipts, events.

use eagleray_types::control::{
    EventRecord, Events as EventsMessage, History, Receipt as ReceiptMessage, RevisionRecord,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Failure, PlannedDeployment, json, number, some};

/// Newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Revisions {
    pub(crate) revisions: Vec<Revision>,
}

/// One deploy of one application.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the message")]
pub(crate) struct Revision {
    pub(crate) application: String,
    /// Counts up from 1 in each application: shown as `r12`.
    pub(crate) number: u64,
    /// Hash of what was deployed: two numbers of one hash are one state.
    pub(crate) revision: String,
    /// Wall clock, seconds.
    pub(crate) deployed_at_s: f64,
    pub(crate) author: String,
    pub(crate) message: String,
    /// `deploying`, `running`, `failed`, `rolled_back`, `superseded` or `deleted`.
    pub(crate) result: String,
    pub(crate) receipt: Option<Receipt>,
    /// What changed against the one before, for people.
    pub(crate) changed: Vec<String>,
    /// `declarative`, `imperative` or `rollback`.
    pub(crate) source: String,
    /// What was declared; null for an imperative one.
    #[schema(value_type = Object)]
    pub(crate) config: Value,
    /// The number that a rollback went back to.
    pub(crate) rollback_of: Option<u64>,
    /// It is the application's target.
    pub(crate) current: bool,
    pub(crate) failure: Option<Failure>,
    /// Settings of the top level that it was deployed with.
    #[schema(value_type = Object)]
    pub(crate) node_options: Value,
}

/// What a deploy has done, and what it has cost.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Receipt {
    /// Wall clock, seconds.
    pub(crate) began_at_s: f64,
    pub(crate) ended_at_s: f64,
    pub(crate) deployments: Vec<PlannedDeployment>,
    /// Requests that began between the two times and were answered, with a status below 500.
    pub(crate) answered: u64,
    /// Those that got a status from 500 on, ours or user code's, or a broken answer.
    pub(crate) failed: u64,
    /// Those that their client gave up, or that broke a rule.
    pub(crate) left: u64,
    /// Those that still run.
    pub(crate) running: u64,
    /// Nothing was imported: nothing that the last build has read had changed.
    pub(crate) build_skipped: bool,
    pub(crate) build_milliseconds: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "events are what it has")]
pub(crate) struct Events {
    pub(crate) events: Vec<Event>,
    /// `since` of the next request.
    pub(crate) next: u64,
    /// Events before the first of these that are not kept any more.
    pub(crate) lost: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Event {
    pub(crate) number: u64,
    /// Wall clock, seconds.
    pub(crate) at_s: f64,
    /// `deploy`, `build`, `replica`, `health`, `scale`, `config` or `node`.
    pub(crate) kind: String,
    /// `info`, `warning` or `error`.
    pub(crate) level: String,
    pub(crate) application: Option<String>,
    pub(crate) deployment: Option<String>,
    pub(crate) replica_id: Option<String>,
    pub(crate) message: String,
}

impl From<History> for Revisions {
    fn from(history: History) -> Self {
        Self {
            revisions: history.revisions.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<RevisionRecord> for Revision {
    fn from(record: RevisionRecord) -> Self {
        Self {
            application: record.application,
            number: record.number,
            revision: record.revision,
            deployed_at_s: record.deployed_at_s,
            author: record.author,
            message: record.message,
            result: record.result,
            receipt: record.receipt.map(Into::into),
            changed: record.changed,
            source: record.source,
            config: json(&record.config),
            rollback_of: number(record.rollback_of),
            current: record.current,
            failure: record.failure.map(Into::into),
            node_options: json(&record.node_options),
        }
    }
}

impl From<ReceiptMessage> for Receipt {
    fn from(message: ReceiptMessage) -> Self {
        Self {
            began_at_s: message.began_at_s,
            ended_at_s: message.ended_at_s,
            deployments: message.deployments.into_iter().map(Into::into).collect(),
            answered: message.answered,
            failed: message.failed,
            left: message.left,
            running: message.running,
            build_skipped: message.build_skipped,
            build_milliseconds: message.build_milliseconds,
        }
    }
}

impl From<EventsMessage> for Events {
    fn from(message: EventsMessage) -> Self {
        Self {
            events: message.events.into_iter().map(Into::into).collect(),
            next: message.next,
            lost: message.lost,
        }
    }
}

impl From<EventRecord> for Event {
    fn from(record: EventRecord) -> Self {
        Self {
            number: record.number,
            at_s: record.at_s,
            kind: record.kind,
            level: record.level,
            application: some(record.application),
            deployment: some(record.deployment),
            replica_id: some(record.replica_id),
            message: record.message,
        }
    }
}
