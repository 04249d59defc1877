//! How a sheet lies in its file: a header, then records that are only ever appended.
//!
//! A record of a **family** says name, help, labels and bounds; one of a **series** names its family by place, has the values of
//! its labels, and ends with the words that are counted in. `used` in the header is written after a record is whole,
//! so whoever reads up to there sees whole records. All lengths are checked by the reader: user code shares the process that
//! writes, and may write anything.
//!
//! ```text
//! header   magic, pid (u32) and 0 (u32), start of the process, used bytes, 4 words of 0
//! record   length in bytes (u32), what (u8), kind (u8), 0 (u16), ...
//! family   ... name, help, count of labels (u16), label names, count of bounds (u16), padding, bounds (f64)
//! series   ... place of the family (u32), overflow (u16), count of values (u16), values, padding, words (u64)
//! text     length (u16), UTF-8
//! ```
//!
//! Numbers are in the order of the machine, which is the one that reads them.

use crate::exemplar;

/// With the version of the layout at its end.
pub(crate) const MAGIC: u64 = u64::from_ne_bytes(*b"eglmet\0\x01");
pub(crate) const HEADER: usize = 64;
pub(crate) const PID_AT: usize = 8;
pub(crate) const STARTED_AT: usize = 16;
pub(crate) const USED_AT: usize = 24;
pub(crate) const FAMILY: u8 = 1;
pub(crate) const SERIES: u8 = 2;
/// A sheet grows up to here.
pub(crate) const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Longer values of labels are cut, and so is help.
pub(crate) const LONGEST_TEXT: usize = 1024;
pub(crate) const MOST_LABELS: usize = 32;
pub(crate) const MOST_BOUNDS: usize = 256;

/// What the words of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A whole number that only goes up.
    Count,
    /// A number that only goes up.
    Amount,
    /// A whole number that goes up and down by steps; those of several processes are added up.
    Level,
    /// A number that is set.
    Gauge,
    /// Numbers by bucket, and their sum.
    Histogram,
    /// The same with a request of each bucket.
    Traced,
}

impl Kind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Count => 1,
            Self::Amount => 2,
            Self::Level => 3,
            Self::Gauge => 4,
            Self::Histogram => 5,
            Self::Traced => 6,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Count,
            2 => Self::Amount,
            3 => Self::Level,
            4 => Self::Gauge,
            5 => Self::Histogram,
            6 => Self::Traced,
            _ => return None,
        })
    }

    /// Words that a series has, after the one that says whether it is shown.
    pub(crate) const fn words(self, bounds: usize) -> usize {
        let counted = self.counted_words(bounds);
        match self {
            Self::Traced => counted + (bounds + 1) * exemplar::WORDS,
            _ => counted,
        }
    }

    /// Of these, those that are numbers.
    pub(crate) const fn counted_words(self, bounds: usize) -> usize {
        match self {
            // One more bucket than bounds, and the sum.
            Self::Histogram | Self::Traced => bounds + 2,
            _ => 1,
        }
    }

    pub const fn is_histogram(self) -> bool {
        matches!(self, Self::Histogram | Self::Traced)
    }

    /// Whether what a dead process had counted still counts.
    pub(crate) const fn is_total(self) -> bool {
        matches!(self, Self::Count | Self::Amount) || self.is_histogram()
    }

    /// As Prometheus says it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Count | Self::Amount => "counter",
            Self::Level | Self::Gauge => "gauge",
            Self::Histogram | Self::Traced => "histogram",
        }
    }
}

/// The next place where a word may begin.
pub(crate) const fn aligned(place: usize) -> usize {
    place.next_multiple_of(8)
}

/// No more of a text than a sheet takes, cut between characters.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

pub(crate) fn push_text(record: &mut Vec<u8>, text: &str) {
    let text = cut(text);
    // At most LONGEST_TEXT.
    record.extend_from_slice(&(text.len() as u16).to_ne_bytes());
    record.extend_from_slice(text.as_bytes());
}

/// The beginning of a record, whose length is filled in at its end.
pub(crate) fn begin(what: u8, kind: Kind) -> Vec<u8> {
    vec![0, 0, 0, 0, what, kind.code(), 0, 0]
}

/// Ends a record, with room for so many words; where in it they begin.
pub(crate) fn end(record: &mut Vec<u8>, words: usize) -> usize {
    let at = aligned(record.len());
    record.resize(at + words * 8, 0);
    // A record is far shorter than 4 GiB: its texts, labels and bounds are bounded.
    let length = (record.len() as u32).to_ne_bytes();
    record[..4].copy_from_slice(&length);
    at
}
