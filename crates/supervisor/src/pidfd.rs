//! A process, by a descriptor that names it for ever: its number may be used again, this cannot.

use std::{io, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

#[derive(Debug)]
pub(crate) struct Pidfd(AsyncFd<OwnedFd>);

impl Pidfd {
    /// Of a process that has this number now. Called within the runtime.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
        Self::register(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
    }

    #[expect(
        unsafe_code,
        reason = "tokio asks for a promise about the descriptor that an owned one keeps by its type"
    )]
    fn register(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open and refers to the same file until it is dropped, which the `AsyncFd` does,
        // and its `as_raw_fd` always returns the same number.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Waits until the process has ended. Cancel safe.
    pub(crate) async fn ended(&self) {
        // A pidfd stays readable once it is; an error means that the runtime is going away.
        drop(self.0.readable().await);
    }

    /// To a process that has ended it does nothing.
    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(self.0.get_ref(), signal).ok();
    }
}
