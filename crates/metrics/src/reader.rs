//! Reads the bytes of a sheet. Nothing in them is believed: what is not of the form ends the reading, and what was read before
//! that stays.

use std::borrow::Cow;

use crate::layout::{self, FAMILY, HEADER, Kind, MAGIC, MOST_BOUNDS, MOST_LABELS, SERIES, aligned};

/// Whose sheet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    /// First, so that the process that has lived longest comes first.
    pub(crate) started: u64,
    pub(crate) pid: u32,
}

/// A sheet as it was at one moment.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) owner: Owner,
    pub(crate) families: Vec<ReadFamily<'a>>,
}

#[derive(Debug)]
pub(crate) struct ReadFamily<'a> {
    place: usize,
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    pub(crate) kind: Kind,
    pub(crate) labels: Vec<&'a str>,
    pub(crate) bounds: Vec<f64>,
    pub(crate) series: Vec<ReadSeries<'a>>,
}

#[derive(Clone, Debug)]
pub(crate) struct ReadSeries<'a> {
    /// The values of its labels as they lie in the sheet: equal for equal values.
    pub(crate) values: Cow<'a, [u8]>,
    pub(crate) is_overflow: bool,
    pub(crate) is_hidden: bool,
    /// Its words, 8 bytes each.
    pub(crate) words: &'a [u8],
}

/// The values of labels, from the bytes of a series.
pub(crate) fn values(bytes: &[u8]) -> impl Iterator<Item = &str> {
    let mut rest = bytes;
    std::iter::from_fn(move || take_text(&mut rest))
}

/// The words of a series.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|word| {
        let mut whole = [0; 8];
        whole.copy_from_slice(word);
        u64::from_ne_bytes(whole)
    })
}

/// `None`: it is no sheet, or not one yet.
pub(crate) fn owner(bytes: &[u8]) -> Option<Owner> {
    if bytes.len() < HEADER || word_at(bytes, 0)? != MAGIC {
        return None;
    }
    Some(Owner {
        started: word_at(bytes, layout::STARTED_AT)?,
        pid: word_at(bytes, layout::PID_AT)? as u32,
    })
}

/// The bytes of a sheet that are in use.
pub(crate) fn used(bytes: &[u8]) -> &[u8] {
    let used = word_at(bytes, layout::USED_AT).and_then(|used| usize::try_from(used).ok());
    &bytes[..used.unwrap_or(0).min(bytes.len())]
}

/// `None`: it is no sheet, or not one yet.
pub(crate) fn read(bytes: &[u8]) -> Option<Read<'_>> {
    let owner = owner(bytes)?;
    let bytes = used(bytes);
    let mut read = Read {
        owner,
        families: Vec::new(),
    };
    let mut place = HEADER;
    while let Some(record) = record_at(bytes, place) {
        if read.take(place, record).is_none() {
            break;
        }
        place += record.len();
    }
    Some(read)
}

fn record_at(bytes: &[u8], place: usize) -> Option<&[u8]> {
    let mut rest = bytes.get(place..)?;
    let length = take_u32(&mut rest)? as usize;
    let is_possible = length >= 16 && length.is_multiple_of(8);
    is_possible.then(|| bytes.get(place..place + length))?
}

impl<'a> Read<'a> {
    fn take(&mut self, place: usize, record: &'a [u8]) -> Option<()> {
        let kind = Kind::from_code(*record.get(5)?)?;
        match *record.get(4)? {
            FAMILY => self.families.push(family(place, kind, record)?),
            SERIES => self.take_series(kind, record)?,
            // Of a later release.
            _ => {}
        }
        Some(())
    }

    fn take_series(&mut self, kind: Kind, record: &'a [u8]) -> Option<()> {
        let mut rest = record.get(8..)?;
        let of = take_u32(&mut rest)? as usize;
        let is_overflow = take_u16(&mut rest)? != 0;
        let count = take_u16(&mut rest)? as usize;
        // Families stand in the order of their places, and series after theirs.
        let index = self
            .families
            .binary_search_by_key(&of, |family| family.place)
            .ok()?;
        let family = &mut self.families[index];
        let expected = if is_overflow { 0 } else { family.labels.len() };
        if family.kind != kind || count != expected {
            return None;
        }
        let values_at = record.len() - rest.len();
        for _ in 0..count {
            take_text(&mut rest)?;
        }
        let values = &record[values_at..record.len() - rest.len()];
        let at = aligned(record.len() - rest.len());
        let words = record.get(at..)?;
        if words.len() != (1 + kind.words(family.bounds.len())) * 8 {
            return None;
        }
        family.series.push(ReadSeries {
            values: Cow::Borrowed(values),
            is_overflow,
            is_hidden: word_at(words, 0)? != 0,
            words: &words[8..],
        });
        Some(())
    }
}

fn family(place: usize, kind: Kind, record: &[u8]) -> Option<ReadFamily<'_>> {
    let mut rest = record.get(8..)?;
    let name = take_text(&mut rest)?;
    let help = take_text(&mut rest)?;
    let labels = take_u16(&mut rest)? as usize;
    if labels > MOST_LABELS {
        return None;
    }
    let labels = (0..labels)
        .map(|_| take_text(&mut rest))
        .collect::<Option<Vec<_>>>()?;
    let bounds = take_u16(&mut rest)? as usize;
    let at = aligned(record.len() - rest.len());
    let tail = record.get(at..)?;
    if bounds > MOST_BOUNDS || tail.len() != bounds * 8 {
        return None;
    }
    let is_fit = is_name(name, b':') && are_labels(&labels, kind);
    is_fit.then(|| ReadFamily {
        place,
        name,
        help,
        kind,
        labels,
        bounds: words(tail).map(f64::from_bits).collect(),
        series: Vec::new(),
    })
}

/// Whether a line with these labels is one that Prometheus takes.
fn are_labels(labels: &[&str], kind: Kind) -> bool {
    labels.iter().enumerate().all(|(index, label)| {
        let is_bound = kind.is_histogram() && *label == "le";
        is_name(label, b'_') && !is_bound && !labels[..index].contains(label)
    })
}

/// A name that Prometheus takes: letters, digits, `_` and `also`, and no digit first.
pub(crate) fn is_name(name: &str, also: u8) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == also;
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(fits)
}

fn word_at(bytes: &[u8], place: usize) -> Option<u64> {
    words(bytes.get(place..place + 8)?).next()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    take(rest).map(u16::from_ne_bytes)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_ne_bytes)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_u16(rest)? as usize;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}
