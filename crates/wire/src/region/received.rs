//! The other side: a region that came, until it is released.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;

use super::{
    CREDIT_BYTES, MOST_REGIONS, Named,
    idle::Idle,
    memory::{self, File, IdleMapping, Mapping},
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
    length: usize,
    file: File,
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
        let (file, length) = memory::check(descriptor.as_fd(), length)?;
        Ok(Arc::new(Self {
            number,
            length,
            file,
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
        self.length as u64
    }

    /// As the message that brought it named it.
    pub fn named(&self) -> Named {
        Named {
            number: self.number,
            length: self.length(),
        }
    }

    /// Maps it, the first time, if it is not mapped still.
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
            let map = match self.held.idle(self.file, self.length) {
                Some(map) => map,
                None => Mapping::open(open.as_fd(), self.length)?,
            };
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
        let reusable = !self.spoiled.load(Ordering::Relaxed);
        self.release.release(self.number, reusable);
    }

    /// Whether a child may have inherited the mapping.
    fn forked(&self) -> bool {
        self.forks.load(Ordering::Relaxed) != fork::forks()
    }

    /// Ends the view, before the region is released: whoever fills it again must be alone.
    fn hide(&mut self) {
        let Some(map) = self.map.take() else {
            return;
        };
        if self.life != fork::life() || self.spoiled.load(Ordering::Relaxed) {
            return;
        }
        // In this order: whoever forks after the count was looked at does not inherit it.
        let idle = map.idle();
        if self.forked() {
            self.spoil();
        } else if let Ok(idle) = idle {
            self.held.keep_idle(self.file, idle);
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.hide();
        if self.life == fork::life() {
            self.release_once();
        } else if let Some(descriptor) = self.descriptor.get_mut().take() {
            // The fork handler has closed it; its number may be another's by now.
            let _untouched = std::mem::ManuallyDrop::new(descriptor);
        }
    }
}

/// What is mapped in one part of a process.
///
/// What user code has of it is here in the order in which it got it. A maker's credit must not be spent for ever by values
/// that user code keeps: beyond a quarter of a credit, the oldest are kept, which means that they are released although
/// they are still there, and never filled again.
///
/// What it has dropped stays mapped for a while, for the next value in the same region (see the module `idle`).
pub struct Held {
    mapped: Mutex<VecDeque<Weak<Received>>>,
    idle: Mutex<Idle<IdleMapping>>,
    /// There is a time to watch.
    watched: AtomicBool,
    /// Told when [`Held::poll_timeout`] begins to say a time.
    on_idle: Box<dyn Fn() + Send + Sync>,
    life: u64,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Held {
    /// `on_idle` is called, from any thread, when there is a time to watch and there was none: its owner then calls
    /// [`Held::on_timeout`] at [`Held::poll_timeout`]. It must neither block nor call back.
    pub fn new(on_idle: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            mapped: Mutex::default(),
            idle: Mutex::new(Idle::new()),
            watched: AtomicBool::new(false),
            on_idle: Box::new(on_idle),
            life: fork::life(),
        })
    }

    fn add(&self, received: &Arc<Received>) {
        let mut mapped = self.mapped.lock();
        mapped.push_back(Arc::downgrade(received));
        // Few: their number is bounded below.
        let live: Vec<_> = mapped.iter().filter_map(Weak::upgrade).collect();
        let mut bytes: u64 = live.iter().map(|one| one.length()).sum();
        let mut kept = 0;
        // The newest is on its way to user code, whatever its length.
        while kept + 1 < live.len() && (bytes > HELD_BYTES || live.len() - kept > HELD_REGIONS) {
            bytes -= live[kept].length();
            kept += 1;
        }
        *mapped = live[kept..].iter().map(Arc::downgrade).collect();
        // From here on without the lock: what `live` has may be the last reference.
        drop(mapped);
        live[..kept].iter().for_each(|one| one.keep());
    }

    /// A mapping of that file that nobody sees.
    fn idle(&self, file: File, length: usize) -> Option<Mapping> {
        let mut cold = Vec::new();
        let found = self.idle.lock().take(file, length as u64, &mut cold);
        found?.show(length).ok()
    }

    fn keep_idle(&self, file: File, mapping: IdleMapping) {
        let mut cold = Vec::new();
        let length = mapping.len() as u64;
        let mut idle = self.idle.lock();
        let first = idle.keep(Instant::now(), (file, length), mapping, &mut cold);
        self.watched.store(true, Ordering::Relaxed);
        drop(idle);
        // What is cold is unmapped without the lock.
        drop(cold);
        if first {
            (self.on_idle)();
        }
    }

    /// When mappings have to go.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // Relaxed: whoever sets it calls `on_idle` after that, and then it is looked at again.
        if !self.watched.load(Ordering::Relaxed) {
            return None;
        }
        self.idle.lock().poll_timeout()
    }

    /// Unmaps what has not been needed for a while.
    pub fn on_timeout(&self, now: Instant) {
        let mut cold = Vec::new();
        let mut idle = self.idle.lock();
        idle.on_timeout(now, &mut cold);
        self.watched
            .store(idle.poll_timeout().is_some(), Ordering::Relaxed);
        drop(idle);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.life != fork::life() {
            // A forked child: these mappings are not there, and others may be at their addresses.
            let _untouched =
                std::mem::ManuallyDrop::new(std::mem::replace(self.idle.get_mut(), Idle::new()));
        }
    }
}
