//! The maker's side: a pool of regions, and the values that they carry.

use std::{
    mem::ManuallyDrop,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;

use super::{
    memory::Memory,
    pool::{Accounts, Take},
};
use crate::fork;

/// The regions that one part of a process makes, against one credit. Usable from any thread.
pub struct Pool {
    accounts: Mutex<Accounts<Memory>>,
    numbers: AtomicU64,
    /// Something is warm, so there is a time to watch.
    warm: AtomicBool,
    /// Told when [`Pool::poll_timeout`] begins to say a time.
    on_warm: Box<dyn Fn() + Send + Sync>,
    life: u64,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// `on_warm` is called, from any thread, when there is a time to watch and there was none: its owner then calls
    /// [`Pool::on_timeout`] at [`Pool::poll_timeout`]. It must neither block nor call back.
    pub fn new(on_warm: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            accounts: Mutex::new(Accounts::new()),
            numbers: AtomicU64::new(1),
            warm: AtomicBool::new(false),
            on_warm: Box::new(on_warm),
            life: fork::life(),
        })
    }

    /// Copies `parts`, one after the other, into a region. `None`: the credit is spent, or the system has no memory or
    /// descriptor for it; the value goes as DATA.
    pub fn lend(self: &Arc<Self>, parts: &[&[u8]]) -> Option<Arc<Lent>> {
        if self.life != fork::life() {
            return None;
        }
        let length = parts
            .iter()
            .try_fold(0_usize, |sum, part| sum.checked_add(part.len()))?;
        let class = Accounts::<Memory>::class(length).filter(|_| length > 0)?;
        let mut cold = Vec::new();
        let taken = self.accounts.lock().take(class, &mut cold);
        drop(cold);
        let filled = match taken {
            Take::Warm(memory) => Ok(memory),
            Take::Make => Memory::create(class),
            Take::Spent => return None,
        }
        .and_then(|mut memory| memory.fill(parts).map(|()| memory));
        let Ok(memory) = filled else {
            self.accounts.lock().forfeit(class);
            return None;
        };
        Some(Arc::new(Lent {
            pool: Arc::clone(self),
            class,
            length,
            spoiled: AtomicBool::new(false),
            memory: Some(memory),
        }))
    }

    /// A number that no other region has in any message of this pool's owner; never 0.
    pub fn number(&self) -> u64 {
        // Relaxed: nothing is published by it.
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// When memory can be given back to the system.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // Relaxed: whoever sets it calls `on_warm` after that, and then it is looked at again.
        if !self.warm.load(Ordering::Relaxed) {
            return None;
        }
        self.accounts.lock().poll_timeout()
    }

    /// Gives back what has not been needed for a while.
    pub fn on_timeout(&self, now: Instant) {
        let mut cold = Vec::new();
        let mut accounts = self.accounts.lock();
        accounts.on_timeout(now, &mut cold);
        self.warm
            .store(accounts.poll_timeout().is_some(), Ordering::Relaxed);
        // What went cold is unmapped without the lock.
        drop(accounts);
    }
}

/// A value in a region that this process made. When the last of all that have it is dropped, the region goes back.
#[derive(Debug)]
pub struct Lent {
    pool: Arc<Pool>,
    class: usize,
    length: usize,
    /// Somebody may still see the region after having released it.
    spoiled: AtomicBool,
    /// There until the drop.
    memory: Option<Memory>,
}

impl Lent {
    fn memory(&self) -> &Memory {
        self.memory
            .as_ref()
            .expect("it is taken out by the drop only")
    }

    pub fn length(&self) -> usize {
        self.length
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory().descriptor()
    }

    /// It must not be written to again.
    pub(super) fn spoil(&self) {
        // Relaxed: the reference count orders it before the drop that reads it.
        self.spoiled.store(true, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.memory().bytes(self.length)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else {
            debug_assert!(false, "memory is taken here only");
            return;
        };
        if self.pool.life != fork::life() {
            // A forked child: the mapping is not there (another may be at its address), the descriptor is closed, and the
            // pool's lock may be held by a thread that does not exist. Nothing of it is touched.
            let _untouched = ManuallyDrop::new(memory);
            return;
        }
        if self.spoiled.load(Ordering::Relaxed) {
            self.pool.accounts.lock().forfeit(self.class);
            return;
        }
        let now = Instant::now();
        let mut accounts = self.pool.accounts.lock();
        let first = accounts.give_back(now, self.class, memory);
        self.pool.warm.store(true, Ordering::Relaxed);
        drop(accounts);
        if first {
            (self.pool.on_warm)();
        }
    }
}
