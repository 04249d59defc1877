//! Takes samples, and puts each into the slots that its time belongs to.
//!
//! The slot of each tier that is under way is held in memory and written with each sample, so a kill costs one sample at most;
//! after a restart the slot that is in the file is gone on with. Nothing else is computed from the file.
//!
//! Bounds: rows of [`MOST_ROWS`] subjects; further ones are left out and counted. While the file cannot be written, sampling goes
//! on, so that the coarser tiers lose less; it is said once that it cannot, and once that it can again.

use std::{io, mem};

use eagleray_metrics::Collector;
use rustc_hash::FxHashMap;

use crate::{
    clock::{Clock, Moment},
    layout::TIERS,
    record::Slot,
    ring::Ring,
    row::{Row, Subject},
    tally::{Levels, Totals, tally},
};

/// How often to call [`Sampler::sample`].
pub const SAMPLE_EVERY_MS: u64 = TIERS[0].step_ms;
const MOST_ROWS: usize = 8192;

/// A sheet: its name, and when its process started.
type Which = (String, u64);
type Rows = FxHashMap<Subject, Row>;

/// What a sheet had counted when it was read last.
#[derive(Debug, Default)]
struct Known {
    totals: FxHashMap<Subject, Totals>,
    /// Samples since then.
    missed: u32,
}

/// A sheet that could not be read (no descriptor left) is known for so many samples: it would count as new otherwise, with all
/// that it ever had counted.
const MOST_MISSED: u32 = 150;

/// What the node has measured so far.
#[derive(Debug)]
pub struct Sampler {
    ring: Ring,
    clock: Clock,
    last_monotonic_ms: u64,
    /// What each sheet had counted at the last sample.
    sheets: FxHashMap<Which, Known>,
    /// What a controller said last: while there is none, it holds.
    told: FxHashMap<Subject, Levels>,
    /// When the controller started, and how many events it has counted.
    events: Option<(u64, u64)>,
    /// The slots that are under way.
    open: [Slot; TIERS.len()],
    fails: bool,
}

impl Sampler {
    pub fn new(ring: Ring, now: Moment) -> Self {
        Self {
            ring,
            clock: Clock::new(now),
            last_monotonic_ms: now.monotonic_ms,
            sheets: FxHashMap::default(),
            told: FxHashMap::default(),
            events: None,
            open: Default::default(),
            fails: false,
        }
    }

    /// Takes a sample of all that is counted on this node.
    ///
    /// # Errors
    /// The sheets cannot be read. The file's trouble is no error: it is logged once.
    pub fn sample(&mut self, collector: &mut Collector, now: Moment) -> io::Result<()> {
        let mut rows = Rows::default();
        let left_out = self.read(collector, &mut rows)?;
        let covered_ms = now.monotonic_ms.saturating_sub(self.last_monotonic_ms);
        self.last_monotonic_ms = now.monotonic_ms;
        let (time_ms, jump) = self.clock.time_ms(now);
        if let Some(jump_ms) = jump {
            tracing::info!(
                jump_ms,
                "the clock of this machine was set; series go on at its new time"
            );
        }
        let written = self.put(time_ms, covered_ms, left_out, rows);
        self.say(written);
        Ok(())
    }

    /// When the controller started, and how many events it had counted at the last sample: where these are others than before,
    /// something has happened. `None`: there is no controller.
    pub fn events(&self) -> Option<(u64, u64)> {
        self.events
    }

    /// The rows of now; how many more there would be.
    fn read(&mut self, collector: &mut Collector, rows: &mut Rows) -> io::Result<u64> {
        let mut before = mem::take(&mut self.sheets);
        let mut told: Option<FxHashMap<Subject, Levels>> = None;
        let mut events = None;
        let mut left_out = 0;
        let mut add = |subject: &Subject, add: &dyn Fn(&mut Row)| {
            if rows.len() < MOST_ROWS || rows.contains_key(subject) {
                add(rows.entry(subject.clone()).or_default());
            } else {
                left_out += 1;
            }
        };
        let visited = collector.visit(|reading| {
            let tally = tally(reading);
            let which = (reading.name().to_owned(), reading.started());
            let last = before.remove(&which).unwrap_or_default();
            let none = Totals::default();
            #[expect(
                clippy::iter_over_hash_type,
                reason = "sums do not depend on the order"
            )]
            for (subject, totals) in &tally.totals {
                let row = totals.since(last.totals.get(subject).unwrap_or(&none));
                with_its_deployment(subject, |subject| add(subject, &|into| into.add(&row)));
            }
            #[expect(
                clippy::iter_over_hash_type,
                reason = "sums do not depend on the order"
            )]
            for (subject, levels) in &tally.levels {
                with_its_deployment(subject, |subject| add(subject, &|into| levels.add_to(into)));
            }
            if let Some(said) = tally.told {
                told.get_or_insert_default().extend(said);
                events = Some((reading.started(), tally.events));
            }
            if reading.is_alive() {
                let known = Known {
                    totals: tally.totals,
                    missed: 0,
                };
                self.sheets.insert(which, known);
            }
        });
        before.retain(|_, known| {
            known.missed += 1;
            known.missed <= MOST_MISSED
        });
        self.sheets.extend(before);
        visited?;
        self.events = events;
        if let Some(told) = told {
            self.told = told;
        }
        #[expect(clippy::iter_over_hash_type, reason = "each is of another subject")]
        for (subject, levels) in &self.told {
            add(subject, &|into| levels.add_to(into));
        }
        Ok(left_out)
    }

    fn put(&mut self, time_ms: u64, covered_ms: u64, left_out: u64, rows: Rows) -> io::Result<()> {
        let mut written = Ok(());
        let sample = Slot {
            rows: rows.into_iter().collect(),
            left_out,
            covered_ms,
            index: 0,
        };
        for (tier, of) in TIERS.iter().enumerate() {
            let index = time_ms / of.step_ms;
            let open = &mut self.open[tier];
            if open.index != index {
                // One that is there is of before a restart, or of before the clock was set back.
                *open = self.ring.slot(tier, index).unwrap_or_default();
                open.index = index;
            }
            open.add(&sample);
            written = written.and(self.ring.put(tier, open));
        }
        written
    }

    fn say(&mut self, written: io::Result<()>) {
        let path = self.ring.path();
        let written = match written {
            Ok(()) if self.ring.is_gone() => Err(io::Error::other("somebody has removed it")),
            written => written,
        };
        match written {
            Ok(()) if mem::take(&mut self.fails) => {
                tracing::info!(path = %path.display(), "the series of this node can be written again");
            }
            Err(error) if !mem::replace(&mut self.fails, true) => {
                tracing::warn!(path = %path.display(), %error, "the series of this node are not kept for now; requests are served all the same");
            }
            _ => {}
        }
        if self.ring.is_gone() {
            // If it cannot be had, it is tried again with the next sample.
            self.ring.reopen().ok();
        }
    }
}

/// What is counted for a replica counts for its deployment.
fn with_its_deployment(subject: &Subject, mut add: impl FnMut(&Subject)) {
    add(subject);
    if subject.is_replica() {
        add(&Subject {
            replica: "".into(),
            ..subject.clone()
        });
    }
}

impl Slot {
    fn add(&mut self, sample: &Self) {
        self.covered_ms = self.covered_ms.saturating_add(sample.covered_ms);
        self.left_out = self.left_out.max(sample.left_out);
        for (subject, row) in &sample.rows {
            if let Some(sum) = self.rows.get_mut(subject) {
                sum.add(row);
            } else if self.rows.len() < MOST_ROWS {
                self.rows.insert(subject.clone(), row.clone());
            } else {
                self.left_out = self.left_out.saturating_add(1);
            }
        }
    }
}
