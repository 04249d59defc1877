//! The newest deploy of an application in its status.

use eagleray_types::control::DeployStatus;

use crate::{
    books::{
        history::{History, Record},
        tallies::Counts,
    },
    core::event::Source,
    store::checkpoint::Verdict,
};

/// `declarative` or `imperative`: a rollback is what it goes back to.
pub(super) fn source(record: &Record) -> String {
    let declared = !record.entry.record.config.is_empty();
    let source = if declared {
        Source::Declarative
    } else {
        Source::Imperative
    };
    source.word().to_owned()
}

/// How the newest deploy fares.
pub(super) fn deploy(history: &History, record: &Record, counts: Option<Counts>) -> DeployStatus {
    let state = match record.outcome.verdict() {
        Verdict::Deploying => "rolling",
        Verdict::RolledBack => "rolled_back",
        Verdict::Failed => "failed",
        Verdict::Running | Verdict::Superseded | Verdict::Deleted => "done",
    };
    DeployStatus {
        state: state.to_owned(),
        number: record.number(),
        from: history.before().map_or(0, Record::number),
        began_at_s: record.entry.record.deployed_at_s,
        failure: record.outcome.failure.clone(),
        receipt: Some(record.receipt(counts)),
        ..DeployStatus::default()
    }
}
