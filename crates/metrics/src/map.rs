//! Memory that is counted in: a mapping of words, of a file or of no file.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use memmap2::{MmapOptions, MmapRaw};

use crate::layout::{HEADER, Kind, MOST_BOUNDS};

/// Of one series.
const MOST_WORDS: usize = 1 + Kind::Traced.words(MOST_BOUNDS);

/// A mapping. Forked children of user code have it too: they count in the words that are there, by whole steps, and make no
/// new ones.
#[derive(Debug)]
pub(crate) struct Map {
    map: MmapRaw,
}

impl Map {
    /// Maps `bytes` of a file, which may be shorter: what lies beyond its end must not be touched before it has grown.
    pub(crate) fn of_file(file: &File, bytes: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(bytes).map_raw(file.as_raw_fd())?;
        Ok(Self { map })
    }

    /// Of this process alone.
    pub(crate) fn of_nobody(bytes: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(bytes).map_anon()?;
        Ok(Self { map: map.into() })
    }

    /// The word at a place that was given out.
    #[expect(
        unsafe_code,
        reason = "the only view into memory shared with another process"
    )]
    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    pub(crate) fn word(&self, place: usize) -> &AtomicU64 {
        assert!(
            place.is_multiple_of(8) && place + 8 <= self.map.len(),
            "word outside the sheet"
        );
        // SAFETY: the mapping is page-aligned, and the place is aligned and inside it, as was just checked; places are given
        // out only once the file reaches over them, and nothing of ours makes it shorter; it is touched only through atomics.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(place).cast::<u64>()) }
    }

    /// Writes what nobody reads yet, word by word. Both place and length are whole words.
    pub(crate) fn write(&self, place: usize, bytes: &[u8]) {
        for (index, word) in bytes.chunks_exact(8).enumerate() {
            let mut whole = [0; 8];
            whole.copy_from_slice(word);
            // Relaxed: `used` is stored after it with release.
            self.word(place + index * 8)
                .store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
    }
}

/// Where is counted what finds no place: its numbers are read by nobody.
pub(crate) fn nowhere() -> Option<Arc<Map>> {
    static NOWHERE: OnceLock<Option<Arc<Map>>> = OnceLock::new();
    let made = NOWHERE.get_or_init(|| Map::of_nobody(HEADER + MOST_WORDS * 8).ok().map(Arc::new));
    made.clone()
}
