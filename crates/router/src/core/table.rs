//! The tables of the state machine, each with a type for positions in it, so that none is used for another.

use std::{marker::PhantomData, num::NonZeroU32};

use slab::Slab;

/// A position in one table. Reused by later entries.
pub(super) trait Index: Copy {
    fn new(position: usize) -> Self;
    fn position(self) -> usize;
}

macro_rules! index {
    ($(#[$doc:meta] $name:ident;)*) => {$(
        #[$doc]
        // One more than the position, so that `Option` of it is no longer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(super) struct $name(NonZeroU32);

        impl Index for $name {
            fn new(position: usize) -> Self {
                Self(NonZeroU32::MIN.saturating_add(position as u32))
            }

            fn position(self) -> usize {
                (self.0.get() - 1) as usize
            }
        }
    )*};
}

index! {
    /// Of a deployment, among all.
    DeploymentIndex;
    /// Of a replica, among those of all deployments.
    ReplicaIndex;
    /// Of a request, among all.
    RequestIndex;
    /// Of a version, among those of its deployment.
    VersionIndex;
}

/// Entries that keep their position for as long as they are there.
#[derive(Debug)]
pub(super) struct Table<I, T> {
    entries: Slab<T>,
    index: PhantomData<I>,
}

impl<I, T> Default for Table<I, T> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            index: PhantomData,
        }
    }
}

impl<I: Index, T> Table<I, T> {
    pub(super) fn insert(&mut self, entry: T) -> I {
        I::new(self.entries.insert(entry))
    }

    pub(super) fn remove(&mut self, index: I) -> Option<T> {
        self.entries.try_remove(index.position())
    }

    /// The entry, if there is one.
    pub(super) fn get(&self, index: impl Into<Option<I>>) -> Option<&T> {
        self.entries.get(index.into()?.position())
    }

    /// As [`Table::get`].
    pub(super) fn get_mut(&mut self, index: impl Into<Option<I>>) -> Option<&mut T> {
        self.entries.get_mut(index.into()?.position())
    }

    /// The entry, which is there: whoever has its position knows that.
    pub(super) fn known(&self, index: I) -> Option<&T> {
        let entry = self.entries.get(index.position());
        debug_assert!(entry.is_some(), "no entry at {}", index.position());
        entry
    }

    /// As [`Table::known`].
    pub(super) fn known_mut(&mut self, index: I) -> Option<&mut T> {
        let entry = self.entries.get_mut(index.position());
        debug_assert!(entry.is_some(), "no entry at {}", index.position());
        entry
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.entries
            .iter()
            .map(|(position, entry)| (I::new(position), entry))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        self.entries
            .iter_mut()
            .map(|(position, entry)| (I::new(position), entry))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
