//! The memory of regions: made and filled on one side, mapped for reading on the other.
//!
//! All views into it that Rust gets are made here, so this is where its safety is argued.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};

use crate::fork::{self, Listed};

/// No region is longer.
const MOST_BYTES: usize = isize::MAX as usize;
/// Pages in one piece of a first fill.
const FILL_BYTES: usize = 1 << 20;

/// A region that this process made. Nobody else writes to it, or can.
#[derive(Debug)]
pub(super) struct Memory {
    map: MmapRaw,
    /// Bytes from the beginning that have pages.
    filled: usize,
    /// Bytes of those whose pages are in our page table.
    mapped: usize,
    // Before the descriptor: see `Listed`.
    _listed: Listed,
    descriptor: OwnedFd,
}

impl Memory {
    /// A region of `capacity` bytes without pages.
    ///
    /// # Errors
    /// No memory or no descriptor is left.
    pub(super) fn create(capacity: usize) -> io::Result<Self> {
        let descriptor = rustix::fs::memfd_create(
            "eagleray-value",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        let listed =
            fork::list(&descriptor).ok_or_else(|| io::Error::other("too many descriptors"))?;
        rustix::fs::ftruncate(&descriptor, capacity as u64)?;
        let map = MmapOptions::new()
            .len(capacity)
            .map_raw(descriptor.as_raw_fd())?;
        // A child of user code must not keep the memory, and has no use for it.
        map.advise(Advice::DontFork)?;
        Ok(Self {
            map,
            filled: 0,
            mapped: 0,
            _listed: listed,
            descriptor,
        })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Copies `parts` in, one after the other; together they are no longer than the capacity.
    ///
    /// The first time the kernel writes (pages that are written whole are not zeroed first, and no fault is taken);
    /// then it is sealed. Later the pages are there and a copy is the fastest.
    pub(super) fn fill(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total > self.map.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.filled == 0 {
            let mut at = 0;
            for part in parts {
                for piece in part.chunks(FILL_BYTES) {
                    write_all(self.descriptor(), piece, at)?;
                    at += piece.len() as u64;
                }
            }
            // FUTURE_WRITE: only the mapping that we have can write. A kernel before 5.1 does not know it, and then the
            // other side is on its honour; what protects it (SHRINK) every kernel has.
            let seals = SealFlags::SHRINK | SealFlags::GROW;
            rustix::fs::fcntl_add_seals(&self.descriptor, seals)?;
            rustix::fs::fcntl_add_seals(&self.descriptor, SealFlags::FUTURE_WRITE).ok();
            self.filled = total;
            return Ok(());
        }
        if self.mapped < self.filled {
            // One call for all pages that are there; where it is not known, each costs a fault.
            let range = self.filled.min(self.map.len());
            self.map.advise_range(Advice::PopulateRead, 0, range).ok();
            self.mapped = self.filled;
        }
        let mut at = 0;
        for part in parts {
            self.copy_in(at, part);
            at += part.len();
        }
        self.filled = self.filled.max(total);
        Ok(())
    }

    #[expect(unsafe_code, reason = "writes to memory that another process maps")]
    fn copy_in(&mut self, at: usize, part: &[u8]) {
        assert!(
            at + part.len() <= self.map.len(),
            "a value outside its region"
        );
        // SAFETY: the range lies in the mapping, as was just checked, and the file cannot shrink, because it is sealed
        // before it is filled a second time. `&mut self`: no slice of `bytes` exists in this process. Readers in other
        // processes have released the region, or it would not be in our hands (see the module `region`); one that reads
        // on regardless gets bytes that change, and this process does not care.
        unsafe {
            std::ptr::copy_nonoverlapping(part.as_ptr(), self.map.as_mut_ptr().add(at), part.len());
        }
    }

    /// What was copied in: the first `length` bytes.
    #[expect(unsafe_code, reason = "a view into shared memory")]
    pub(super) fn bytes(&self, length: usize) -> &[u8] {
        assert!(
            length <= self.map.len(),
            "a value that is longer than its region"
        );
        // SAFETY: the range lies in the mapping and has no other writer: nobody else can map the file for writing
        // (FUTURE_WRITE; before Linux 5.1 nobody of us does), and `fill` needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), length) }
    }
}

fn write_all(descriptor: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(descriptor, bytes, at))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

/// A region that another process made, mapped for reading. Forked children inherit it: user code has it in its hands.
#[derive(Debug)]
pub struct Mapping {
    map: MmapRaw,
}

impl Mapping {
    /// Checks what the maker says and maps the first `length` bytes.
    ///
    /// # Errors
    /// It is shorter, or could become shorter, which would be a SIGBUS here; or there is no memory.
    pub(super) fn open(descriptor: BorrowedFd<'_>, length: u64) -> io::Result<Self> {
        let length = check(descriptor, length)?;
        let map = MmapOptions::new()
            .len(length)
            .populate()
            .map_raw_read_only(descriptor.as_raw_fd())?;
        Ok(Self { map })
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.map.as_ptr()
    }

    #[expect(unsafe_code, reason = "a view into shared memory")]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is as long as it says and cannot shrink (checked in `open`). Its maker writes only while
        // nobody has it (see the module `region`); we have it until `self` is dropped.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), self.map.len()) }
    }
}

/// The length as a number of bytes that may be mapped.
pub(super) fn check(descriptor: BorrowedFd<'_>, length: u64) -> io::Result<usize> {
    let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidData, message);
    let length = usize::try_from(length)
        .ok()
        .filter(|length| (1..=MOST_BYTES).contains(length))
        .ok_or_else(|| invalid("a region has a length that none can have"))?;
    // Not a memfd: EINVAL.
    let seals = rustix::fs::fcntl_get_seals(descriptor)?;
    if !seals.contains(SealFlags::SHRINK) {
        return Err(invalid("a region is not sealed against shrinking"));
    }
    let size = rustix::fs::fstat(descriptor)?.st_size;
    if usize::try_from(size).is_ok_and(|size| size >= length) {
        Ok(length)
    } else {
        Err(invalid("a region is shorter than was said"))
    }
}
