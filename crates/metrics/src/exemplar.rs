//! Exemplars: of each bucket of a latency, one request that was in it, by its trace or its own id.
//!
//! A slot for each bucket lies behind the words of its series and is written over once in [`EVERY_MS`]: so it costs a
//! comparison a request, no memory beyond the sheet's, and what is shown is of the last moments. Several may write a slot at
//! once, and the node reads while they do. So a slot has a check over its words, and one that is of two requests is none.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Words of a slot: the check, the head (milliseconds since 1970, 48 bits; what the id is; its length), the number, the id.
pub(crate) const WORDS: usize = 3 + ID_WORDS;
const ID_WORDS: usize = 5;
/// Longer ids are not kept: a part of one finds nothing.
const LONGEST_ID: usize = ID_WORDS * 8;
/// Between two of one bucket.
const EVERY_MS: u64 = 1000;
const TRACE: u8 = 1;
const REQUEST: u8 = 2;

/// By which a request is found again.
#[derive(Clone, Copy, Debug)]
pub enum ExemplarId<'a> {
    /// 32 hexadecimal digits.
    Trace(&'a [u8]),
    Request(&'a [u8]),
}

/// The time of day from a monotonic clock, so that a request that has looked at one needs no other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    since_1970: Duration,
}

impl Clock {
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            began: Instant::now(),
            since_1970: since.unwrap_or_default(),
        }
    }

    /// Milliseconds since 1970.
    pub fn at(&self, moment: Instant) -> u64 {
        let since = self.since_1970 + moment.saturating_duration_since(self.began);
        since.as_millis() as u64
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// The slot of a bucket in which a number has just been counted, and whose time has come.
#[derive(Debug)]
pub struct Slot<'a> {
    pub(crate) words: [&'a AtomicU64; WORDS],
    pub(crate) number: f64,
    pub(crate) at_ms: u64,
}

impl Slot<'_> {
    pub(crate) fn is_due(head: &AtomicU64, at_ms: u64) -> bool {
        at_ms.saturating_sub(head.load(Relaxed) >> 16) >= EVERY_MS
    }

    /// Says which request it was.
    pub fn write(self, id: ExemplarId<'_>) {
        let (kind, bytes) = match id {
            ExemplarId::Trace(bytes) => (TRACE, bytes),
            ExemplarId::Request(bytes) => (REQUEST, bytes),
        };
        if bytes.is_empty() || bytes.len() > LONGEST_ID {
            return;
        }
        let mut slot = [0; WORDS];
        slot[1] = self.at_ms << 16 | u64::from(kind) << 8 | bytes.len() as u64;
        slot[2] = self.number.to_bits();
        for (word, part) in slot[3..].iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..part.len()].copy_from_slice(part);
            *word = u64::from_ne_bytes(whole);
        }
        slot[0] = check(&slot);
        for (word, number) in self.words.iter().zip(slot) {
            word.store(number, Relaxed);
        }
    }
}

fn check(slot: &[u64]) -> u64 {
    slot[1..].iter().fold(0x9e37_79b9_7f4a_7c15, |sum, word| {
        (sum ^ word).wrapping_mul(0x100_0000_01b3).rotate_left(29)
    })
}

/// One that was read.
#[derive(Debug)]
pub(crate) struct Exemplar {
    /// The label that its id has.
    pub(crate) label: &'static str,
    id: [u8; LONGEST_ID],
    length: usize,
    pub(crate) number: f64,
    pub(crate) at_ms: u64,
}

impl Exemplar {
    pub(crate) fn id(&self) -> &str {
        // It was found to be of ASCII.
        std::str::from_utf8(&self.id[..self.length]).unwrap_or_default()
    }
}

/// When a slot was written; 0: it has nothing.
pub(crate) fn written_at(slot: &[u64]) -> u64 {
    slot.get(1).map_or(0, |head| head >> 16)
}

/// `None`: nothing is in it, or what is in it is not whole.
pub(crate) fn read(slot: &[u64]) -> Option<Exemplar> {
    let slot: &[u64; WORDS] = slot.try_into().ok()?;
    let head = slot[1];
    let label = match (head >> 8) as u8 {
        TRACE => "trace_id",
        REQUEST => "request_id",
        _ => return None,
    };
    let length = usize::from(head as u8);
    let mut id = [0; LONGEST_ID];
    for (part, word) in id.chunks_exact_mut(8).zip(&slot[3..]) {
        part.copy_from_slice(&word.to_ne_bytes());
    }
    let number = f64::from_bits(slot[2]);
    let is_whole = slot[0] == check(slot) && number.is_finite();
    let is_text = id.get(..length)?.iter().all(u8::is_ascii_graphic);
    (is_whole && is_text).then_some(Exemplar {
        label,
        id,
        length,
        number,
        at_ms: head >> 16,
    })
}
