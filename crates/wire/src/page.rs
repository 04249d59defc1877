//! The claim page: 64-bit words in a memfd that a router and a replica both map, one page a connection.
//!
//! *Starting is a claim, not a message.* A word is a request's sequence number (62 bits) and its state (2 bits),
//! and every change is a compare-and-swap of the whole word, so an entry for an old request can never claim a
//! later one that reuses its slot. The router writes QUEUED before it sends REQUEST. The thread about to call
//! user code swaps QUEUED to STARTED; the router that wants its request back swaps QUEUED to TAKEN. One of the
//! two succeeds, and both know which without a message. The mapping outlives the process at the other end, so
//! after a SIGKILL the router still reads which requests had started.
//!
//! Word 0 counts turns of the replica's I/O thread, for the router to see that it was stopped (SIGSTOP).
//!
//! The state machines know only [`Claims`], so that the simulator can stand in for the page.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{MemfdFlags, SealFlags};

/// State of a slot's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotState {
    Free,
    Queued,
    Started,
    Taken,
}

/// What the state machines need of a page. Slots count from 0.
pub trait Claims {
    /// Router: announces a request before its frame is sent. The slot must not be in use.
    fn queue(&self, slot: u32, sequence: u64);
    /// Replica, just before user code: true if the request is now its own to run, exactly once.
    fn start(&self, slot: u32, sequence: u64) -> bool;
    /// Router (or the replica, for a router that is gone): true if the request had not started and now never will.
    fn take(&self, slot: u32, sequence: u64) -> bool;
    /// The word of a slot.
    fn read(&self, slot: u32) -> (u64, SlotState);
    /// Turns of the replica's I/O thread so far.
    fn turns(&self) -> u64;
}

const STATE_BITS: u64 = 0b11;

const fn word(sequence: u64, state: SlotState) -> u64 {
    sequence << 2
        | match state {
            SlotState::Free => 0,
            SlotState::Queued => 1,
            SlotState::Started => 2,
            SlotState::Taken => 3,
        }
}

const fn parts(word: u64) -> (u64, SlotState) {
    let state = match word & STATE_BITS {
        0 => SlotState::Free,
        1 => SlotState::Queued,
        2 => SlotState::Started,
        _ => SlotState::Taken,
    };
    (word >> 2, state)
}

/// A mapped claim page. Cheap to share behind an `Arc`; unmapped when dropped.
#[derive(Debug)]
pub struct ClaimPage {
    map: memmap2::MmapRaw,
    slots: u32,
}

impl ClaimPage {
    /// The most slots that a page may have: 16 Mi words of address space are refused before they are mapped.
    pub const MAX_SLOTS: u32 = 1 << 20;

    /// Makes a sealed memfd with `slots` words and the liveness word, and maps it. The descriptor goes to the peer.
    pub fn create(slots: u32) -> io::Result<(Self, OwnedFd)> {
        let length = Self::length(slots)?;
        let fd = rustix::fs::memfd_create("eagleray-claims", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, length as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let page = Self::map(fd.as_fd(), slots)?;
        Ok((page, fd))
    }

    /// Maps a page that a peer made, after checking that it is sealed and as long as the peer says: a page that
    /// shrank later would be a SIGBUS here.
    pub fn open(fd: BorrowedFd<'_>, slots: u32) -> io::Result<Self> {
        let length = Self::length(slots)?;
        let seals = rustix::fs::fcntl_get_seals(fd)?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "claim page is not sealed"));
        }
        if rustix::fs::fstat(fd)?.st_size as u64 != length as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "claim page has the wrong length"));
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

    fn length(slots: u32) -> io::Result<usize> {
        if slots == 0 || slots > Self::MAX_SLOTS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "claim page needs 1 to 1,048,576 slots"));
        }
        Ok((slots as usize + 1) * size_of::<u64>())
    }

    fn map(fd: BorrowedFd<'_>, slots: u32) -> io::Result<Self> {
        let length = Self::length(slots)?;
        let file = File::from(fd.try_clone_to_owned()?);
        let map = memmap2::MmapOptions::new().len(length).map_raw(&file)?;
        Ok(Self { map, slots })
    }

    fn slot(&self, slot: u32) -> Option<&AtomicU64> {
        (slot < self.slots).then(|| self.word_at(slot as usize + 1))
    }

    #[expect(unsafe_code, reason = "the only view into memory shared with another process")]
    fn word_at(&self, index: usize) -> &AtomicU64 {
        assert!(index <= self.slots as usize, "word outside the claim page");
        // SAFETY: the mapping is page-aligned and holds `slots + 1` words for as long as `self` lives; it cannot
        // shrink, because it is sealed; `index` was checked above; both processes touch it only through atomics.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(index)) }
    }

    fn swap(&self, slot: u32, from: u64, to: u64) -> bool {
        // AcqRel: the winner's later writes (the answer, the next request in this slot) follow the claim, and the
        // loser sees them only through a frame; Acquire on failure because the word read says who won.
        self.slot(slot).is_some_and(|cell| {
            cell.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }
}

impl Claims for ClaimPage {
    fn queue(&self, slot: u32, sequence: u64) {
        if let Some(cell) = self.slot(slot) {
            cell.store(word(sequence, SlotState::Queued), Ordering::Release);
        }
    }

    fn start(&self, slot: u32, sequence: u64) -> bool {
        self.swap(slot, word(sequence, SlotState::Queued), word(sequence, SlotState::Started))
    }

    fn take(&self, slot: u32, sequence: u64) -> bool {
        self.swap(slot, word(sequence, SlotState::Queued), word(sequence, SlotState::Taken))
    }

    fn read(&self, slot: u32) -> (u64, SlotState) {
        self.slot(slot).map_or((0, SlotState::Free), |cell| parts(cell.load(Ordering::Acquire)))
    }

    fn turns(&self) -> u64 {
        self.word_at(0).load(Ordering::Relaxed)
    }
}
