//! Search: [`search`] plans which blocks of which files may have what is looked for, and reads those only.
//!
//! Blocks overlap in time, since many processes log at once. So records go through a heap: one is given once no block that
//! is still to be read can have an earlier one. With a limit the newest blocks are read first, until what is left is
//! older than all that is kept. What waits in the heap is bounded by [`HELD_BYTES`] with a limit, and by a block for each
//! file without one.
//!
//! Whoever searches waits for the disk, so it needs a thread that may. Writers are never waited for, nor made to wait: a
//! file that is turned over meanwhile is found under its next name, and one that is removed is passed over.

use std::{cmp::Reverse, collections::BinaryHeap, fs::File, io, path::Path};

use crate::{
    Clock,
    block::{self, Block},
    index::{self, BlockRef, Part},
    query::Query,
    record::{self, Record},
};

/// With a limit the oldest are let go of beyond this.
const HELD_BYTES: usize = 64 * 1024 * 1024;

/// What [`search`] found, in the order of time.
#[derive(Debug)]
pub struct Search {
    query: Query,
    parts: Vec<Part>,
    /// Up to where each of them was looked at.
    ends: Vec<u64>,
    /// Still to be read; the next is the last.
    blocks: Vec<Candidate>,
    found: BinaryHeap<Reverse<Record>>,
    clock: Clock,
    /// The file that was read last.
    open: Option<(usize, File)>,
}

#[derive(Debug)]
struct Candidate {
    part: usize,
    offset: u64,
    length: u32,
    first_ms: i64,
    last_ms: i64,
}

/// Looks for records in the logs of a directory. What cannot be read is passed over.
pub fn search(logs: &Path, query: Query) -> Search {
    let mut search = Search {
        parts: index::parts(logs),
        ends: Vec::new(),
        blocks: Vec::new(),
        found: BinaryHeap::new(),
        clock: Clock::default(),
        open: None,
        query,
    };
    search.plan(logs);
    if let Some(limit) = search.query.limit {
        search.take_newest(limit);
    } else {
        search.blocks.sort_by_key(|block| Reverse(block.first_ms));
    }
    search
}

impl Search {
    /// Up to where each file was looked at: from there on [`Follow`](crate::Follow) goes on.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (&Part, u64)> {
        self.parts.iter().zip(self.ends.iter().copied())
    }

    fn plan(&mut self, logs: &Path) {
        let keys = self.query.keys();
        for at in 0..self.parts.len() {
            let Some(part) = self.parts.get(at).cloned() else {
                return;
            };
            let mut end = 0;
            if let Ok(log) = part.open() {
                // What was planned before an error stays.
                self.plan_part(logs, (at, &part, &log), &keys, &mut end)
                    .ok();
                self.open = Some((at, log));
            }
            self.ends.push(end);
        }
    }

    fn plan_part(
        &mut self,
        logs: &Path,
        (at, part, log): (usize, &Part, &File),
        keys: &[u64],
        end: &mut u64,
    ) -> io::Result<()> {
        let Self {
            query,
            blocks,
            clock,
            ..
        } = self;
        let mut before_ms = 0;
        let mut consider = |block: BlockRef<'_>| {
            if query.may_be_in(&block, keys) {
                blocks.push(Candidate {
                    part: at,
                    offset: block.offset,
                    length: block.length,
                    first_ms: block.first_ms,
                    last_ms: block.last_ms,
                });
            }
        };
        index::load(logs, part, log, |block| {
            (*end, before_ms) = (block.end(), block.last_ms);
            consider(block);
        })
        .ok();
        // What is not in the index yet.
        loop {
            let (bytes, _) = block::read(log, *end, part.bytes, clock)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let block = Block::of(*end, &bytes, before_ms, clock);
            (*end, before_ms) = (block.end(), block.last_ms);
            consider((&block).into());
        }
    }

    fn take_newest(&mut self, limit: usize) {
        self.blocks.sort_by_key(|block| block.last_ms);
        let mut held = 0;
        while let Some(block) = self.blocks.pop() {
            let oldest = self.found.peek().map(|Reverse(record)| record.time_ms);
            if self.found.len() >= limit && oldest.is_none_or(|oldest| oldest > block.last_ms) {
                break;
            }
            held += self.read(&block);
            while self.found.len() > limit || held > HELD_BYTES {
                let Some(Reverse(record)) = self.found.pop() else {
                    break;
                };
                held -= weight(&record);
            }
        }
        self.blocks.clear();
    }

    /// Puts what is wanted of a block into the heap; says how much that is.
    fn read(&mut self, candidate: &Candidate) -> usize {
        let Some(part) = self.parts.get(candidate.part) else {
            return 0;
        };
        if self
            .open
            .as_ref()
            .is_none_or(|(at, _)| *at != candidate.part)
        {
            self.open = part.open().ok().map(|log| (candidate.part, log));
        }
        let Some((_, log)) = &self.open else {
            return 0;
        };
        let mut bytes = Vec::new();
        let read = block::fill(log, candidate.offset, candidate.length as usize, &mut bytes);
        if read.is_err() || !self.query.may_be_among(&bytes) {
            return 0;
        }
        let mut held = 0;
        let query = &self.query;
        record::each(
            &bytes,
            (part.inode, candidate.offset),
            candidate.first_ms,
            &mut self.clock,
            |head| query.wants(head),
            |record| {
                if query.wants_all_of(&record) {
                    held += weight(&record);
                    self.found.push(Reverse(record));
                }
            },
        );
        held
    }
}

fn weight(record: &Record) -> usize {
    record.message.len() + size_of::<Record>()
}

impl Iterator for Search {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while let Some(block) = self.blocks.last() {
            let earliest = self.found.peek().map(|Reverse(record)| record.time_ms);
            if earliest.is_some_and(|earliest| earliest < block.first_ms) {
                break;
            }
            if let Some(block) = self.blocks.pop() {
                self.read(&block);
            }
        }
        self.found.pop().map(|Reverse(record)| record)
    }
}

#[cfg(test)]
mod tests;
