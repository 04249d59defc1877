//! What one process has counted, by what it is counted for.
//!
//! A sheet has totals since its process started, a row has what came since the last sample: the difference. It is taken sheet by
//! sheet, so that a process that starts or ends makes no jump; the last that a dead one had counted is in its last reading.

use eagleray_metrics::{FamilyReading, Reading, registry};
use rustc_hash::FxHashMap;

use crate::row::{BOUNDS_MS, BUCKETS, Row, Subject};

/// What a sheet says.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Since the process started.
    pub(crate) totals: FxHashMap<Subject, Totals>,
    /// Now. Nothing of a process that has ended.
    pub(crate) levels: FxHashMap<Subject, Levels>,
    /// How many replicas there should be and are, if this process is the one that says so.
    pub(crate) told: Option<FxHashMap<Subject, Levels>>,
    /// Events that it has counted.
    pub(crate) events: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    requests: u64,
    errors: u64,
    latency: [u64; BUCKETS],
    cpu_ms: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    pub(crate) queued: u64,
    pub(crate) ongoing: u64,
    pub(crate) wanted: Option<u64>,
    pub(crate) ready: Option<u64>,
    pub(crate) memory_kib: u64,
}

impl Totals {
    /// What has come since `before`.
    pub(crate) fn since(&self, before: &Self) -> Row {
        let mut row = Row {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            cpu_ms: self.cpu_ms.saturating_sub(before.cpu_ms),
            ..Row::default()
        };
        for (index, count) in row.latency.iter_mut().enumerate() {
            *count = self.latency[index].saturating_sub(before.latency[index]);
        }
        row
    }
}

/// Adds up a sheet.
pub(crate) fn tally(reading: &Reading<'_>) -> Tally {
    let mut tally = Tally::default();
    // Whose process it is: not every metric of a replica says so.
    let replica = reading.families().find_map(|family| {
        if !OF_REPLICAS.contains(&family.name()) {
            return None;
        }
        let place = Labels::of(family, false)?.replica?;
        let series = family.series().next()?;
        series.values().nth(place).map(str::to_owned)
    });
    let replica = replica.as_deref().unwrap_or("");
    for family in reading.families() {
        tally.take(family, replica, reading.is_alive());
    }
    if !replica.is_empty() {
        tally.take_usage(reading, replica);
    }
    tally
}

/// Where in the values of a series its names are.
struct Labels {
    count: usize,
    application: usize,
    deployment: Option<usize>,
    replica: Option<usize>,
    status: Option<usize>,
    state: Option<usize>,
}

impl Labels {
    fn of(family: FamilyReading<'_>, by_application: bool) -> Option<Self> {
        let place = |name: &str| family.labels().iter().position(|label| *label == name);
        Some(Self {
            count: family.labels().len(),
            application: place("application")?,
            deployment: place("deployment").filter(|_| !by_application),
            replica: place("replica"),
            status: place("status_code"),
            state: place("state"),
        })
    }
}

impl Tally {
    fn take(&mut self, family: FamilyReading<'_>, replica: &str, is_alive: bool) {
        let name = family.name();
        if name == registry::EVENTS.name {
            let counts = family.series().filter_map(|series| series.words().next());
            self.events += counts.sum::<u64>();
            return;
        }
        let of_application =
            name == registry::HTTP_REQUESTS.name || name == registry::HTTP_LATENCY.name;
        let is_known = of_application || KNOWN.contains(&name);
        if !is_known {
            return;
        }
        let Some(labels) = Labels::of(family, of_application) else {
            return;
        };
        if is_alive && name == registry::REPLICAS_WANTED.name {
            // Also where there is no deployment at the moment.
            self.told.get_or_insert_default();
        }
        // What waits for another deployment, this process has counted too.
        let replica = if OF_OWN_WORK.contains(&name) {
            replica
        } else {
            ""
        };
        let is_latency = family.bounds() == BOUNDS_MS;
        for series in family.series() {
            let values: Vec<&str> = series.values().collect();
            if values.len() != labels.count {
                continue;
            }
            let value = |place: Option<usize>| {
                place
                    .and_then(|place| values.get(place))
                    .copied()
                    .unwrap_or("")
            };
            let application = value(Some(labels.application));
            let deployment = value(labels.deployment);
            if application.is_empty() {
                // What no application has a route for.
                continue;
            }
            let subject = |replica: &str| Subject::new(application, deployment, replica);
            let mut words = series.words();
            if is_latency {
                let totals = self.totals.entry(subject(replica)).or_default();
                for (sum, count) in totals.latency.iter_mut().zip(words) {
                    *sum = sum.wrapping_add(count);
                }
                continue;
            }
            let Some(word) = words.next() else { continue };
            if name == registry::HTTP_REQUESTS.name {
                let totals = self.totals.entry(subject("")).or_default();
                totals.requests += word;
                totals.errors += if value(labels.status).starts_with('5') {
                    word
                } else {
                    0
                };
            } else if name == registry::REPLICA_REQUESTS.name {
                self.totals.entry(subject(replica)).or_default().requests += word;
            } else if name == registry::REPLICA_ERRORS.name {
                let totals = self.totals.entry(subject(replica)).or_default();
                totals.requests += word;
                totals.errors += word;
            } else if is_alive {
                let state = value(labels.state);
                let is_told =
                    name == registry::REPLICAS_WANTED.name || name == registry::REPLICAS.name;
                let levels = if is_told {
                    self.told.get_or_insert_default()
                } else {
                    &mut self.levels
                };
                let levels = levels.entry(subject(replica)).or_default();
                levels.take(name, word, state);
            }
        }
    }

    /// What a replica's process takes of the machine.
    fn take_usage(&mut self, reading: &Reading<'_>, replica: &str) {
        let Some(usage) = reading.usage() else { return };
        let mut own = self.totals.keys().chain(self.levels.keys());
        let Some(subject) = own.find(|subject| &*subject.replica == replica).cloned() else {
            return;
        };
        self.totals.entry(subject.clone()).or_default().cpu_ms = usage.cpu_ms;
        self.levels.entry(subject).or_default().memory_kib = usage.memory_bytes / 1024;
    }
}

/// What only replicas count, each for itself.
const OF_REPLICAS: &[&str] = &[
    registry::REPLICA_STARTS.name,
    registry::REPLICA_HEALTHY.name,
    registry::REPLICA_PROCESSING.name,
];

/// What a replica counts of itself.
const OF_OWN_WORK: &[&str] = &[
    registry::REPLICA_REQUESTS.name,
    registry::REPLICA_ERRORS.name,
    registry::REPLICA_LATENCY.name,
    registry::REPLICA_PROCESSING.name,
];

/// What is read beside what HTTP clients see.
const KNOWN: &[&str] = &[
    registry::REPLICA_REQUESTS.name,
    registry::REPLICA_ERRORS.name,
    registry::REPLICA_LATENCY.name,
    registry::REPLICA_PROCESSING.name,
    registry::QUEUED.name,
    registry::REPLICAS_WANTED.name,
    registry::REPLICAS.name,
];

impl Levels {
    fn take(&mut self, name: &str, word: u64, state: &str) {
        // A level goes down by steps too: summed up over processes it is never negative, in one it may be for a moment.
        let level = u64::try_from(word.cast_signed()).unwrap_or(0);
        if name == registry::REPLICA_PROCESSING.name {
            self.ongoing += level;
        } else if name == registry::QUEUED.name {
            self.queued += level;
        } else if name == registry::REPLICAS_WANTED.name {
            self.wanted = Some(level);
        } else if name == registry::REPLICAS.name {
            let running = if state == "RUNNING" { level } else { 0 };
            self.ready = Some(self.ready.unwrap_or(0) + running);
        }
    }

    pub(crate) fn add_to(&self, row: &mut Row) {
        row.queued += self.queued;
        row.ongoing += self.ongoing;
        row.wanted = self.wanted.or(row.wanted);
        row.ready = self.ready.or(row.ready);
        row.memory_kib += self.memory_kib;
    }
}
