//! What is held by those who count: a place in a sheet.
//!
//! Each has two ways to change it. `add_alone` is for the one thread that writes the series: a plain load and a plain store.
//! `add` is for series that several threads write: one atomic step. Relaxed throughout: the numbers guard nothing, and
//! whoever reads them reads what was true a moment ago.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    exemplar::{self, Slot},
    layout::Kind,
    map::Map,
};

/// Where the words of a series begin; the first says whether it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) map: Option<Arc<Map>>,
    pub(crate) at: usize,
}

impl Place {
    /// The word with this number; `None`: there is no memory to count in.
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        let map = self.map.as_deref()?;
        Some(map.word(self.at + (1 + index) * 8))
    }

    fn hide(&self, hidden: bool) {
        if let Some(map) = &self.map {
            map.word(self.at).store(u64::from(hidden), Relaxed);
        }
    }
}

fn add_amount(word: &AtomicU64, amount: f64) {
    let mut before = word.load(Relaxed);
    loop {
        let after = (f64::from_bits(before) + amount).to_bits();
        match word.compare_exchange_weak(before, after, Relaxed, Relaxed) {
            Ok(_) => return,
            Err(other) => before = other,
        }
    }
}

fn add_amount_alone(word: &AtomicU64, amount: f64) {
    let sum = f64::from_bits(word.load(Relaxed)) + amount;
    word.store(sum.to_bits(), Relaxed);
}

/// A whole number that only goes up.
#[derive(Clone, Debug)]
pub struct Count(pub(crate) Place);

impl Count {
    pub fn add(&self, steps: u64) {
        if let Some(word) = self.0.word(0) {
            word.fetch_add(steps, Relaxed);
        }
    }

    pub fn add_alone(&self, steps: u64) {
        if let Some(word) = self.0.word(0) {
            word.store(word.load(Relaxed).wrapping_add(steps), Relaxed);
        }
    }

    /// Says what somebody else has counted.
    pub fn set(&self, total: u64) {
        if let Some(word) = self.0.word(0) {
            word.store(total, Relaxed);
        }
    }

    pub fn get(&self) -> u64 {
        self.0.word(0).map_or(0, |word| word.load(Relaxed))
    }
}

/// A number that only goes up.
#[derive(Clone, Debug)]
pub struct Amount(pub(crate) Place);

impl Amount {
    pub fn add(&self, amount: f64) {
        if let Some(word) = self.0.word(0) {
            add_amount(word, amount);
        }
    }
}

/// A whole number that goes up and down.
#[derive(Clone, Debug)]
pub struct Level(pub(crate) Place);

impl Level {
    /// Negative steps go down.
    pub fn add(&self, steps: i64) {
        if let Some(word) = self.0.word(0) {
            word.fetch_add(steps.cast_unsigned(), Relaxed);
        }
    }

    pub fn add_alone(&self, steps: i64) {
        if let Some(word) = self.0.word(0) {
            let sum = word.load(Relaxed).wrapping_add(steps.cast_unsigned());
            word.store(sum, Relaxed);
        }
    }

    pub fn set(&self, level: i64) {
        if let Some(word) = self.0.word(0) {
            word.store(level.cast_unsigned(), Relaxed);
        }
    }

    /// Takes it out of what is read, or puts it back.
    pub fn hide(&self, hidden: bool) {
        self.0.hide(hidden);
    }
}

/// A number that is set.
#[derive(Clone, Debug)]
pub struct Gauge(pub(crate) Place);

impl Gauge {
    pub fn set(&self, number: f64) {
        if let Some(word) = self.0.word(0) {
            word.store(number.to_bits(), Relaxed);
        }
    }

    /// Takes it out of what is read, or puts it back.
    pub fn hide(&self, hidden: bool) {
        self.0.hide(hidden);
    }
}

/// Numbers by bucket, and their sum.
#[derive(Clone, Debug)]
pub struct Histogram {
    pub(crate) is_traced: bool,
    pub(crate) place: Place,
    pub(crate) bounds: Arc<[f64]>,
}

impl Histogram {
    /// Numbers that are no number are left out: they would make the sum one for ever.
    pub fn observe(&self, number: f64) {
        let index = self.bucket(number);
        if let (Some(bucket), Some(sum)) = (index.and_then(|at| self.place.word(at)), self.sum()) {
            bucket.fetch_add(1, Relaxed);
            add_amount(sum, number);
        }
    }

    pub fn observe_alone(&self, number: f64) {
        let index = self.bucket(number);
        if let (Some(bucket), Some(sum)) = (index.and_then(|at| self.place.word(at)), self.sum()) {
            bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
            add_amount_alone(sum, number);
        }
    }

    /// Adds what somebody else has counted: so many numbers by bucket, and their sum. For the one thread that writes the
    /// series. Buckets that it does not have are left out.
    pub fn add_counted_alone(&self, buckets: &[u64], sum: f64) {
        for (index, count) in buckets.iter().enumerate().take(self.bounds.len() + 1) {
            if let (Some(bucket), 1..) = (self.place.word(index), *count) {
                bucket.store(bucket.load(Relaxed).wrapping_add(*count), Relaxed);
            }
        }
        if let Some(word) = self.sum() {
            add_amount_alone(word, sum);
        }
    }

    /// Of a histogram of milliseconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(milliseconds(time));
    }

    pub fn observe_time_alone(&self, time: Duration) {
        self.observe_alone(milliseconds(time));
    }

    /// As [`Histogram::observe_time`]. If the time has come for another exemplar of its bucket, the place for it.
    pub fn observe_traced(&self, time: Duration, at_ms: u64) -> Option<Slot<'_>> {
        let number = milliseconds(time);
        self.observe(number);
        self.slot(number, at_ms)
    }

    /// As [`Histogram::observe_time_alone`]. If the time has come for another exemplar of its bucket, the place for it.
    pub fn observe_traced_alone(&self, time: Duration, at_ms: u64) -> Option<Slot<'_>> {
        let number = milliseconds(time);
        self.observe_alone(number);
        self.slot(number, at_ms)
    }

    fn slot(&self, number: f64, at_ms: u64) -> Option<Slot<'_>> {
        if !self.is_traced {
            return None;
        }
        let counted = Kind::Traced.counted_words(self.bounds.len());
        let first = counted + self.bucket(number)? * exemplar::WORDS;
        if !Slot::is_due(self.place.word(first + 1)?, at_ms) {
            return None;
        }
        let mut words = [self.place.word(first)?; exemplar::WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.place.word(first + index)?;
        }
        Some(Slot {
            words,
            number,
            at_ms,
        })
    }

    fn bucket(&self, number: f64) -> Option<usize> {
        (!number.is_nan()).then(|| self.bounds.partition_point(|bound| *bound < number))
    }

    fn sum(&self) -> Option<&AtomicU64> {
        self.place.word(self.bounds.len() + 1)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}
