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
/// From so many bytes on a value is copied past the caches: the other side finds nothing of it in a cache that they
/// share, but the copy takes half the time. docs/internals/values.md has the measurement.
const STREAMED_FROM: usize = 32 << 20;

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
        let mut target = self.bytes_mut(total);
        for part in parts {
            let (here, rest) = target.split_at_mut(part.len());
            if part.len() < STREAMED_FROM {
                here.copy_from_slice(part);
            } else {
                copy_past_caches(part, here);
            }
            target = rest;
        }
        self.filled = self.filled.max(total);
        Ok(())
    }

    #[expect(unsafe_code, reason = "writes to memory that another process maps")]
    fn bytes_mut(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= self.map.len(), "a value outside its region");
        // SAFETY: the range lies in the mapping, as was just checked, and the file cannot shrink, because it is sealed
        // before it is filled a second time. `&mut self`: no slice of `bytes` exists in this process. Readers in other
        // processes have released the region, or it would not be in our hands (see the module `region`); one that reads
        // on regardless gets bytes that change, and this process does not care.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr(), length) }
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

/// What a streaming store writes at once.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; Self::BYTES]);

impl Line {
    const BYTES: usize = 64;

    /// Writes it without reading what was there, and without keeping it in a cache. [`copy_past_caches`] ends with the
    /// fence that such stores need.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[expect(
        unsafe_code,
        reason = "streaming stores are intrinsics on raw pointers"
    )]
    #[inline]
    fn stream(&mut self, bytes: &[u8; Self::BYTES]) {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};

        const STEP: usize = size_of::<__m128i>();
        for at in (0..Self::BYTES).step_by(STEP) {
            // SAFETY: both ranges are STEP bytes of 64 of which `at` is at most the last STEP; that of `self` is aligned,
            // because `Line` is and STEP divides its alignment. The instructions are in every x86-64 (SSE2).
            unsafe {
                let piece = _mm_loadu_si128(bytes.as_ptr().add(at).cast());
                _mm_stream_si128(self.0.as_mut_ptr().add(at).cast(), piece);
            }
        }
    }

    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    #[inline]
    fn stream(&mut self, bytes: &[u8; Self::BYTES]) {
        self.0 = *bytes;
    }
}

/// Copies `source` to `target`, which is as long, mostly by streaming stores: they save reading each line of the target
/// before it is overwritten, which a plain copy of this length pays (libc's streams from lengths on that depend on
/// the machine, here beyond 64 MiB).
///
/// One line after the other, from the first to the last. Two pages side by side are no faster, and three times as slow
/// where the target lies some 64 to 256 bytes further in its page than the source: then a load waits for the store that
/// has just gone to the same place of another page, which the processor takes for the same address.
#[expect(unsafe_code, reason = "the aligned middle of a slice, and a fence")]
fn copy_past_caches(source: &[u8], target: &mut [u8]) {
    assert_eq!(source.len(), target.len());
    // SAFETY: a `Line` is an array of bytes: every pattern of bits is one, and every `Line` is bytes.
    let (head, lines, tail) = unsafe { target.align_to_mut::<Line>() };
    let (source_head, source) = source.split_at(head.len());
    let (source_lines, source_tail) = source.as_chunks::<{ Line::BYTES }>();
    head.copy_from_slice(source_head);
    tail.copy_from_slice(source_tail);
    for (line, source) in lines.iter_mut().zip(source_lines) {
        line.stream(source);
    }
    // Streaming stores are not ordered with other stores, so whoever is told of the bytes might not see them.
    // SAFETY: the instruction is in every x86-64 (SSE) and has no operands.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        std::arch::x86_64::_mm_sfence();
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

/// Which file a descriptor is of. As long as a file has a mapping, no other one is called the same: the kernel counts
/// memfds with 64 bits and uses no number again (before Linux 5.9 with 32 bits, so after four thousand million files).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// A region that another process made, mapped for reading. Forked children inherit it: user code has it in its hands.
#[derive(Debug)]
pub struct Mapping {
    map: MmapRaw,
    /// Bytes of the value that it holds now; the mapping may be of an earlier one, and longer.
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes, which `check` has found to be there for ever. Their pages are found when user code
    /// looks at them, sixteen at a time: that costs less than all at once, and nothing for what it does not look at.
    ///
    /// # Errors
    /// There is no memory for the page tables, or no mapping left.
    pub(super) fn open(descriptor: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let map = MmapOptions::new()
            .len(length)
            .map_raw_read_only(descriptor.as_raw_fd())?;
        Ok(Self { map, length })
    }

    /// Takes it out of the hands of user code: forked children do not inherit it from here on.
    pub(super) fn idle(self) -> io::Result<IdleMapping> {
        self.map.advise(Advice::DontFork)?;
        Ok(IdleMapping { map: self.map })
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.map.as_ptr()
    }

    #[expect(unsafe_code, reason = "a view into shared memory")]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped (`open`, `show`), and the file cannot shrink (`check`). Its maker writes only
        // while nobody has it (see the module `region`); we have it until `self` is dropped or made idle, by value.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), self.length) }
    }
}

/// A mapping without a view of it, whose file another process may be filling.
#[derive(Debug)]
pub(super) struct IdleMapping {
    map: MmapRaw,
}

impl IdleMapping {
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The value of `length` bytes, no longer than the mapping, that a message says is there now.
    pub(super) fn show(self, length: usize) -> io::Result<Mapping> {
        if length > self.map.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.map.advise(Advice::DoFork)?;
        Ok(Mapping {
            map: self.map,
            length,
        })
    }
}

/// Which file it is, and the length as a number of bytes that may be mapped.
///
/// # Errors
/// It is shorter than its maker says, or could become shorter, which would be a SIGBUS here.
pub(super) fn check(descriptor: BorrowedFd<'_>, length: u64) -> io::Result<(File, usize)> {
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
    let stat = rustix::fs::fstat(descriptor)?;
    if usize::try_from(stat.st_size).is_ok_and(|size| size >= length) {
        let file = File {
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        Ok((file, length))
    } else {
        Err(invalid("a region is shorter than was said"))
    }
}

#[cfg(test)]
mod tests;
