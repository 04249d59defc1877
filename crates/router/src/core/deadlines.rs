//! Deadlines of live requests: a heap of four children a node that knows where each request sits.
//!
//! Removal is exact. A heap that forgets lazily would keep the deadline of every request answered within the last
//! minute; this one holds only what is alive. Deadlines mostly grow with time, so an insertion is one comparison.

use std::time::Instant;

use super::table::{Index, RequestIndex};

/// No place.
const NONE: u32 = u32::MAX;

const CHILDREN: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: Vec<(Instant, RequestIndex)>,
    /// By request index: its place in `heap`, or `NONE`.
    places: Vec<u32>,
}

impl Deadlines {
    pub(super) fn insert(&mut self, at: Instant, request: RequestIndex) {
        let index = request.position();
        if self.places.len() <= index {
            self.places.resize(index + 1, NONE);
        }
        self.heap.push((at, request));
        self.up(self.heap.len() - 1);
    }

    pub(super) fn remove(&mut self, request: RequestIndex) {
        let Some(place) = self.places.get_mut(request.position()) else {
            return;
        };
        let at = std::mem::replace(place, NONE);
        if at == NONE {
            return;
        }
        let at = at as usize;
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            self.down(at);
            self.up(at);
        }
    }

    pub(super) fn first(&self) -> Option<(Instant, RequestIndex)> {
        self.heap.first().copied()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.heap.len()
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if self.heap[parent].0 <= self.heap[at].0 {
                break;
            }
            self.heap.swap(parent, at);
            self.settle(at);
            at = parent;
        }
        self.settle(at);
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let first = at * CHILDREN + 1;
            let last = (first + CHILDREN).min(self.heap.len());
            let Some(child) = (first..last).min_by_key(|child| self.heap[*child].0) else {
                break;
            };
            if self.heap[at].0 <= self.heap[child].0 {
                break;
            }
            self.heap.swap(child, at);
            self.settle(at);
            at = child;
        }
        self.settle(at);
    }

    fn settle(&mut self, at: usize) {
        let (_, request) = self.heap[at];
        self.places[request.position()] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    #[test]
    fn it_agrees_with_a_sorted_set_under_random_insertions_and_removals() {
        let base = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let mut deadlines = Deadlines::default();
        let mut model = BTreeSet::new();
        let mut at = [None; 64];
        for _ in 0..20_000 {
            let request = RequestIndex::new(random.usize(0..64));
            if let Some(old) = at[request.position()].take() {
                deadlines.remove(request);
                deadlines.remove(request);
                model.remove(&(old, request));
            } else {
                let new = base + Duration::from_micros(random.u64(0..1_000));
                deadlines.insert(new, request);
                model.insert((new, request));
                at[request.position()] = Some(new);
            }
            assert_eq!(
                deadlines.first().map(|(at, _)| at),
                model.first().map(|(at, _)| *at)
            );
            assert_eq!(deadlines.len(), model.len());
        }
    }
}
