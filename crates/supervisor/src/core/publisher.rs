//! What the proxy must know, kept by the node so that it survives both the controller and the proxy.
//!
//! The updates are opaque bytes: a snapshot, then what followed it. A new proxy is told all of them in order. The
//! node never invents, merges or drops one in the middle, so a gap can only mean a fault elsewhere, and the
//! receiver, who reads the numbers, asks for a new snapshot.

use bytes::Bytes;

/// Updates after a snapshot at which the controller is asked for a new one. It sends one every 64 by itself.
const ASK_AFTER: usize = 256;
/// Updates after a snapshot that are kept at most. Beyond, a successor waits for the next snapshot.
const MAX_UPDATES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Publisher {
    updates: Vec<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    Kept,
    /// Kept or not, a snapshot is wanted from the controller.
    SnapshotWanted,
}

impl Publisher {
    pub(super) fn publish(&mut self, snapshot: bool, update: Bytes) -> Published {
        if snapshot {
            self.updates.clear();
            self.updates.push(update);
            return Published::Kept;
        }
        if self.updates.is_empty() {
            return Published::SnapshotWanted;
        }
        if self.updates.len() >= MAX_UPDATES {
            self.updates.clear();
            return Published::SnapshotWanted;
        }
        self.updates.push(update);
        if self.updates.len().is_multiple_of(ASK_AFTER) {
            Published::SnapshotWanted
        } else {
            Published::Kept
        }
    }

    /// All that a new proxy is told, in order.
    pub(super) fn replay(&self) -> &[Bytes] {
        &self.updates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_told_the_last_snapshot_and_what_followed_it() {
        let mut publisher = Publisher::default();
        publisher.publish(true, "s1".into());
        publisher.publish(false, "d1".into());
        publisher.publish(true, "s2".into());
        publisher.publish(false, "d2".into());
        assert_eq!(publisher.replay(), ["s2", "d2"]);
    }

    #[test]
    fn a_change_without_a_snapshot_before_it_asks_for_one() {
        let mut publisher = Publisher::default();
        assert_eq!(
            publisher.publish(false, "d".into()),
            Published::SnapshotWanted
        );
        assert!(publisher.replay().is_empty());
    }

    #[test]
    fn a_controller_that_never_sends_snapshots_does_not_fill_the_memory() {
        let mut publisher = Publisher::default();
        publisher.publish(true, "s".into());
        let asked = (0..100_000)
            .filter(|_| publisher.publish(false, "d".into()) == Published::SnapshotWanted)
            .count();
        assert!(publisher.replay().len() <= MAX_UPDATES);
        assert!(asked > 0);
    }
}
