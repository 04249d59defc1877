//! Following: what is written to the logs of a directory from a search on.
//!
//! [`Follow::poll`] looks at every file and gives what has come to it; a file is known by its inode, so one that is turned
//! over goes on where it was, and a new one begins at its beginning. A record is given when the next one has begun or
//! nothing more has come until the next look, since its traceback may still be on its way.
//!
//! Whoever follows may be slower than those who write. Of a file that is [`BEHIND_BYTES`] ahead the rest is skipped and
//! its lines counted, so neither memory nor removed files pile up.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::{
    Clock, Search, block,
    index::{self, Part},
    query::Query,
    record::{self, Record},
};

/// Of one file, and of one look.
const BYTES_A_LOOK: u64 = 1024 * 1024;
const BEHIND_BYTES: u64 = 16 * 1024 * 1024;

/// Goes on where a search ended.
#[derive(Debug)]
pub struct Follow {
    logs: PathBuf,
    query: Query,
    at: HashMap<(u64, u64), Place>,
    clock: Clock,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    offset: u64,
    /// How long the file was at the last look.
    seen: u64,
    before_ms: i64,
    lost: u64,
}

impl Follow {
    /// Of the same query as the search, without its limit.
    pub fn after(logs: &Path, search: &Search, query: Query) -> Self {
        let at = search.ends().map(|(part, offset)| {
            let place = Place {
                offset,
                seen: part.bytes,
                ..Place::default()
            };
            (part.key(), place)
        });
        Self {
            logs: logs.to_owned(),
            query,
            at: at.collect(),
            clock: Clock::default(),
        }
    }

    /// What has come since the last look, in the order of time. Waits for the disk.
    pub fn poll(&mut self) -> Vec<Record> {
        let parts = index::parts(&self.logs);
        let mut found = Vec::new();
        let mut places = HashMap::with_capacity(parts.len());
        for part in &parts {
            let mut place = self.at.get(&part.key()).copied().unwrap_or_default();
            if place.offset > part.bytes {
                // Another file, of which the system has made the same inode.
                place = Place::default();
            }
            if part.bytes > place.offset {
                // A file that is gone meanwhile has no more to say.
                self.read(part, &mut place, &mut found).ok();
            }
            place.seen = part.bytes;
            places.insert(part.key(), place);
        }
        self.at = places;
        found.sort();
        found
    }

    fn read(
        &mut self,
        part: &Part,
        place: &mut Place,
        found: &mut Vec<Record>,
    ) -> std::io::Result<()> {
        let log = part.open()?;
        let mut left = BYTES_A_LOOK;
        while part.bytes - place.offset > BEHIND_BYTES {
            let (bytes, _) = block::read(&log, place.offset, part.bytes, &mut self.clock)?;
            if bytes.is_empty() {
                break;
            }
            place.lost += memchr::memchr_iter(b'\n', &bytes).count() as u64;
            place.offset += bytes.len() as u64;
        }
        while left > 0 {
            let is_quiet = place.seen == part.bytes;
            let (bytes, reaches_end) =
                block::read(&log, place.offset, part.bytes, &mut self.clock)?;
            let whole = if reaches_end && !is_quiet {
                // The last record may go on.
                block::last_head(&bytes, &mut self.clock).unwrap_or(0)
            } else {
                bytes.len()
            };
            let bytes = bytes.get(..whole).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            self.take(part, place, bytes, found);
            left = left.saturating_sub(bytes.len() as u64);
        }
        Ok(())
    }

    fn take(&mut self, part: &Part, place: &mut Place, bytes: &[u8], found: &mut Vec<Record>) {
        let query = &self.query;
        let mut last_ms = place.before_ms;
        let mut lost = std::mem::take(&mut place.lost);
        record::each(
            bytes,
            (part.inode, place.offset),
            place.before_ms,
            &mut self.clock,
            |head| query.wants(head),
            |mut record| {
                last_ms = last_ms.max(record.time_ms);
                if query.wants_all_of(&record) {
                    record.lost = std::mem::take(&mut lost);
                    found.push(record);
                }
            },
        );
        place.lost = lost;
        place.before_ms = last_ms;
        place.offset += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests;
