//! Events on disk, so that the next controller goes on with them.
//!
//! Two files beside the checkpoint, `events` and `events.old`: each a row of records, `length u32 | protobuf`. When the
//! first has as many as are kept it takes the place of the second. They are appended to beside the loop, a batch at a time
//! and not synced: a crash of the machine costs the last moments, and a record that was cut ends what is read. An event
//! that cannot be written is no reason to stop: it is lost to the next controller only.

use std::{
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use eagleray_types::control::EventRecord;
use prost::Message as _;
use tokio::task::JoinHandle;

use crate::core::EVENTS_KEPT;

/// No record is longer; a length beyond it is none.
const RECORD_BYTES: usize = 8 * 1024;

/// The files, while nothing is written.
#[derive(Debug)]
struct Files {
    path: PathBuf,
    /// Records in the first.
    written: usize,
    /// Where its last whole record ends: beyond it lies what was cut.
    end: Option<u64>,
    failing: bool,
}

#[derive(Debug)]
pub(super) struct Journal {
    /// Away while a batch is written.
    files: Option<Files>,
    writing: Option<JoinHandle<Files>>,
    unwritten: Vec<EventRecord>,
}

impl Journal {
    /// Reads what is there, oldest first.
    pub(super) fn open(path: &Path) -> (Self, Vec<EventRecord>) {
        let (mut kept, _) = read(&old(path));
        let (newer, end) = read(path);
        let files = Files {
            path: path.to_owned(),
            written: newer.len(),
            end: Some(end),
            failing: false,
        };
        let last = kept.last().map_or(0, |last| last.number);
        kept.extend(newer.into_iter().filter(|one| one.number > last));
        let excess = kept.len().saturating_sub(EVENTS_KEPT);
        kept.drain(..excess);
        let journal = Self {
            files: Some(files),
            writing: None,
            unwritten: Vec::new(),
        };
        (journal, kept)
    }

    /// To be written soon. With a disk that does not take them, the newest are kept back and the others are lost.
    pub(super) fn add(&mut self, record: EventRecord) {
        if self.unwritten.len() >= EVENTS_KEPT {
            self.unwritten.clear();
        }
        self.unwritten.push(record);
    }

    /// Begins to write what waits, unless something is being written.
    pub(super) fn write(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        if let Some(mut files) = self.files.take() {
            let batch = std::mem::take(&mut self.unwritten);
            self.writing = Some(tokio::task::spawn_blocking(move || {
                files.append(&batch);
                files
            }));
        }
    }

    /// A batch is written; never, if none is. Cancel safe.
    pub(super) async fn written(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else {
            return std::future::pending().await;
        };
        let files = writing.await.map_err(io::Error::other)?;
        self.writing = None;
        self.files = Some(files);
        Ok(())
    }
}

impl Files {
    fn append(&mut self, batch: &[EventRecord]) {
        match self.try_append(batch) {
            Ok(()) => self.failing = false,
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::warn!(path = %self.path.display(), %error, "events cannot be kept, and are lost with this controller");
            }
            Err(_) => {}
        }
    }

    fn try_append(&mut self, batch: &[EventRecord]) -> io::Result<()> {
        if self.written >= EVENTS_KEPT {
            fs::rename(&self.path, old(&self.path))?;
            self.written = 0;
            self.end = None;
        }
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)?;
        if let Some(end) = self.end.take()
            && file.seek(io::SeekFrom::End(0))? > end
        {
            file.set_len(end)?;
        }
        let mut bytes = Vec::new();
        let fits = |record: &&EventRecord| record.encoded_len() <= RECORD_BYTES;
        for record in batch.iter().filter(fits) {
            bytes.extend_from_slice(&(record.encoded_len() as u32).to_le_bytes());
            bytes.extend_from_slice(&record.encode_to_vec());
        }
        let before = file.seek(io::SeekFrom::End(0))?;
        if let Err(error) = file.write_all(&bytes) {
            // Half a record would end what is read of all that come after it.
            self.end = Some(before);
            return Err(error);
        }
        self.written += batch.len();
        Ok(())
    }
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// The whole records at the beginning of a file, and where they end. What cannot be read is as if it were not there.
fn read(path: &Path) -> (Vec<EventRecord>, u64) {
    let mut bytes = Vec::new();
    let most = (EVENTS_KEPT * 2 * RECORD_BYTES) as u64;
    let opened = fs::File::open(path);
    if let Ok(file) = opened
        && let Err(error) = file.take(most).read_to_end(&mut bytes)
    {
        tracing::warn!(path = %path.display(), %error, "events of before cannot be read");
    }
    let (mut records, mut at, mut last) = (Vec::new(), 0, 0);
    while let Some((record, end)) = next(&bytes, at).filter(|(one, _)| one.number > last) {
        (last, at) = (record.number, end);
        records.push(record);
    }
    (records, at as u64)
}

fn next(bytes: &[u8], at: usize) -> Option<(EventRecord, usize)> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let record = rest.get(..length).filter(|_| length <= RECORD_BYTES)?;
    Some((EventRecord::decode(record).ok()?, at + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> EventRecord {
        EventRecord {
            number,
            message: format!("event {number}"),
            ..EventRecord::default()
        }
    }

    fn numbers(path: &Path) -> Vec<u64> {
        let (_, kept) = Journal::open(path);
        kept.iter().map(|one| one.number).collect()
    }

    fn append(path: &Path, numbers: impl IntoIterator<Item = u64>) {
        let (journal, _) = Journal::open(path);
        let batch: Vec<_> = numbers.into_iter().map(event).collect();
        journal.files.unwrap().append(&batch);
    }

    #[test]
    fn what_is_written_is_read_and_a_record_that_was_cut_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        assert!(numbers(&path).is_empty());
        append(&path, 1..=5);
        assert_eq!(numbers(&path), [1, 2, 3, 4, 5]);
        let whole = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(whole - 3)
            .unwrap();
        assert_eq!(numbers(&path), [1, 2, 3, 4]);
        append(&path, 5..=6);
        assert_eq!(numbers(&path), [1, 2, 3, 4, 5, 6], "what was cut is gone");
        fs::write(&path, b"this is a letter to a friend").unwrap();
        assert!(numbers(&path).is_empty());
        append(&path, 7..=7);
        assert_eq!(numbers(&path), [7]);
    }

    #[test]
    fn ten_thousand_are_kept_in_two_files_that_do_not_grow() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        for batch in 0..70 {
            append(&path, batch * 500 + 1..=(batch + 1) * 500);
        }
        let kept = numbers(&path);
        assert_eq!(kept.len(), EVENTS_KEPT);
        assert_eq!((kept[0], kept[EVENTS_KEPT - 1]), (25_001, 35_000));
        let (first, _) = read(&path);
        let (second, _) = read(&old(&path));
        assert!(first.len() <= EVENTS_KEPT && second.len() <= EVENTS_KEPT + 500);
    }
}
