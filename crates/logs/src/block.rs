//! A log file is cut into blocks of whole records, so that a search reads few of them.

use std::{collections::HashSet, fs::File, io, os::unix::fs::FileExt};

use crate::{
    Clock, Level,
    filter::{self, Key},
    head::{Head, is_of_lost_lines},
};

/// What a block holds at most, unless one record is longer.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;
/// A longer record is cut.
const LONGEST_RECORD: usize = 1024 * 1024;

/// A piece of a file, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// A bit for each level.
    pub(crate) levels: u8,
    /// The words of its filter, little-endian.
    pub(crate) filter: Vec<u8>,
}

impl Block {
    /// Looks through the bytes at `offset`; records without a time have that of the one before, at first `before_ms`.
    pub(crate) fn of(offset: u64, bytes: &[u8], before_ms: i64, clock: &mut Clock) -> Self {
        let mut block = Self {
            offset,
            length: bytes.len() as u32,
            first_ms: i64::MAX,
            last_ms: i64::MIN,
            levels: 0,
            filter: Vec::new(),
        };
        let mut keys = HashSet::new();
        for (_, line) in lines(bytes) {
            if let Some(head) = Head::read(line, clock) {
                block.add(&head, &mut keys);
            } else if is_of_lost_lines(line) {
                block.levels |= 1 << Level::Warning as u8;
            }
        }
        if block.first_ms > block.last_ms {
            (block.first_ms, block.last_ms) = (before_ms, before_ms);
        }
        block.filter = filter::of(&keys)
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        block
    }

    fn add(&mut self, head: &Head<'_>, keys: &mut HashSet<u64>) {
        self.first_ms = self.first_ms.min(head.time_ms);
        self.last_ms = self.last_ms.max(head.time_ms);
        self.levels |= 1 << head.level as u8;
        let named = [
            Key::Application(&head.application),
            Key::Deployment(&head.deployment),
            Key::Replica(&head.replica),
            Key::Request(&head.request_id),
            Key::Request(&head.trace_id),
        ];
        keys.extend(named.map(Key::hash));
    }

    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// Whole lines with their offsets, without newlines; what has no newline at the end is one too.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let begin = at;
        at += length + 1;
        Some((begin, rest.get(..length)?))
    })
}

/// Reads the block that begins at `offset`: up to the last head within its bytes, so that a record is in one block. Its
/// last record may go on only if it reaches the end of the file, which is said too; there it has the whole lines, or is
/// empty if there is none.
pub(crate) fn read(
    file: &File,
    offset: u64,
    end: u64,
    clock: &mut Clock,
) -> io::Result<(Vec<u8>, bool)> {
    let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    for most in [BLOCK_BYTES, LONGEST_RECORD] {
        fill(file, offset, left.min(most), &mut bytes)?;
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        let reaches_end = bytes.len() == left;
        let cut = match bytes.get(..whole).unwrap_or_default() {
            _ if reaches_end && most == BLOCK_BYTES => None,
            lines if most == BLOCK_BYTES => last_head(lines, clock),
            lines => second_head(lines, clock),
        };
        if let Some(cut) = cut {
            bytes.truncate(cut);
            return Ok((bytes, false));
        }
        if reaches_end || (most == LONGEST_RECORD && whole > 0) {
            bytes.truncate(whole);
            return Ok((bytes, reaches_end));
        }
    }
    Ok((bytes, false))
}

pub(crate) fn fill(file: &File, offset: u64, length: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut have = bytes.len();
    bytes.resize(length, 0);
    while let Some(rest) = bytes.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + have as u64) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(have);
    Ok(())
}

/// Where the last record begins that is not the first.
pub(crate) fn last_head(bytes: &[u8], clock: &mut Clock) -> Option<usize> {
    let mut end = bytes.len().checked_sub(1)?;
    loop {
        let begin = memchr::memrchr(b'\n', bytes.get(..end)?)? + 1;
        if Head::read(bytes.get(begin..end)?, clock).is_some() {
            return Some(begin);
        }
        end = begin - 1;
    }
}

/// Where the second record begins.
fn second_head(bytes: &[u8], clock: &mut Clock) -> Option<usize> {
    lines(bytes)
        .skip(1)
        .find(|(_, line)| Head::read(line, clock).is_some())
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn cut(text: &str) -> Vec<String> {
        let (file, mut clock) = (file(text), Clock::default());
        let mut blocks = Vec::new();
        let mut offset = 0;
        loop {
            let (bytes, _) = read(&file, offset, text.len() as u64, &mut clock).unwrap();
            if bytes.is_empty() {
                return blocks;
            }
            offset += bytes.len() as u64;
            blocks.push(String::from_utf8(bytes).unwrap());
        }
    }

    #[test]
    fn blocks_end_where_a_record_does_and_lose_nothing() {
        let record =
            "ERROR 2026-12-01 09:00:00,000 a/D id r1 -- failed\nTraceback:\n  File\n".repeat(7);
        let record = record + &"x".repeat(300) + "\n";
        let text = record.repeat(400);
        let blocks = cut(&text);
        assert_eq!(blocks.concat(), text);
        assert!(blocks.len() > 3);
        for block in &blocks {
            assert!(block.starts_with("ERROR ") && block.len() <= BLOCK_BYTES);
        }
    }

    #[test]
    fn a_record_longer_than_a_block_is_one_and_an_endless_one_is_cut() {
        let head = "INFO 2026-12-01T09:00:00Z node -- x\n";
        let long = format!("{head}{}{head}", "continued\n".repeat(20_000));
        let text = long.repeat(6);
        let blocks = cut(&text);
        assert!(blocks.len() >= 6 && blocks.concat() == text);
        assert!(blocks.iter().all(|block| block.starts_with(head)));
        let endless = format!("{head}{}", "continued\n".repeat(300_000));
        let blocks = cut(&endless);
        assert!(blocks.concat() == endless);
        assert!(blocks.iter().all(|block| block.len() <= LONGEST_RECORD));
    }

    #[test]
    fn a_line_that_is_still_written_waits() {
        assert_eq!(cut("one\ntwo\nthr"), ["one\ntwo\n"]);
        assert!(cut("thr").is_empty());
    }

    #[test]
    fn a_block_knows_times_levels_and_keys() {
        let text =
            "INFO 1970-01-01T00:00:05Z node -- x\nmore\nWARN 1970-01-01T00:00:02Z node -- y\n";
        let block = Block::of(7, text.as_bytes(), 0, &mut Clock::default());
        assert_eq!(
            (block.first_ms, block.last_ms, block.end()),
            (2000, 5000, 7 + text.len() as u64)
        );
        assert_eq!(block.levels, 0b110);
        let none = Block::of(0, b"more\n", 42, &mut Clock::default());
        assert_eq!((none.first_ms, none.last_ms, none.levels), (42, 42, 0));
    }
}
