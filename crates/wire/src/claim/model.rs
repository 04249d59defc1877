//! The claim under a model checker: every interleaving, and every order that the memory model allows.
//!
//! What is checked is the code above, over loom's atomic. The mapping itself is ordinary memory to the processor
//! and is tested in `page`.

use std::sync::atomic::Ordering;

use loom::{
    cell::UnsafeCell,
    sync::{Arc, atomic::AtomicU64, mpsc},
    thread,
};

use super::{SlotState, Word, queue, read, start, take};

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

#[test]
fn exactly_one_of_start_and_take_wins() {
    loom::model(|| {
        let cell = Arc::new(AtomicU64::new(0));
        queue(&*cell, 1);
        let replica = thread::spawn({
            let cell = Arc::clone(&cell);
            move || start(&*cell, 1)
        });
        let taken = take(&*cell, 1);
        let started = replica.join().unwrap();
        assert!(started != taken);
        let state = if started {
            SlotState::Started
        } else {
            SlotState::Taken
        };
        assert_eq!(read(&*cell), (1, state));
    });
}

#[test]
fn two_threads_never_start_the_same_request() {
    loom::model(|| {
        let cell = Arc::new(AtomicU64::new(0));
        queue(&*cell, 1);
        let other = thread::spawn({
            let cell = Arc::clone(&cell);
            move || start(&*cell, 1)
        });
        let here = start(&*cell, 1);
        assert!(here != other.join().unwrap());
    });
}

/// The pool thread of a sync method starts late, the router takes its request back and puts another into the
/// slot, whose frame another thread handles at the same time.
#[test]
fn an_old_entry_never_claims_a_later_request_in_its_slot() {
    loom::model(|| {
        let cell = Arc::new(AtomicU64::new(0));
        let (send, receive) = mpsc::channel();
        queue(&*cell, 1);
        let late = thread::spawn({
            let cell = Arc::clone(&cell);
            move || start(&*cell, 1)
        });
        let next = thread::spawn({
            let cell = Arc::clone(&cell);
            move || {
                // The frame of the later request, or none: loom's channel has no end of file.
                let sequence: Option<u64> = receive.recv().unwrap();
                sequence.map(|sequence| start(&*cell, sequence))
            }
        });
        let taken = take(&*cell, 1);
        if taken {
            queue(&*cell, 2);
        }
        send.send(taken.then_some(2)).unwrap();
        let first_ran = late.join().unwrap();
        let second_ran = next.join().unwrap();
        assert!(first_ran != taken);
        assert_eq!(
            second_ran,
            taken.then_some(true),
            "the later request starts, by its own entry"
        );
        let expected = if taken { 2 } else { 1 };
        assert_eq!(read(&*cell), (expected, SlotState::Started));
    });
}

/// A router that is gone: the replica's I/O thread takes what its pool thread is about to start.
#[test]
fn after_a_router_is_gone_a_request_runs_or_is_dropped_never_both() {
    loom::model(|| {
        let cell = Arc::new(AtomicU64::new(0));
        queue(&*cell, 1);
        let pool = thread::spawn({
            let cell = Arc::clone(&cell);
            move || start(&*cell, 1)
        });
        let dropped = take(&*cell, 1);
        let (sequence, state) = read(&*cell);
        let ran = pool.join().unwrap();
        assert!(ran != dropped);
        assert_eq!(
            (sequence, state),
            (
                1,
                if ran {
                    SlotState::Started
                } else {
                    SlotState::Taken
                }
            )
        );
    });
}

/// A claim that succeeds sees what was written before the request was announced, without any other channel.
#[test]
fn what_was_written_before_queued_is_seen_by_the_winner() {
    loom::model(|| {
        let shared = Arc::new((AtomicU64::new(0), UnsafeCell::new(0)));
        let replica = thread::spawn({
            let shared = Arc::clone(&shared);
            move || start(&shared.0, 1).then(|| shared.1.with(read_plain))
        });
        shared.1.with_mut(|value| write_plain(value, 42));
        queue(&shared.0, 1);
        assert!(matches!(replica.join().unwrap(), None | Some(42)));
    });
}

#[expect(unsafe_code, reason = "loom checks that the access is ordered")]
fn read_plain(value: *const u64) -> u64 {
    // SAFETY: the pointer comes from loom's `UnsafeCell`, which fails the test on a race.
    unsafe { *value }
}

#[expect(unsafe_code, reason = "loom checks that the access is ordered")]
fn write_plain(value: *mut u64, new: u64) {
    // SAFETY: as in `read_plain`.
    unsafe { *value = new }
}
