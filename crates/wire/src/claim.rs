//! A claim: the compare-and-swap that decides whether a request starts.
//!
//! *Starting is a claim, not a message.* A word is a request's sequence number (62 bits) and its state (2 bits),
//! and a claim swaps the whole word, so an entry for an old request can never claim a later one that reuses its
//! slot. The router writes QUEUED before it sends REQUEST. The thread about to call user code swaps QUEUED to
//! STARTED; the router that wants its request back swaps QUEUED to TAKEN. One of the two succeeds, and both know
//! which without a message.
//!
//! ```text
//!              router: queue                     replica: start
//!   free or over ─────────────▶ QUEUED(sequence) ───────────────▶ STARTED(sequence)   over at DONE
//!                                      │ router: take
//!                                      └────────────────────────▶ TAKEN(sequence)     over at once
//! ```
//!
//! The operations are generic over the atomic, so that the model checker runs the code that the page runs. The
//! state machines know only [`Claims`], so that a simulator can stand in for the page.

use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
mod model;

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
    /// The replica does something that may stop its turns for long (`reconfigure`); a still count means nothing.
    fn exempt(&self) -> bool {
        false
    }
}

/// The part of an atomic that a claim needs.
pub(crate) trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn compare_exchange(
        &self,
        from: u64,
        to: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64>;
}

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    fn compare_exchange(
        &self,
        from: u64,
        to: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.compare_exchange(from, to, success, failure)
    }
}

/// A plain store: only the router allocates, and it does so when nobody may change the word any more. An entry
/// for the old request that is still on its way fails at its swap, whatever the order.
pub(crate) fn queue(cell: &impl Word, sequence: u64) {
    // Release: what the router wrote before it announced the request is seen by whoever starts it.
    cell.store(pack(sequence, SlotState::Queued), Ordering::Release);
}

pub(crate) fn start(cell: &impl Word, sequence: u64) -> bool {
    swap(cell, sequence, SlotState::Started)
}

pub(crate) fn take(cell: &impl Word, sequence: u64) -> bool {
    swap(cell, sequence, SlotState::Taken)
}

pub(crate) fn read(cell: &impl Word) -> (u64, SlotState) {
    unpack(cell.load(Ordering::Acquire))
}

fn swap(cell: &impl Word, sequence: u64, to: SlotState) -> bool {
    // AcqRel: the winner sees what was written before QUEUED, and its later writes stay after the claim. Acquire on
    // failure, because the loser acts on who won.
    cell.compare_exchange(
        pack(sequence, SlotState::Queued),
        pack(sequence, to),
        Ordering::AcqRel,
        Ordering::Acquire,
    )
    .is_ok()
}

const STATE_BITS: u64 = 0b11;

const fn pack(sequence: u64, state: SlotState) -> u64 {
    sequence << 2
        | match state {
            SlotState::Free => 0,
            SlotState::Queued => 1,
            SlotState::Started => 2,
            SlotState::Taken => 3,
        }
}

const fn unpack(word: u64) -> (u64, SlotState) {
    let state = match word & STATE_BITS {
        0 => SlotState::Free,
        1 => SlotState::Queued,
        2 => SlotState::Started,
        _ => SlotState::Taken,
    };
    (word >> 2, state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_a_sequence_and_a_state() {
        for state in [
            SlotState::Free,
            SlotState::Queued,
            SlotState::Started,
            SlotState::Taken,
        ] {
            for sequence in [0, 1, 0xffff_ffff, (1 << 62) - 1] {
                assert_eq!(unpack(pack(sequence, state)), (sequence, state));
            }
        }
    }

    #[test]
    fn only_a_queued_request_can_be_claimed() {
        let cell = AtomicU64::new(0);
        assert!(!start(&cell, 0), "a free word of sequence 0 is no request");
        queue(&cell, 7);
        assert!(!start(&cell, 6));
        assert!(start(&cell, 7));
        assert!(!start(&cell, 7), "once");
        assert!(!take(&cell, 7));
        queue(&cell, 8);
        assert!(take(&cell, 8));
        assert!(!start(&cell, 8));
        assert_eq!(read(&cell), (8, SlotState::Taken));
    }
}
