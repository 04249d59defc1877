//! How the file lies on the disk: a header, three rings of slots, a ring of marks.
//!
//! All places follow from the constants here, so a file of other constants is another layout: [`header`] tells, and such a
//! file is begun anew. The file is sparse: a slot that is not used takes nothing, one of a small node takes a page.
//!
//! | tier | a slot is | slots | reaches back |
//! |---|---|---|---|
//! | 0 | 2 s | 300 | 10 minutes |
//! | 1 | 30 s | 240 | 2 hours |
//! | 2 | 5 minutes | 288 | 24 hours |
//!
//! What does not fit into a slot is left out of it, by this rule: replicas before deployments, and of each the ones with the
//! least to do first. The slot says how many. The last tier has no replicas: they seldom live for a day.

use flate2::Crc;

use crate::row::BOUNDS_MS;

/// With the version of the layout at its end.
const MAGIC: [u8; 8] = *b"eglser\0\x01";
pub(crate) const HEADER_BYTES: u64 = 4096;
pub(crate) const HEADER_USED: usize = 16;

/// A ring of slots.
#[derive(Clone, Copy, Debug)]
pub struct Tier {
    pub step_ms: u64,
    pub slots: u64,
    pub(crate) slot_bytes: u64,
    pub(crate) has_replicas: bool,
}

impl Tier {
    /// How far back it reaches.
    pub const fn span_ms(&self) -> u64 {
        self.step_ms * self.slots
    }

    const fn bytes(&self) -> u64 {
        self.slots * self.slot_bytes
    }
}

/// From the shortest slots to the longest. Each step is a multiple of the one before.
pub const TIERS: [Tier; 3] = [
    Tier {
        step_ms: 2_000,
        slots: 300,
        slot_bytes: 36 * 1024,
        has_replicas: true,
    },
    Tier {
        step_ms: 30_000,
        slots: 240,
        slot_bytes: 36 * 1024,
        has_replicas: true,
    },
    Tier {
        step_ms: 300_000,
        slots: 288,
        slot_bytes: 36 * 1024,
        has_replicas: false,
    },
];

pub(crate) const MARKS: u64 = 2048;
pub(crate) const MARK_BYTES: u64 = 512;
const MARKS_AT: u64 = HEADER_BYTES + TIERS[0].bytes() + TIERS[1].bytes() + TIERS[2].bytes();

/// The file is never longer.
pub const FILE_BYTES: u64 = MARKS_AT + MARKS * MARK_BYTES;

/// Where the slot with this index is.
pub(crate) fn slot_at(tier: usize, index: u64) -> u64 {
    let before: u64 = TIERS[..tier].iter().map(Tier::bytes).sum();
    HEADER_BYTES + before + index % TIERS[tier].slots * TIERS[tier].slot_bytes
}

/// Where the mark with this number is.
pub(crate) fn mark_at(number: u64) -> u64 {
    MARKS_AT + number % MARKS * MARK_BYTES
}

/// The first bytes of a file of this layout.
pub(crate) fn header() -> [u8; HEADER_USED] {
    let mut crc = Crc::new();
    for tier in &TIERS {
        for number in [tier.step_ms, tier.slots, tier.slot_bytes] {
            crc.update(&number.to_le_bytes());
        }
    }
    for bound in BOUNDS_MS {
        crc.update(&bound.to_le_bytes());
    }
    crc.update(&MARK_BYTES.to_le_bytes());
    crc.update(&MARKS.to_le_bytes());
    let mut header = [0; HEADER_USED];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&crc.sum().to_le_bytes());
    header
}
