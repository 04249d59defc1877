//! A slot as bytes, and back. Pure; nothing in the bytes is believed.
//!
//! ```text
//! slot     checksum of all that follows (u32), bytes of the rows (u32), index (u64), milliseconds that it covers (u64),
//!          rows left out (u32), rows (u32), the rows, deflated
//! row      flags (u8), the names that differ from those of the row before, numbers
//! name     length (number), UTF-8
//! number   seven bits a byte, the lowest first; the highest bit says that there are more
//! ```
//!
//! Numbers of the head are little-endian. Rows are sorted by name, so most of a name is in the row before; and they are
//! deflated, since most of what is left is alike too.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use flate2::{Compression, Crc, read::DeflateDecoder, write::DeflateEncoder};

use crate::row::{BUCKETS, Row, Subject};

const HEAD: usize = 32;
/// More than any slot has; a slot that says more is damaged.
const MOST_INFLATED: u64 = 4 * 1024 * 1024;
/// Longer names are cut.
const LONGEST_NAME: usize = 256;

const SAME_APPLICATION: u8 = 1;
const SAME_DEPLOYMENT: u8 = 2;
const HAS_REPLICA: u8 = 4;
const HAS_WANTED: u8 = 8;
const HAS_READY: u8 = 16;

/// What was measured in one slot of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The time of its beginning, in steps of its tier.
    pub(crate) index: u64,
    /// How long was measured in it.
    pub(crate) covered_ms: u64,
    /// Rows that had no room.
    pub(crate) left_out: u64,
    pub(crate) rows: BTreeMap<Subject, Row>,
}

/// The slot in at most `room` bytes: with as many rows as fit.
pub(crate) fn encode(slot: &Slot, room: usize, has_replicas: bool) -> io::Result<Vec<u8>> {
    let rows: Vec<(&Subject, &Row)> = slot
        .rows
        .iter()
        .filter(|(subject, _)| has_replicas || !subject.is_replica())
        .collect();
    let bytes = whole(slot, &rows, 0)?;
    if bytes.len() <= room {
        return Ok(bytes);
    }
    let mut ranked = rows.clone();
    // Those that stay come first. A stable sort: what weighs the same stays in the order of names.
    ranked.sort_by_key(|(subject, row)| (subject.is_replica(), u64::MAX - row.weight()));
    // As many as there would be room for if all were as long as they are on average.
    let mut keep = rows.len() * room / bytes.len();
    loop {
        let mut kept = ranked[..keep].to_vec();
        kept.sort_by_key(|(subject, _)| *subject);
        let bytes = whole(slot, &kept, (rows.len() - keep) as u64)?;
        if bytes.len() <= room || keep == 0 {
            return Ok(bytes);
        }
        keep = keep * 15 / 16;
    }
}

fn whole(slot: &Slot, rows: &[(&Subject, &Row)], dropped: u64) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(rows.len() * 48);
    let mut before = Subject::default();
    for (subject, row) in rows {
        push_row(&mut plain, &before, subject, row);
        before = (*subject).clone();
    }
    let mut encoder = DeflateEncoder::new(vec![0; HEAD], Compression::fast());
    encoder.write_all(&plain)?;
    let mut bytes = encoder.finish()?;
    let left_out = u32::try_from(slot.left_out.saturating_add(dropped)).unwrap_or(u32::MAX);
    let length = (bytes.len() - HEAD) as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..16].copy_from_slice(&slot.index.to_le_bytes());
    bytes[16..24].copy_from_slice(&slot.covered_ms.to_le_bytes());
    bytes[24..28].copy_from_slice(&left_out.to_le_bytes());
    bytes[28..32].copy_from_slice(&(rows.len() as u32).to_le_bytes());
    let checksum = checksum(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The bytes that a slot has, by its head; `None`: it is none.
pub(crate) fn length(head: &[u8]) -> Option<usize> {
    Some(HEAD + u32_at(head, 4)? as usize)
}

/// The slot, if it is whole and the one that is looked for.
pub(crate) fn decode(bytes: &[u8], index: u64) -> Option<Slot> {
    let bytes = bytes.get(..length(bytes)?)?;
    if u32_at(bytes, 0)? != checksum(&bytes[4..]) || u64_at(bytes, 8)? != index {
        return None;
    }
    let mut plain = Vec::new();
    DeflateDecoder::new(&bytes[HEAD..])
        .take(MOST_INFLATED)
        .read_to_end(&mut plain)
        .ok()?;
    let mut slot = Slot {
        index,
        covered_ms: u64_at(bytes, 16)?,
        left_out: u32_at(bytes, 24)?.into(),
        rows: BTreeMap::new(),
    };
    let mut rest = &plain[..];
    let mut before = Subject::default();
    for _ in 0..u32_at(bytes, 28)? {
        let (subject, row) = take_row(&mut rest, &before)?;
        before = subject.clone();
        slot.rows.insert(subject, row);
    }
    Some(slot)
}

fn push_row(into: &mut Vec<u8>, before: &Subject, subject: &Subject, row: &Row) {
    let same_application = before.application == subject.application;
    let same_deployment = same_application && before.deployment == subject.deployment;
    let flags = [
        (SAME_APPLICATION, same_application),
        (SAME_DEPLOYMENT, same_deployment),
        (HAS_REPLICA, subject.is_replica()),
        (HAS_WANTED, row.wanted.is_some()),
        (HAS_READY, row.ready.is_some()),
    ];
    into.push(
        flags
            .iter()
            .filter(|(_, is)| *is)
            .map(|(flag, _)| flag)
            .sum(),
    );
    if !same_application {
        push_name(into, &subject.application);
    }
    if !same_deployment {
        push_name(into, &subject.deployment);
    }
    if subject.is_replica() {
        push_name(into, &subject.replica);
    }
    for number in row.wanted.iter().chain(&row.ready) {
        push(into, *number);
    }
    for number in [
        row.requests,
        row.errors,
        row.queued,
        row.ongoing,
        row.cpu_ms,
        row.memory_kib,
    ] {
        push(into, number);
    }
    // Which buckets have any, then how many each.
    let any = row
        .latency
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0);
    push(into, any.clone().map(|(index, _)| 1 << index).sum());
    for (_, count) in any {
        push(into, *count);
    }
}

fn take_row(rest: &mut &[u8], before: &Subject) -> Option<(Subject, Row)> {
    let (flags, after) = rest.split_first()?;
    *rest = after;
    let has = |flag: u8| flags & flag != 0;
    let mut subject = Subject {
        replica: "".into(),
        ..before.clone()
    };
    if !has(SAME_APPLICATION) {
        subject.application = take_name(rest)?;
    }
    if !has(SAME_DEPLOYMENT) {
        subject.deployment = take_name(rest)?;
    }
    if has(HAS_REPLICA) {
        subject.replica = take_name(rest)?;
    }
    let wanted = if has(HAS_WANTED) {
        Some(take(rest)?)
    } else {
        None
    };
    let ready = if has(HAS_READY) {
        Some(take(rest)?)
    } else {
        None
    };
    let mut row = Row {
        wanted,
        ready,
        requests: take(rest)?,
        errors: take(rest)?,
        queued: take(rest)?,
        ongoing: take(rest)?,
        cpu_ms: take(rest)?,
        memory_kib: take(rest)?,
        latency: [0; BUCKETS],
    };
    let any = take(rest)?;
    for (index, count) in row.latency.iter_mut().enumerate() {
        if any & (1 << index) != 0 {
            *count = take(rest)?;
        }
    }
    Some((subject, row))
}

/// A text, and no more of it than is kept, cut between characters.
pub(crate) fn push_name(into: &mut Vec<u8>, name: &str) {
    let mut end = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    push(into, end as u64);
    into.extend_from_slice(&name.as_bytes()[..end]);
}

pub(crate) fn take_name(rest: &mut &[u8]) -> Option<Arc<str>> {
    let length = usize::try_from(take(rest)?).ok()?;
    let (name, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(std::str::from_utf8(name).ok()?.into())
}

pub(crate) fn push(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

pub(crate) fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << place;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*word))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*word))
}
