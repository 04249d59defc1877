//! One epoll set and the descriptor that interrupts its wait.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use eagleray_wire::fork::{self, Listed};
use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, Timespec, epoll, eventfd},
    io::Errno,
};

/// Token of the interrupt in the events.
pub(crate) const INTERRUPT: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Poller {
    _listed: [Listed; 2],
    epoll: OwnedFd,
    interrupt: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let interrupt = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(
            &epoll,
            &interrupt,
            epoll::EventData::new_u64(INTERRUPT),
            epoll::EventFlags::IN,
        )?;
        let full = || io::Error::other("too many descriptors");
        let listed = [
            fork::list(&epoll).ok_or_else(full)?,
            fork::list(&interrupt).ok_or_else(full)?,
        ];
        Ok(Self {
            _listed: listed,
            epoll,
            interrupt,
        })
    }

    /// What [`Poller::interrupt`] writes to, for who cannot call it: a signal's handler.
    pub(crate) fn interrupter(&self) -> io::Result<OwnedFd> {
        self.interrupt.try_clone()
    }

    pub(crate) fn add(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            source,
            epoll::EventData::new_u64(token),
            epoll::EventFlags::IN,
        )?)
    }

    pub(crate) fn remove(&self, source: impl AsFd) {
        // It fails only for what is not in the set, and then there is nothing to remove.
        epoll::delete(&self.epoll, source).ok();
    }

    pub(crate) fn watch_reads(&self, source: impl AsFd, token: u64) {
        let data = epoll::EventData::new_u64(token);
        epoll::modify(&self.epoll, source, data, epoll::EventFlags::IN).ok();
    }

    pub(crate) fn watch_both(&self, source: impl AsFd, token: u64) {
        let data = epoll::EventData::new_u64(token);
        epoll::modify(
            &self.epoll,
            source,
            data,
            epoll::EventFlags::IN | epoll::EventFlags::OUT,
        )
        .ok();
    }

    /// Makes the wait return, from any thread.
    pub(crate) fn interrupt(&self) {
        // A full counter means that it is already readable.
        rustix::io::write(&self.interrupt, &1_u64.to_ne_bytes()).ok();
    }

    pub(crate) fn clear_interrupt(&self) {
        rustix::io::read(&self.interrupt, &mut [0; 8]).ok();
    }

    /// Waits for events, or for `timeout`; `None` waits for ever.
    pub(crate) fn wait(
        &self,
        events: &mut Vec<epoll::Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        // Rounded up to a millisecond by the kernel interface; a wait is never shorter than asked.
        let timeout = timeout.map(|timeout| {
            let milliseconds = timeout.as_micros().div_ceil(1000) as i64;
            Timespec {
                tv_sec: milliseconds / 1000,
                tv_nsec: (milliseconds % 1000) * 1_000_000,
            }
        });
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
