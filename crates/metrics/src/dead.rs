//! What processes had counted that have died.
//!
//! Totals that name no process are added up for as long as the node lives: they stand beside those of the living under the
//! same labels, so a sum never goes backwards. What names one (`replica`, `actor_id`) belongs to no other and cannot be
//! added to anything without counting twice what Prometheus has seen already: it stays as it is, for the last
//! [`MOST_SERIES`], so that what a replica had counted before its end is scraped, and goes whole sheets at a time. Gauges go
//! with their process.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
};

use crate::{
    layout::Kind,
    merged::{All, Named},
    reader::{Read, ReadFamily},
};

/// Labels that name one process.
const OF_A_PROCESS: &[&str] = &["replica", "actor_id"];
const MOST_SERIES: usize = 4096;
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

/// Whether a series of the family belongs to one process.
fn names_a_process(family: &ReadFamily<'_>) -> bool {
    family
        .labels
        .iter()
        .any(|label| OF_A_PROCESS.contains(label))
}

impl Dead {
    /// Takes what a process had counted that is dead.
    pub(crate) fn take(&mut self, bytes: &[u8], read: &Read<'_>) {
        let mut own = 0;
        for family in read.families.iter().filter(|family| family.kind.is_total()) {
            if names_a_process(family) {
                own += family.series.len();
            } else if !family.series.is_empty() {
                self.add(family);
            }
        }
        if own > 0 {
            let bytes = bytes.to_vec();
            self.departed.push_back(Departed { bytes, series: own });
            self.forget();
        }
    }

    fn add(&mut self, family: &ReadFamily<'_>) {
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
        let merged = named.family(&family.labels, &family.bounds, keep);
        for series in &family.series {
            let key = (Cow::Borrowed(series.values), series.is_overflow);
            let is_new = !merged.series.contains_key(&key);
            if !is_new || self.sets < MOST_SETS {
                self.sets += usize::from(is_new);
                merged.add(family.kind, series, |bytes| Cow::Owned(bytes.to_vec()));
            }
        }
    }

    fn forget(&mut self) {
        let mut series: usize = self.departed.iter().map(|one| one.series).sum();
        while series > MOST_SERIES && self.departed.len() > 1 {
            series -= self.departed.pop_front().map_or(0, |one| one.series);
        }
    }

    /// Adds what the dead had counted to what the living say.
    pub(crate) fn add_to<'a>(&'a self, all: &mut All<'a>) {
        for departed in &self.departed {
            if let Some(read) = crate::reader::read(&departed.bytes) {
                all.add(read, |family| {
                    family.kind.is_total() && names_a_process(family)
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
        let merged = named.family(&labels, &family.bounds, Cow::Borrowed);
        #[expect(
            clippy::iter_over_hash_type,
            reason = "sums do not depend on the order"
        )]
        for ((values, is_overflow), words) in &family.series {
            let key = (Cow::Borrowed(&**values), *is_overflow);
            match merged.series.get_mut(&key) {
                Some(sum) => crate::merged::add(kind, sum, words.iter().copied()),
                None => drop(merged.series.insert(key, words.clone())),
            }
        }
    }
}
