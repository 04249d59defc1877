//! From the root of the format before to the present one.
//!
//! Format 1 kept the revisions that could be gone back to and nothing of their deploys. Each becomes a record with what
//! is known of it: its number, by age, and of the last when it was deployed.

use eagleray_types::control::{Receipt, RevisionRecord};
use prost::Message as _;

use super::{
    root::{Loaded, Outcome, RootApplication, RootRecord, Verdict},
    sha256_hex,
};

/// Makes records where there are none. Returns the blobs that are to be kept with the root.
pub(super) fn upgrade(loaded: &mut Loaded) -> Vec<(String, Vec<u8>)> {
    let mut made = Vec::new();
    for application in &mut loaded.root.applications {
        let history = std::mem::take(&mut application.history);
        if !application.records.is_empty() {
            continue;
        }
        let last = history.len();
        for (number, blob) in (1..).zip(history) {
            let revision = loaded.revisions.get(&blob).map(|spec| &spec.revision);
            let record = record(application, number, revision.cloned().unwrap_or_default());
            let record = if number == last {
                record
            } else {
                undated(record)
            };
            let bytes = record.encode_to_vec();
            let name = sha256_hex(&bytes);
            application.records.push(RootRecord {
                record: name.clone(),
                revision: blob,
                outcome: Outcome {
                    verdict: Verdict::Running.into(),
                    ..Outcome::default()
                },
            });
            loaded.records.insert(name.clone(), record);
            made.push((name, bytes));
        }
    }
    made
}

fn record(application: &RootApplication, number: usize, revision: String) -> RevisionRecord {
    RevisionRecord {
        application: application.name.clone(),
        number: number as u64,
        revision,
        deployed_at_s: application.deployed_at_s,
        source: "imperative".to_owned(),
        receipt: Some(Receipt::default()),
        ..RevisionRecord::default()
    }
}

fn undated(record: RevisionRecord) -> RevisionRecord {
    RevisionRecord {
        deployed_at_s: 0.0,
        ..record
    }
}
