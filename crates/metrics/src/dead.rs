//! What processes had counted that have died.
//!
//! Totals that name no process are added up for as long as the node lives: they stand beside those of the living under the
//! same labels, so a sum never goes backwards. What names one (`replica`, `actor_id`) belongs to no other and cannot be
//! added to anything without counting twice what Prometheus has seen already: it stays as it is, for the last
//! [`MOST_SERIES`], so that what a replica had counted before its end is scraped, and goes whole sheets at a time. Gauges go
//! with their process.
//!
//! What is kept is bounded. Sets of label values beyond the bound count on together, under `overflow="true"`.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
};

use crate::{
    labels::{ProcessLabels, names_a_process},
    layout::Kind,
    merged::{All, Key, Named},
    reader::{self, Read, ReadFamily, ReadSeries, words},
};

const MOST_SERIES: usize = 4096;
/// Bytes of the sheets that these are in.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Names of metrics that are kept of the dead; those beyond are of user code that makes up names.
const MOST_NAMES: usize = 4096;
/// Sets of label values that are kept of the dead, of all metrics.
const MOST_SETS: usize = 64 * 1024;

/// A sheet of its own.
#[derive(Debug)]
struct Departed {
    bytes: Vec<u8>,
    series: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Dead {
    totals: BTreeMap<String, Named<'static>>,
    /// In all of them.
    sets: usize,
    departed: VecDeque<Departed>,
}

impl Dead {
    /// Takes what a process had counted that is dead.
    pub(crate) fn take(&mut self, bytes: &[u8], read: &Read<'_>) {
        let mut own = 0;
        for family in read.families.iter().filter(|family| family.kind.is_total()) {
            let (of_it, of_all): (Vec<_>, Vec<_>) = family
                .series
                .iter()
                .partition(|series| names_a_process(family, series));
            own += of_it.len();
            if !of_all.is_empty() {
                self.add(family, &of_all);
            }
        }
        if own > 0 {
            let bytes = reader::used(bytes).to_vec();
            self.departed.push_back(Departed { bytes, series: own });
            self.forget();
        }
    }

    fn add(&mut self, family: &ReadFamily<'_>, series: &[&ReadSeries<'_>]) {
        if self.totals.len() >= MOST_NAMES && !self.totals.contains_key(family.name) {
            return;
        }
        let named = self
            .totals
            .entry(family.name.to_owned())
            .or_insert_with(|| Named {
                help: Cow::Owned(family.help.to_owned()),
                kind: family.kind,
                families: Vec::new(),
            });
        if named.kind != family.kind {
            return;
        }
        let keep = |text: &str| Cow::Owned(text.to_owned());
        let Some(merged) = named.family(&family.labels, &family.bounds, keep) else {
            return;
        };
        for series in series.iter().filter(|series| !series.is_hidden) {
            let mut key: Key<'static> = (
                Cow::Owned(series.values.clone().into_owned()),
                series.is_overflow,
            );
            if !merged.series.contains_key(&key) {
                if self.sets >= MOST_SETS {
                    // At most one more of each family.
                    key = (Cow::Borrowed(&[]), true);
                } else {
                    self.sets += 1;
                }
            }
            // Without exemplars: those of the dead are old soon.
            let counted = family.kind.counted_words(family.bounds.len());
            merged.add(family.kind, key, words(series.words).take(counted));
        }
    }

    fn forget(&mut self) {
        let mut series: usize = self.departed.iter().map(|one| one.series).sum();
        let mut bytes: usize = self.departed.iter().map(|one| one.bytes.len()).sum();
        while (series > MOST_SERIES || bytes > MOST_BYTES) && self.departed.len() > 1 {
            if let Some(one) = self.departed.pop_front() {
                series -= one.series;
                bytes -= one.bytes.len();
            }
        }
    }

    /// Adds what the dead had counted to what the living say.
    pub(crate) fn add_to<'a>(&'a self, all: &mut All<'a>, labels: ProcessLabels) {
        for departed in &self.departed {
            if let Some(mut read) = reader::read(&departed.bytes) {
                labels.apply(&mut read);
                all.add(read, false, |family, series| {
                    family.kind.is_total() && names_a_process(family, series)
                });
            }
        }
        for (name, dead) in &self.totals {
            let named = all
                .by_name
                .entry(Cow::Borrowed(name))
                .or_insert_with(|| Named {
                    help: Cow::Borrowed(&dead.help),
                    kind: dead.kind,
                    families: Vec::new(),
                });
            if named.kind == dead.kind {
                add_named(named, dead, dead.kind);
            }
        }
    }
}

fn add_named<'a>(named: &mut Named<'a>, dead: &'a Named<'static>, kind: Kind) {
    for family in &dead.families {
        let labels: Vec<&'a str> = family.labels.iter().map(|label| &**label).collect();
        let Some(merged) = named.family(&labels, &family.bounds, Cow::Borrowed) else {
            continue;
        };
        #[expect(
            clippy::iter_over_hash_type,
            reason = "sums do not depend on the order"
        )]
        for ((values, is_overflow), words) in &family.series {
            let key = (Cow::Borrowed(&**values), *is_overflow);
            merged.add(kind, key, words.iter().copied());
        }
    }
}
