//! The claim page: 64-bit words in a memfd that a router and a replica both map, one page a connection.
//!
//! Word 0 counts turns of the replica's I/O thread, for the router to see that it was stopped (SIGSTOP); its top
//! bit says that a stop means nothing now. Word `1 + slot` belongs to a slot, see [`Claims`]. The mapping outlives
//! the process at the other end, so after a SIGKILL the router still reads which requests had started.
//!
//! The file is sealed against shrinking and growing before it is mapped, since access past its end would be a
//! SIGBUS here by the other side's hand. It is not copied into forked children: a child of user code must not
//! claim its parent's requests.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::claim::{self, Claims, SlotState};

#[cfg(test)]
mod tests;

/// Bit of word 0: see [`Claims::exempt`].
const EXEMPT: u64 = 1 << 63;

/// A mapped claim page. Cheap to share behind an `Arc`; unmapped when dropped.
#[derive(Debug)]
pub struct ClaimPage {
    map: memmap2::MmapRaw,
    slots: u32,
}

impl ClaimPage {
    /// The most slots that a page may have (8 MiB): more is refused before anything is mapped.
    pub const MAX_SLOTS: u32 = 1 << 20;

    /// Makes a sealed memfd with `slots` words and the liveness word, and maps it. The descriptor goes to the peer.
    pub fn create(slots: u32) -> io::Result<(Self, OwnedFd)> {
        let length = Self::length(slots)?;
        let fd = rustix::fs::memfd_create(
            "eagleray-claims",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        rustix::fs::ftruncate(&fd, length as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let page = Self::map(fd.as_fd(), slots)?;
        Ok((page, fd))
    }

    /// Maps a page that a peer made, after checking that it is sealed and as long as the peer says: a page that
    /// shrank later would be a SIGBUS here.
    pub fn open(fd: BorrowedFd<'_>, slots: u32) -> io::Result<Self> {
        let length = Self::length(slots)?;
        // Not a memfd: EINVAL.
        let seals = rustix::fs::fcntl_get_seals(fd)?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "claim page is not sealed",
            ));
        }
        if u64::try_from(rustix::fs::fstat(fd)?.st_size) != Ok(length as u64) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "claim page has the wrong length",
            ));
        }
        Self::map(fd, slots)
    }

    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Replica: its I/O thread turned once.
    pub fn bump(&self) {
        // Relaxed: a counter that says "not stopped"; nothing is published by it.
        self.word_at(0).fetch_add(1, Ordering::Relaxed);
    }

    /// Replica: from now on its turns may stop for long, or no longer. See [`Claims::exempt`].
    pub fn set_exempt(&self, exempt: bool) {
        // Relaxed: as in `bump`. The count never reaches the bit: at a turn a nanosecond that takes 292 years.
        if exempt {
            self.word_at(0).fetch_or(EXEMPT, Ordering::Relaxed);
        } else {
            self.word_at(0).fetch_and(!EXEMPT, Ordering::Relaxed);
        }
    }

    fn length(slots: u32) -> io::Result<usize> {
        if slots == 0 || slots > Self::MAX_SLOTS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "claim page needs 1 to 1,048,576 slots",
            ));
        }
        Ok((slots as usize + 1) * size_of::<u64>())
    }

    fn map(fd: BorrowedFd<'_>, slots: u32) -> io::Result<Self> {
        let length = Self::length(slots)?;
        // `map_raw` maps MAP_SHARED, readable and writable; it keeps no descriptor.
        let map = memmap2::MmapOptions::new()
            .len(length)
            .map_raw(fd.as_raw_fd())?;
        map.advise(memmap2::Advice::DontFork)?;
        Ok(Self { map, slots })
    }

    fn slot(&self, slot: u32) -> Option<&AtomicU64> {
        (slot < self.slots).then(|| self.word_at(slot as usize + 1))
    }

    #[expect(
        unsafe_code,
        reason = "the only view into memory shared with another process"
    )]
    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    fn word_at(&self, index: usize) -> &AtomicU64 {
        assert!(index <= self.slots as usize, "word outside the claim page");
        // SAFETY: the mapping is page-aligned and holds `slots + 1` words for as long as `self` lives; it cannot
        // shrink, because it is sealed; `index` was checked above; both processes touch it only through atomics.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(index)) }
    }
}

/// A slot outside the page has no request: nothing can be queued, started or taken there.
impl Claims for ClaimPage {
    fn queue(&self, slot: u32, sequence: u64) {
        if let Some(cell) = self.slot(slot) {
            claim::queue(cell, sequence);
        }
    }

    fn start(&self, slot: u32, sequence: u64) -> bool {
        self.slot(slot)
            .is_some_and(|cell| claim::start(cell, sequence))
    }

    fn take(&self, slot: u32, sequence: u64) -> bool {
        self.slot(slot)
            .is_some_and(|cell| claim::take(cell, sequence))
    }

    fn read(&self, slot: u32) -> (u64, SlotState) {
        self.slot(slot).map_or((0, SlotState::Free), claim::read)
    }

    fn turns(&self) -> u64 {
        self.word_at(0).load(Ordering::Relaxed) & !EXEMPT
    }

    fn exempt(&self) -> bool {
        self.word_at(0).load(Ordering::Relaxed) & EXEMPT != 0
    }
}
