//! What must hold, and the books that show it.
//!
//! At every step: accepted requests at a replica never exceed its limit, and none waits there beside a free slot; a request without `repeatable` is started
//! once at most; nobody gets a second outcome; what leaves a queue on a grant is its oldest, but for suspects; no request sleeps
//! beside a free slot for longer than one frame's travel (see `eagleray_replica::admission` for the exact words).
//! At the end: every request has its outcome, and no word, slot or grant is held.

use std::collections::BTreeMap;

use eagleray_router::core::RequestKey;

/// One request.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) router: usize,
    pub(crate) submitted: u64,
    pub(crate) repeatable: bool,
    pub(crate) starts: u32,
    pub(crate) requests: u32,
    /// REJECT, CANCEL, and each GRANT that it spent.
    pub(crate) extra: u32,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Finished,
    Failed(eagleray_types::ErrorCode),
    Cancelled,
    /// Its router died: nobody is left to be told.
    Orphaned,
}

/// What a run counted. Times in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub submitted: usize,
    pub refused: usize,
    pub finished: usize,
    pub cancelled: usize,
    pub deadline: usize,
    pub died: usize,
    pub back_pressure: usize,
    /// Control frames but WAIT and UNWAIT: GRANT, RETURN, REJECT, CANCEL.
    pub control: usize,
    pub grants: usize,
    pub rides: usize,
    pub returns: usize,
    pub rejects: usize,
    pub cancels: usize,
    pub resent: usize,
    /// Requests that waited in a replica for a slot, and those of them that got none in time.
    pub ahead: usize,
    pub sent_back: usize,
    pub waits: usize,
    pub unwaits: usize,
    /// Times that a router's queue filled, by what the router could see of candidates.
    pub fills: usize,
    /// Most that waited in one router.
    pub max_queued: usize,
    /// The same over all routers.
    pub most_queued_in_process: usize,
    /// Longest time that a request was in a queue beside a slot neither used nor granted nor offered in a frame
    /// under way, as a share of the travel of a frame on that link.
    pub longest_sleep: f64,
    /// The same without counting offers, for the requests of a queue taken together.
    pub longest_idle: f64,
    /// REJECT and CANCEL of a request, and each GRANT that it spent: of the request that had most.
    pub most_frames: u32,
    /// Requests of which that is above 6.
    pub above_six: usize,
    /// Requests started, by version and by replica.
    pub by_version: Vec<usize>,
    pub by_replica: Vec<usize>,
    /// Time in simulation.
    pub elapsed: u64,
}

impl Report {
    /// Control frames for each request.
    pub fn control_per_request(&self) -> f64 {
        self.control as f64 / self.submitted.max(1) as f64
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) records: Vec<Record>,
    pub(crate) keys: BTreeMap<(usize, RequestKey), usize>,
    pub(crate) report: Report,
}

impl Ledger {
    pub(crate) fn submit(
        &mut self,
        router: usize,
        key: RequestKey,
        now: u64,
        repeatable: bool,
    ) -> usize {
        let id = self.records.len();
        self.records.push(Record {
            router,
            submitted: now,
            repeatable,
            starts: 0,
            requests: 0,
            extra: 0,
            outcome: None,
        });
        let old = self.keys.insert((router, key), id);
        assert!(old.is_none(), "a request key was used twice");
        self.report.submitted += 1;
        id
    }

    pub(crate) fn id(&self, router: usize, key: RequestKey) -> usize {
        self.keys[&(router, key)]
    }

    pub(crate) fn outcome(&mut self, router: usize, key: RequestKey, outcome: Outcome) {
        let id = self.id(router, key);
        let record = &mut self.records[id];
        assert_eq!(
            record.outcome, None,
            "request {id} has a second outcome: {outcome:?}"
        );
        record.outcome = Some(outcome);
        let report = &mut self.report;
        match outcome {
            Outcome::Finished => report.finished += 1,
            Outcome::Cancelled => report.cancelled += 1,
            Outcome::Failed(
                eagleray_types::ErrorCode::DeadlineExceeded | eagleray_types::ErrorCode::NoReplica,
            ) => report.deadline += 1,
            Outcome::Failed(eagleray_types::ErrorCode::ReplicaDied) => report.died += 1,
            Outcome::Failed(
                eagleray_types::ErrorCode::BackPressure | eagleray_types::ErrorCode::Overloaded,
            ) => report.back_pressure += 1,
            Outcome::Failed(code) => panic!("request {id} failed with {code:?}"),
            Outcome::Orphaned => {}
        }
    }

    pub(crate) fn started(&mut self, id: usize, version: usize, replica: usize) {
        let record = &mut self.records[id];
        record.starts += 1;
        assert!(
            record.repeatable || record.starts == 1,
            "request {id} may not be repeated, and was started twice"
        );
        assert!(
            record.starts <= 2,
            "request {id} was started in a third replica"
        );
        count(&mut self.report.by_version, version);
        count(&mut self.report.by_replica, replica);
    }

    /// Whether a request of this router that was submitted `microseconds` before `now` (nanoseconds) has been started and has no outcome.
    pub(crate) fn suspect_of_age(&self, router: usize, now: u64, microseconds: u32) -> bool {
        self.records.iter().any(|record| {
            record.router == router
                && record.starts > 0
                && record.outcome.is_none()
                && (now - record.submitted) / 1_000 == u64::from(microseconds)
        })
    }

    /// After the last event.
    pub(crate) fn close(&mut self) {
        for (id, record) in self.records.iter().enumerate() {
            assert!(
                record.outcome.is_some(),
                "request {id} of router {} has no outcome: {record:?}",
                record.router
            );
            self.report.most_frames = self.report.most_frames.max(record.extra);
            self.report.above_six += usize::from(record.extra > 6);
        }
    }
}

fn count(counts: &mut Vec<usize>, index: usize) {
    if counts.len() <= index {
        counts.resize(index + 1, 0);
    }
    counts[index] += 1;
}
