//! The file: slots and marks are put in and found again by their time and number.
//!
//! It is written by one process, which holds its lock, and read by any number of threads without one: a slot that is read
//! while it is written does not check out, and is read once more. It is read and written by calls and never mapped, so a disk
//! that is full is an error and no fault of the memory.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use crate::{
    layout::{self, FILE_BYTES, HEADER_BYTES, HEADER_USED, MARK_BYTES, MARKS, TIERS},
    marks::{self, Mark},
    record::{self, Slot},
};

/// Of a slot, so much is read at once: most are no longer.
const FIRST_READ: usize = 4096;
/// Marks are read in pieces of so many.
const MARKS_AT_ONCE: u64 = 256;

#[derive(Debug)]
struct Inner {
    /// Another one after [`Ring::reopen`].
    file: Mutex<Arc<File>>,
    path: PathBuf,
}

/// The file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ring(Arc<Inner>);

impl Ring {
    /// Opens the file, or makes it. The note says why one that was there is begun anew.
    ///
    /// # Errors
    /// It can be neither read nor made, or another process writes it.
    pub fn open(path: &Path) -> io::Result<(Self, Option<String>)> {
        let (file, note) = open(path)?;
        let file = Mutex::new(Arc::new(file));
        let path = path.to_owned();
        Ok((Self(Arc::new(Inner { file, path })), note))
    }

    /// Makes the file again, for all who have this ring: somebody has removed it.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let (file, _) = open(&self.0.path)?;
        *self.0.file.lock() = Arc::new(file);
        Ok(())
    }

    fn file(&self) -> Arc<File> {
        Arc::clone(&self.0.file.lock())
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Whether somebody has removed the file: what is written then, nobody finds again.
    pub(crate) fn is_gone(&self) -> bool {
        self.file().metadata().is_ok_and(|is| is.nlink() == 0)
    }

    /// The slot of a time; `None`: there is none, or not a whole one.
    pub(crate) fn slot(&self, tier: usize, index: u64) -> Option<Slot> {
        // It may have been written meanwhile.
        self.try_slot(tier, index)
            .or_else(|| self.try_slot(tier, index))
    }

    fn try_slot(&self, tier: usize, index: u64) -> Option<Slot> {
        let at = layout::slot_at(tier, index);
        let mut bytes = self.read(at, FIRST_READ);
        let length = record::length(&bytes)?;
        // The index tells most that are not the one, before all of it is read.
        let is_it = record::u64_at(&bytes, 8) == Some(index);
        if !is_it || length > TIERS[tier].slot_bytes as usize {
            return None;
        }
        if length > bytes.len() {
            bytes = self.read(at, length);
        }
        record::decode(&bytes, index)
    }

    pub(crate) fn put(&self, tier: usize, slot: &Slot) -> io::Result<()> {
        let Some(of) = TIERS.get(tier) else {
            return Ok(());
        };
        let bytes = record::encode(slot, of.slot_bytes as usize, of.has_replicas)?;
        self.file()
            .write_all_at(&bytes, layout::slot_at(tier, slot.index))
    }

    /// Writes down what happened.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn mark(&self, mark: &Mark) -> io::Result<()> {
        let at = layout::mark_at(mark.number);
        self.file().write_all_at(&marks::encode(mark), at)
    }

    /// All marks that are kept, oldest first.
    pub fn marks(&self) -> Vec<Mark> {
        let mut found = BTreeMap::new();
        for first in (0..MARKS).step_by(MARKS_AT_ONCE as usize) {
            let bytes = self.read(
                layout::mark_at(first),
                (MARKS_AT_ONCE * MARK_BYTES) as usize,
            );
            for mark in bytes.chunks(MARK_BYTES as usize).filter_map(marks::decode) {
                found.insert(mark.number, mark);
            }
        }
        found.into_values().collect()
    }

    /// What there is of so many bytes.
    fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let file = self.file();
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What cannot be read was not measured.
                Err(_) => break,
            }
        }
        bytes.truncate(filled);
        bytes
    }
}

fn open(path: &Path) -> io::Result<(File, Option<String>)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(io::Error::other("another node writes it"));
        }
        locked => locked?,
    }
    let note = prepare(&file)?;
    Ok((file, note))
}

/// Makes it a file of this layout and of the full length, which takes no room yet.
fn prepare(file: &File) -> io::Result<Option<String>> {
    let mut header = [0; HEADER_USED];
    let before = file.metadata()?.len();
    let is_ours = file.read_exact_at(&mut header, 0).is_ok() && header == layout::header();
    if is_ours {
        if before != FILE_BYTES {
            file.set_len(FILE_BYTES)?;
        }
        return Ok(None);
    }
    file.set_len(0)?;
    file.set_len(FILE_BYTES)?;
    let mut header = vec![0; HEADER_BYTES as usize];
    header[..HEADER_USED].copy_from_slice(&layout::header());
    file.write_all_at(&header, 0)?;
    Ok((before > 0).then(|| "it was of another release, or damaged, and is begun anew".to_owned()))
}
