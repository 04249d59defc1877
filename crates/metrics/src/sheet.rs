//! The sheet of one process: a file in the run directory, in which it declares families and counts in series.
//!
//! A series is made once, under a lock, by whoever meets a new set of label values, and is kept by those who count; asked for
//! again it is the same one. The file grows by whole steps that are written before they are used, so that a full disk is an
//! error here and never a fault of the memory. Then, and where the sheet is full, counts go nowhere, which is
//! said once.
//!
//! A forked child of user code inherits the mapping and counts on in the series that exist; new ones are not made there.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::{
    cell::{Amount, Count, Gauge, Histogram, Level, Place},
    layout::{self, HEADER, Kind, MOST_BOUNDS, MOST_BYTES, MOST_LABELS},
    liveness,
    map::{self, Map},
};

/// The file grows by this much, so that it is rarely done.
const STEP: usize = 16 * 1024;

/// What a family is.
#[derive(Clone, Copy, Debug)]
pub struct FamilySpec<'a> {
    /// Without `_total`, which the text adds to counters.
    pub name: &'a str,
    pub help: &'a str,
    pub kind: Kind,
    pub labels: &'a [&'a str],
    /// Upper bounds of a histogram's buckets, rising and finite.
    pub bounds: &'a [f64],
    /// Sets of label values that it takes; further ones count together.
    pub most: usize,
}

#[derive(Debug)]
struct Inner {
    map: Option<Arc<Map>>,
    /// `None`: memory of this process alone.
    file: Option<File>,
    pid: u32,
    end: Mutex<End>,
    has_complained: AtomicBool,
}

/// How far the sheet goes.
#[derive(Debug)]
struct End {
    used: usize,
    /// Bytes that may be used without growing.
    room: usize,
}

/// The sheet of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sheet(Arc<Inner>);

impl Sheet {
    /// Makes the file of this process in `directory`. `role` is for people who look there.
    ///
    /// # Errors
    /// It cannot be made. [`Sheet::of_nobody`] serves instead.
    pub fn create(directory: &Path, role: &str) -> io::Result<Self> {
        let pid = process::id();
        let file = create_file(directory, role, pid)?;
        file.write_all_at(&[0; STEP], 0)?;
        let map = Map::of_file(&file, MOST_BYTES)?;
        let started = liveness::started(pid).unwrap_or(0);
        Ok(Self::begin(map, Some(file), pid, started, STEP))
    }

    /// One that nobody reads: for tests, and for when there is no file to count in.
    pub fn of_nobody() -> Self {
        match Map::of_nobody(MOST_BYTES) {
            Ok(map) => Self::begin(map, None, process::id(), 0, MOST_BYTES),
            // Not even memory: its cells count nowhere.
            Err(_) => Self(Arc::new(Inner {
                map: None,
                file: None,
                pid: process::id(),
                end: Mutex::new(End { used: 0, room: 0 }),
                has_complained: AtomicBool::new(false),
            })),
        }
    }

    fn begin(map: Map, file: Option<File>, pid: u32, started: u64, room: usize) -> Self {
        map.word(layout::PID_AT)
            .store(u64::from(pid), Ordering::Relaxed);
        map.word(layout::STARTED_AT)
            .store(started, Ordering::Relaxed);
        map.word(layout::USED_AT)
            .store(HEADER as u64, Ordering::Relaxed);
        // Last: without it the file is none yet.
        map.word(0).store(layout::MAGIC, Ordering::Release);
        Self(Arc::new(Inner {
            map: Some(Arc::new(map)),
            file,
            pid,
            end: Mutex::new(End { used: HEADER, room }),
            has_complained: AtomicBool::new(false),
        }))
    }

    /// Declares a family. Twice the same name is two families, which the reader adds up: declare each once.
    pub fn family(&self, spec: &FamilySpec<'_>) -> Family {
        let labels = spec.labels.len().min(MOST_LABELS);
        let bounds = &spec.bounds[..spec.bounds.len().min(MOST_BOUNDS)];
        let mut record = layout::begin(layout::FAMILY, spec.kind);
        layout::push_text(&mut record, spec.name);
        layout::push_text(&mut record, spec.help);
        record.extend_from_slice(&(labels as u16).to_ne_bytes());
        for label in &spec.labels[..labels] {
            layout::push_text(&mut record, label);
        }
        record.extend_from_slice(&(bounds.len() as u16).to_ne_bytes());
        let at = layout::end(&mut record, bounds.len());
        for (bound, into) in bounds.iter().zip(record[at..].chunks_exact_mut(8)) {
            into.copy_from_slice(&bound.to_bits().to_ne_bytes());
        }
        Family {
            sheet: self.clone(),
            name: spec.name.into(),
            kind: spec.kind,
            labels,
            bounds: bounds.into(),
            place: self.append(&record),
            most: spec.most,
            known: Arc::default(),
        }
    }

    /// Adds a record that is whole; where it lies, or `None` if there is no room.
    fn append(&self, record: &[u8]) -> Option<usize> {
        let inner = &*self.0;
        let map = inner.map.as_ref()?;
        if inner.pid != process::id() {
            return None;
        }
        let mut end = inner.end.lock();
        let place = end.used;
        let after = place + record.len();
        if let Err(problem) = inner.grow(&mut end, after) {
            if !inner.has_complained.swap(true, Ordering::Relaxed) {
                tracing::warn!(%problem, "some metrics are not counted: the sheet of this process cannot grow");
            }
            return None;
        }
        map.write(place, record);
        end.used = after;
        // Release: whoever reads it sees the record.
        map.word(layout::USED_AT)
            .store(after as u64, Ordering::Release);
        Some(place)
    }
}

impl Inner {
    fn grow(&self, end: &mut End, wanted: usize) -> io::Result<()> {
        if wanted > MOST_BYTES {
            return Err(io::Error::other("it is full"));
        }
        while end.room < wanted {
            let Some(file) = &self.file else {
                return Err(io::Error::other("it is full"));
            };
            file.write_all_at(&[0; STEP], end.room as u64)?;
            end.room += STEP;
        }
        Ok(())
    }
}

fn create_file(directory: &Path, role: &str, pid: u32) -> io::Result<File> {
    let mut number = 0;
    loop {
        let path = directory.join(format!("{role}-{pid}-{number}"));
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            // Of another sheet of this process, or of a process that had its number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => {
                number += 1;
            }
            made => return made,
        }
    }
}

/// Where a series is, by the values of its labels; `None` as a value: it counts nowhere.
type Known = FxHashMap<Box<[Box<str>]>, Option<usize>>;

/// A family of a sheet: series that differ in the values of their labels. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Family {
    sheet: Sheet,
    name: Box<str>,
    kind: Kind,
    labels: usize,
    bounds: Arc<[f64]>,
    place: Option<usize>,
    most: usize,
    known: Arc<Mutex<Known>>,
}

impl Family {
    /// The series with these values, in the order of the labels. Labels without one are empty; values too many are left out.
    pub fn count(&self, values: &[&str]) -> Count {
        debug_assert_eq!(self.kind, Kind::Count, "{}", self.name);
        Count(self.series(values))
    }

    pub fn amount(&self, values: &[&str]) -> Amount {
        debug_assert_eq!(self.kind, Kind::Amount, "{}", self.name);
        Amount(self.series(values))
    }

    pub fn level(&self, values: &[&str]) -> Level {
        debug_assert_eq!(self.kind, Kind::Level, "{}", self.name);
        Level(self.series(values))
    }

    pub fn gauge(&self, values: &[&str]) -> Gauge {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        Gauge(self.series(values))
    }

    pub fn histogram(&self, values: &[&str]) -> Histogram {
        debug_assert!(self.kind.is_histogram(), "{}", self.name);
        Histogram {
            is_traced: self.kind == Kind::Traced,
            place: self.series(values),
            bounds: Arc::clone(&self.bounds),
        }
    }

    fn series(&self, values: &[&str]) -> Place {
        let key: Box<[Box<str>]> = (0..self.labels)
            .map(|index| layout::cut(values.get(index).unwrap_or(&"")).into())
            .collect();
        let mut known = self.known.lock();
        let at = match known.get(&key) {
            Some(at) => *at,
            None if known.len() < self.most => {
                let at = self.append(&key, false);
                known.insert(key, at);
                at
            }
            None => self.overflow(&mut known),
        };
        let map = at.and(self.sheet.0.map.clone());
        match (map, at) {
            (Some(map), Some(at)) => Place { map: Some(map), at },
            _ => Place {
                map: map::nowhere(),
                at: HEADER,
            },
        }
    }

    /// The series of all sets beyond the bound. Its key has one value more than any other has.
    fn overflow(&self, known: &mut Known) -> Option<usize> {
        let key: Box<[Box<str>]> = vec!["".into(); self.labels + 1].into();
        if let Some(at) = known.get(&key) {
            return *at;
        }
        tracing::warn!(
            metric = &*self.name,
            sets = self.most,
            "this metric has as many sets of label values as it may; further ones are counted together, as overflow=\"true\""
        );
        let at = self.append(&[], true);
        known.insert(key, at);
        at
    }

    fn append(&self, values: &[Box<str>], is_overflow: bool) -> Option<usize> {
        let mut record = layout::begin(layout::SERIES, self.kind);
        record.extend_from_slice(&(self.place? as u32).to_ne_bytes());
        record.extend_from_slice(&u16::from(is_overflow).to_ne_bytes());
        record.extend_from_slice(&(values.len() as u16).to_ne_bytes());
        for value in values {
            layout::push_text(&mut record, value);
        }
        let words = 1 + self.kind.words(self.bounds.len());
        let at = layout::end(&mut record, words);
        Some(self.sheet.append(&record)? + at)
    }
}
