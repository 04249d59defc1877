//! What one process has counted, for those who do more with it than show it.

use crate::{
    liveness::Usage,
    reader::{self, Read, ReadFamily, ReadSeries},
};

/// A sheet as it was at one moment.
#[derive(Debug)]
pub struct Reading<'a> {
    name: &'a str,
    read: Read<'a>,
    /// `None`: its process has ended, and this is the last that it had counted.
    usage: Option<Usage>,
}

/// The series of one metric in a sheet.
#[derive(Clone, Copy, Debug)]
pub struct FamilyReading<'a>(&'a ReadFamily<'a>);

/// One set of label values.
#[derive(Clone, Copy, Debug)]
pub struct SeriesReading<'a> {
    series: &'a ReadSeries<'a>,
    /// Its words that are numbers; exemplars may follow.
    counted: usize,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(name: &'a str, read: Read<'a>, usage: Option<Usage>) -> Self {
        Self { name, read, usage }
    }

    /// Of its file. No two sheets have one name at a time, also of one process.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// When its process did. With the name it says which sheet this is: names come back.
    pub fn started(&self) -> u64 {
        self.read.owner.started
    }

    pub fn is_alive(&self) -> bool {
        self.usage.is_some()
    }

    /// What the process takes of the machine, if it lives.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    pub fn families(&self) -> impl Iterator<Item = FamilyReading<'_>> {
        self.read.families.iter().map(FamilyReading)
    }
}

impl<'a> FamilyReading<'a> {
    /// As it was declared: without `_total`.
    pub fn name(self) -> &'a str {
        self.0.name
    }

    pub fn labels(self) -> &'a [&'a str] {
        &self.0.labels
    }

    pub fn bounds(self) -> &'a [f64] {
        &self.0.bounds
    }

    /// Those that are shown.
    pub fn series(self) -> impl Iterator<Item = SeriesReading<'a>> + use<'a> {
        let shown = self.0.series.iter().filter(|series| !series.is_hidden);
        let counted = self.0.kind.counted_words(self.0.bounds.len());
        shown.map(move |series| SeriesReading { series, counted })
    }
}

impl<'a> SeriesReading<'a> {
    /// In the order of the labels. None where it is of all sets that had no place.
    pub fn values(self) -> impl Iterator<Item = &'a str> + use<'a> {
        reader::values(&self.series.values)
    }

    /// As the kind of its family has them; of a histogram the count of each bucket, then the sum.
    pub fn words(self) -> impl Iterator<Item = u64> + use<'a> {
        reader::words(self.series.words).take(self.counted)
    }
}
