//! The other side: a region that came, until it is released.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    CREDIT_BYTES, MOST_REGIONS, Named,
    memory::{self, Mapping},
};
use crate::fork::{self, Listed};

/// Of what is mapped here so many bytes may keep a maker waiting; the same for the number of regions.
const HELD_BYTES: u64 = CREDIT_BYTES / 4;
const HELD_REGIONS: usize = MOST_REGIONS / 4;

/// How RELEASE gets to the maker of a region.
pub trait Release: std::fmt::Debug + Send + Sync {
    /// Region `number` is not needed here any more; with `reusable` nobody sees it any more. Called once, from any
    /// thread; must neither block nor call back.
    fn release(&self, number: u64, reusable: bool);
}

/// A region that came with a message. It is mapped when somebody wants to see it, and released when the last of all
/// that have it is dropped, or when user code keeps it for long ([`Held`]).
#[derive(Debug)]
pub struct Received {
    number: u64,
    length: u64,
    /// Closed once it is mapped: user code may have more values than a process may have descriptors.
    descriptor: Mutex<Option<Arc<Descriptor>>>,
    map: OnceLock<Mapping>,
    /// How often the process had forked when it was mapped.
    forks: AtomicU64,
    spoiled: AtomicBool,
    released: AtomicBool,
    release: Arc<dyn Release>,
    held: Arc<Held>,
    life: u64,
}

/// A descriptor that a forked child does not keep.
#[derive(Debug)]
pub(super) struct Descriptor {
    // Before the descriptor: see `Listed`.
    _listed: Listed,
    open: OwnedFd,
}

impl Descriptor {
    /// `None`: the list is full.
    pub(super) fn new(open: OwnedFd) -> Option<Self> {
        let listed = fork::list(&open)?;
        Some(Self {
            _listed: listed,
            open,
        })
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.open.as_fd()
    }
}

impl Received {
    /// Takes over a descriptor, after checking it.
    ///
    /// # Errors
    /// It is not what was said.
    pub(super) fn new(
        Named { number, length }: Named,
        descriptor: Descriptor,
        release: Arc<dyn Release>,
        held: Arc<Held>,
    ) -> io::Result<Arc<Self>> {
        memory::check(descriptor.as_fd(), length)?;
        Ok(Arc::new(Self {
            number,
            length,
            descriptor: Mutex::new(Some(Arc::new(descriptor))),
            map: OnceLock::new(),
            forks: AtomicU64::new(0),
            spoiled: AtomicBool::new(false),
            released: AtomicBool::new(false),
            release,
            held,
            life: fork::life(),
        }))
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// As the message that brought it named it.
    pub fn named(&self) -> Named {
        Named {
            number: self.number,
            length: self.length,
        }
    }

    /// Maps it, the first time.
    ///
    /// # Errors
    /// There is no memory for the page tables, or no mapping left.
    pub fn map(self: &Arc<Self>) -> io::Result<&Mapping> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        if self.life != fork::life() {
            return Err(io::Error::other(
                "the value came to the process that this one was forked from",
            ));
        }
        let mut descriptor = self.descriptor.lock();
        if self.map.get().is_none()
            && let Some(open) = descriptor.as_ref()
        {
            self.forks.store(fork::forks(), Ordering::Relaxed);
            let map = Mapping::open(open.as_fd(), self.length)?;
            // It is empty: the lock is held, and the descriptor was still there.
            self.map.get_or_init(|| map);
            *descriptor = None;
            drop(descriptor);
            self.held.add(self);
        }
        self.map
            .get()
            .ok_or_else(|| io::Error::other("the region has neither a mapping nor a descriptor"))
    }

    /// The descriptor, if it has not been mapped.
    pub(super) fn descriptor(&self) -> Option<Arc<Descriptor>> {
        if self.life != fork::life() {
            return None;
        }
        self.descriptor.lock().clone()
    }

    /// Somebody may see it after this side has released it.
    pub(super) fn spoil(&self) {
        // Relaxed: the reference count orders it before the drop that reads it.
        self.spoiled.store(true, Ordering::Relaxed);
    }

    /// User code keeps it: its maker need not wait for it.
    fn keep(&self) {
        self.spoil();
        self.release_once();
    }

    fn release_once(&self) {
        if self.life != fork::life() || self.released.swap(true, Ordering::AcqRel) {
            return;
        }
        let forked =
            self.map.get().is_some() && self.forks.load(Ordering::Relaxed) != fork::forks();
        let reusable = !forked && !self.spoiled.load(Ordering::Relaxed);
        self.release.release(self.number, reusable);
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let own = self.life == fork::life();
        // Before it is released: whoever fills it again must be alone.
        let forked =
            self.map.take().is_some() && self.forks.load(Ordering::Relaxed) != fork::forks();
        if forked {
            self.spoil();
        }
        if own {
            self.release_once();
        } else if let Some(descriptor) = self.descriptor.get_mut().take() {
            // The fork handler has closed it; its number may be another's by now.
            let _untouched = std::mem::ManuallyDrop::new(descriptor);
        }
    }
}

/// What is mapped in one part of a process, in the order in which user code got it. A maker's credit must not be spent for
/// ever by values that user code keeps: beyond a quarter of a credit, the oldest are kept, which means that they are
/// released although they are still there, and never filled again.
#[derive(Debug, Default)]
pub struct Held {
    mapped: Mutex<VecDeque<Weak<Received>>>,
}

impl Held {
    fn add(&self, received: &Arc<Received>) {
        let mut mapped = self.mapped.lock();
        mapped.push_back(Arc::downgrade(received));
        // Few: their number is bounded below.
        let live: Vec<_> = mapped.iter().filter_map(Weak::upgrade).collect();
        let mut bytes: u64 = live.iter().map(|one| one.length).sum();
        let mut kept = 0;
        // The newest is on its way to user code, whatever its length.
        while kept + 1 < live.len() && (bytes > HELD_BYTES || live.len() - kept > HELD_REGIONS) {
            bytes -= live[kept].length;
            kept += 1;
        }
        *mapped = live[kept..].iter().map(Arc::downgrade).collect();
        // From here on without the lock: what `live` has may be the last reference.
        drop(mapped);
        live[..kept].iter().for_each(|one| one.keep());
    }
}
