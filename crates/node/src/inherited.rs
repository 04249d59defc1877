//! Descriptors that the parent process left open for this one, named by number in the environment or in an option.

use std::{
    env, fs, io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use rustix::io::{FdFlags, fcntl_setfd};

/// Takes the descriptor whose number stands in the environment variable `variable`.
pub(crate) fn from_environment(variable: &str) -> io::Result<OwnedFd> {
    let text = env::var(variable).map_err(|_| invalid(format!("{variable} is not set")))?;
    let number = text
        .parse()
        .map_err(|_| invalid(format!("{variable}={text} is not a descriptor")))?;
    take(number).map_err(|error| io::Error::new(error.kind(), format!("{variable}: {error}")))
}

/// Takes an inherited descriptor and sets close-on-exec on it. Each number is taken once, at the start of the
/// process, before anything else is opened.
#[expect(
    unsafe_code,
    reason = "an inherited descriptor is known by its number only"
)]
pub(crate) fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 || fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
        return Err(invalid(format!("descriptor {number} was not inherited")));
    }
    // SAFETY: the descriptor is open, as was just seen, and nothing in this process owns it: the parent left it
    // for exactly this call, which runs before anything else is opened.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
