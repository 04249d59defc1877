//! All that several sheets say, by name: what the same labels say in two sheets is added up.

use std::{borrow::Cow, collections::BTreeMap};

use rustc_hash::FxHashMap;

use crate::{
    layout::Kind,
    reader::{Read, ReadFamily, ReadSeries, words},
};

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
    /// Families left out: another process has the name for another kind of metric.
    pub(crate) at_odds: u64,
}

impl<'a> All<'a> {
    /// Adds a sheet, as far as `takes` wants its families.
    pub(crate) fn add(&mut self, read: Read<'a>, takes: impl Fn(&ReadFamily<'a>) -> bool) {
        for family in read.families {
            if !family.series.is_empty() && takes(&family) {
                self.add_family(family);
            }
        }
    }

    fn add_family(&mut self, family: ReadFamily<'a>) {
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
        let merged = named.family(&family.labels, &family.bounds, Cow::Borrowed);
        for series in family.series {
            merged.add(family.kind, &series, Cow::Borrowed);
        }
    }
}

impl<'a> Named<'a> {
    /// The family with these labels and bounds.
    pub(crate) fn family<'b>(
        &mut self,
        labels: &[&'b str],
        bounds: &[f64],
        keep: impl Fn(&'b str) -> Cow<'a, str>,
    ) -> &mut Merged<'a> {
        let known = self.families.iter().position(|known| {
            known.labels.len() == labels.len()
                && known.labels.iter().zip(labels).all(|(a, b)| a == b)
                && known.bounds == bounds
        });
        let index = known.unwrap_or_else(|| {
            self.families.push(Merged {
                labels: labels.iter().map(|label| keep(label)).collect(),
                bounds: bounds.to_vec(),
                series: FxHashMap::default(),
            });
            self.families.len() - 1
        });
        &mut self.families[index]
    }
}

impl<'a> Merged<'a> {
    pub(crate) fn add<'b>(
        &mut self,
        kind: Kind,
        series: &ReadSeries<'b>,
        keep: impl Fn(&'b [u8]) -> Cow<'a, [u8]>,
    ) {
        if series.is_hidden {
            return;
        }
        let key = (keep(series.values), series.is_overflow);
        match self.series.get_mut(&key) {
            Some(sum) => add(kind, sum, words(series.words)),
            None => drop(self.series.insert(key, words(series.words).collect())),
        }
    }
}

/// Adds the words of a series to those of another of the same kind and as long.
pub(crate) fn add(kind: Kind, sum: &mut [u64], words: impl Iterator<Item = u64>) {
    let last = sum.len().saturating_sub(1);
    for (index, (sum, word)) in sum.iter_mut().zip(words).enumerate() {
        let is_whole = match kind {
            Kind::Count | Kind::Level => true,
            Kind::Amount | Kind::Gauge => false,
            Kind::Histogram => index < last,
        };
        *sum = if is_whole {
            sum.wrapping_add(word)
        } else {
            (f64::from_bits(*sum) + f64::from_bits(word)).to_bits()
        };
    }
}
