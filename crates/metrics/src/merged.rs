//! All that several sheets say, by name: what the same labels say in two sheets is added up.
//!
//! Whoever comes first says what a name is. So that this does not change from one answer to the next, sheets are added in the
//! order in which their processes started.

use std::{borrow::Cow, collections::BTreeMap};

use rustc_hash::FxHashMap;

use crate::{
    exemplar,
    layout::Kind,
    reader::{Read, ReadFamily, ReadSeries, words},
};

/// Shapes (labels and bounds) that one name may have: each is looked for one by one.
const MOST_SHAPES: usize = 64;

/// Families of one name: they may differ in labels and buckets, if those who declared them do.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    pub(crate) help: Cow<'a, str>,
    pub(crate) kind: Kind,
    pub(crate) families: Vec<Merged<'a>>,
}

#[derive(Debug)]
pub(crate) struct Merged<'a> {
    pub(crate) labels: Vec<Cow<'a, str>>,
    pub(crate) bounds: Vec<f64>,
    pub(crate) series: FxHashMap<Key<'a>, Vec<u64>>,
}

/// The values of labels as they lie in a sheet, and whether it is the series of all that had no place.
pub(crate) type Key<'a> = (Cow<'a, [u8]>, bool);

/// What all sheets say together.
#[derive(Debug, Default)]
pub(crate) struct All<'a> {
    pub(crate) by_name: BTreeMap<Cow<'a, str>, Named<'a>>,
    /// Families left out: another process has the name for another kind of metric, or they have too many shapes.
    pub(crate) at_odds: u64,
}

impl<'a> All<'a> {
    /// Adds a sheet, as far as `takes` wants its families.
    pub(crate) fn add(
        &mut self,
        read: Read<'a>,
        with_exemplars: bool,
        takes: impl Fn(&ReadFamily<'a>, &ReadSeries<'a>) -> bool,
    ) {
        for mut family in read.families {
            let mut series = std::mem::take(&mut family.series);
            series.retain(|one| takes(&family, one));
            if !series.is_empty() {
                self.add_family(&family, series, with_exemplars);
            }
        }
    }

    fn add_family(
        &mut self,
        family: &ReadFamily<'a>,
        series: Vec<ReadSeries<'a>>,
        with_exemplars: bool,
    ) {
        let named = self
            .by_name
            .entry(Cow::Borrowed(family.name))
            .or_insert_with(|| Named {
                help: Cow::Borrowed(family.help),
                kind: family.kind,
                families: Vec::new(),
            });
        if named.kind != family.kind {
            self.at_odds += 1;
            return;
        }
        let Some(merged) = named.family(&family.labels, &family.bounds, Cow::Borrowed) else {
            self.at_odds += 1;
            return;
        };
        let most = if with_exemplars {
            usize::MAX
        } else {
            family.kind.counted_words(family.bounds.len())
        };
        for series in series.into_iter().filter(|series| !series.is_hidden) {
            let key = (series.values, series.is_overflow);
            merged.add(family.kind, key, words(series.words).take(most));
        }
    }
}

impl<'a> Named<'a> {
    /// The family with these labels and bounds; `None`: there are too many others.
    pub(crate) fn family<'b>(
        &mut self,
        labels: &[&'b str],
        bounds: &[f64],
        keep: impl Fn(&'b str) -> Cow<'a, str>,
    ) -> Option<&mut Merged<'a>> {
        let known = self.families.iter().position(|known| {
            known.labels.len() == labels.len()
                && known.labels.iter().zip(labels).all(|(a, b)| a == b)
                && known.bounds == bounds
        });
        if known.is_none() && self.families.len() >= MOST_SHAPES {
            return None;
        }
        let index = known.unwrap_or_else(|| {
            self.families.push(Merged {
                labels: labels.iter().map(|label| keep(label)).collect(),
                bounds: bounds.to_vec(),
                series: FxHashMap::default(),
            });
            self.families.len() - 1
        });
        Some(&mut self.families[index])
    }
}

impl<'a> Merged<'a> {
    pub(crate) fn add(&mut self, kind: Kind, key: Key<'a>, words: impl Iterator<Item = u64>) {
        match self.series.get_mut(&key) {
            Some(sum) => add(kind, self.bounds.len(), sum, words),
            None => drop(self.series.insert(key, words.collect())),
        }
    }
}

/// Adds the words of a series to those of another of the same kind and bounds. Of exemplars the last one stays.
pub(crate) fn add(
    kind: Kind,
    bounds: usize,
    sum: &mut Vec<u64>,
    mut words: impl Iterator<Item = u64>,
) {
    let counted = kind.counted_words(bounds);
    for (index, (sum, word)) in sum.iter_mut().zip(words.by_ref().take(counted)).enumerate() {
        let is_whole = match kind {
            Kind::Count | Kind::Level => true,
            Kind::Amount | Kind::Gauge => false,
            Kind::Histogram | Kind::Traced => index + 1 < counted,
        };
        *sum = if is_whole {
            sum.wrapping_add(word)
        } else {
            (f64::from_bits(*sum) + f64::from_bits(word)).to_bits()
        };
    }
    let rest: Vec<u64> = words.collect();
    for (index, slot) in rest.chunks_exact(exemplar::WORDS).enumerate() {
        let at = counted + index * exemplar::WORDS;
        match sum.get_mut(at..at + exemplar::WORDS) {
            Some(known) if exemplar::written_at(known) < exemplar::written_at(slot) => {
                known.copy_from_slice(slot);
            }
            Some(_) => {}
            None => sum.extend_from_slice(slot),
        }
    }
}
