//! What a replica was sent that may kill it: see `suspects.rs`.

use std::time::{Duration, Instant};

/// How long one suspect keeps others away from its replica at most.
pub(super) const PROBATION: Duration = Duration::from_millis(100);

/// A suspect that a replica was sent, and until when no other should follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probation {
    pub(super) slot: u32,
    pub(super) until: Instant,
}
