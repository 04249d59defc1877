//! One request at the service: its body on the way out, its answer on the way in, and whoever waits for it.

use std::{
    ops::{Index, IndexMut},
    task::Waker,
};

use slab::Slab;

use super::{Failure, body::Body, incoming::Incoming};
use crate::core::RequestKey;

#[derive(Debug)]
pub(super) struct Entry {
    /// While the state machine knows the request.
    pub(super) request: Option<RequestKey>,
    pub(super) body: Body,
    pub(super) answer: Incoming,
    /// The owner's task, if it waits.
    pub(super) waker: Option<Waker>,
}

impl Entry {
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The outcome is a failure; what has come of the answer is still handed out before it.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.request = None;
        self.body.wanted = false;
        if !self.answer.ended {
            self.answer.ended = true;
            self.answer.failure = Some(failure);
        }
        self.wake();
    }
}

/// Whose entry it is: held by its exchange, which removes the entry when it is dropped. Reused by later entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryKey(usize);

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Entries(Slab<Entry>);

impl Entries {
    pub(super) fn insert(&mut self, entry: Entry) -> EntryKey {
        EntryKey(self.0.insert(entry))
    }

    pub(super) fn remove(&mut self, key: EntryKey) -> Entry {
        self.0.remove(key.0)
    }

    pub(super) fn contains(&self, key: EntryKey) -> bool {
        self.0.contains(key.0)
    }
}

/// Of an exchange that lives.
impl Index<EntryKey> for Entries {
    type Output = Entry;

    fn index(&self, key: EntryKey) -> &Entry {
        &self.0[key.0]
    }
}

impl IndexMut<EntryKey> for Entries {
    fn index_mut(&mut self, key: EntryKey) -> &mut Entry {
        &mut self.0[key.0]
    }
}
