//! Signals of a replica that no child of user code inherits.
//!
//! A handler outlives `fork`, and the child may be sent a signal before any code of its own has run: a handler that
//! only a hook takes away lets that signal through to the parent. So the handler asks itself in which process it runs.
//! In the one that it was made for it leaves a note and makes a descriptor readable. In any other it puts back what was
//! there before it and sends the signal again, which is then met as if the handler had never been. `exec` takes
//! handlers away by itself, and no signal is blocked, so children made by it inherit nothing either.
//!
//! A handler that user code sets takes the place of this one, here and in children.

use std::{
    io, mem,
    os::fd::{IntoRawFd, OwnedFd, RawFd},
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use libc::{c_int, sigaction};

/// By which people and supervisors tell a process to end.
const TO_END: [c_int; 2] = [libc::SIGTERM, libc::SIGINT];

static OWNER: AtomicI32 = AtomicI32::new(0);
static WAKE: AtomicI32 = AtomicI32::new(-1);
static HEARD: AtomicBool = AtomicBool::new(false);
/// What there was before, by the index in [`TO_END`].
static BEFORE: [OnceLock<sigaction>; 2] = [const { OnceLock::new() }; 2];
/// A handler of this process's own, of which a child keeps nothing.
static OWN: OnceLock<(c_int, sigaction)> = OnceLock::new();

/// From now on SIGTERM and SIGINT make `wake`, an eventfd, readable; [`heard`] says that one came. Once in a process:
/// a second call changes nothing.
///
/// # Errors
/// The system refuses, which it does for no signal of these.
pub fn hear(wake: OwnedFd) -> io::Result<()> {
    super::INSTALL.call_once(super::install);
    if OWNER.swap(std::process::id().cast_signed(), Ordering::Relaxed) != 0 {
        return Ok(());
    }
    // Never closed: a handler may run as long as the process does.
    WAKE.store(wake.into_raw_fd(), Ordering::Relaxed);
    for (number, before) in TO_END.into_iter().zip(&BEFORE) {
        // Known before the handler can run.
        let present = current(number)?;
        before.get_or_init(|| present);
        set(number, &ours())?;
    }
    Ok(())
}

/// Whether one of the signals came since the last call.
pub fn heard() -> bool {
    HEARD.load(Ordering::Relaxed) && HEARD.swap(false, Ordering::Relaxed)
}

/// The handler that `number` has now is this process's own: children have the default action. For one signal.
///
/// # Errors
/// There is no such signal.
pub fn keep_from_children(number: c_int) -> io::Result<()> {
    super::INSTALL.call_once(super::install);
    let present = current(number)?;
    OWN.get_or_init(|| (number, present));
    Ok(())
}

/// Sends a signal to the calling thread, and to no other: its handler has run when this returns.
#[expect(unsafe_code, reason = "there is no safe way to raise a signal")]
pub fn raise_here(number: c_int) {
    // SAFETY: raise(3) takes any number; what a handler does is for whoever has set it.
    unsafe {
        libc::raise(number);
    }
}

/// Between `fork` and the first code of the child: what is still ours goes, what user code has set stays. The handler
/// would do the same later; so nobody who asks the system sees it.
pub(super) fn in_child() {
    for (number, before) in TO_END.into_iter().zip(&BEFORE) {
        if let (Some(before), Ok(present)) = (before.get(), current(number))
            && present.sa_sigaction == ours().sa_sigaction
        {
            set(number, before).ok();
        }
    }
    if let Some((number, own)) = OWN.get()
        && current(*number).is_ok_and(|present| present.sa_sigaction == own.sa_sigaction)
    {
        set(*number, &default_action()).ok();
    }
    // Nothing reads it here, and the number must not stay taken.
    HEARD.store(false, Ordering::Relaxed);
    let wake: RawFd = WAKE.swap(-1, Ordering::Relaxed);
    if wake >= 0 {
        super::close(wake);
    }
}

/// A signal's handler: calls nothing but what may be called in one.
extern "C" fn on_signal(number: c_int) {
    let process = std::process::id().cast_signed();
    if process == OWNER.load(Ordering::Relaxed) && !super::in_forked_child() {
        HEARD.store(true, Ordering::Relaxed);
        let wake = WAKE.load(Ordering::Relaxed);
        write_one(wake);
        return;
    }
    let before = TO_END
        .iter()
        .position(|one| *one == number)
        .and_then(|index| BEFORE[index].get());
    if set(number, before.unwrap_or(&default_action())).is_ok() {
        // Blocked while this handler runs, so it comes when that returns.
        raise_here(number);
    }
}

#[expect(
    unsafe_code,
    reason = "write(2) to a raw number, and errno, which a handler must leave as it was"
)]
fn write_one(wake: RawFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: errno is the thread's own; `one` outlives the call; the number belongs to this module for ever.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        // A full counter means that it is already readable.
        libc::write(wake, one.as_ptr().cast(), one.len());
        *errno = saved;
    }
}

fn ours() -> sigaction {
    let mut action = default_action();
    action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
    // System calls of user code go on, and threads with small stacks use the other one where there is one.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    action
}

#[expect(
    unsafe_code,
    reason = "a C structure of numbers, all of which may be zero"
)]
fn default_action() -> sigaction {
    // SAFETY: zero is a valid value of every field: SIG_DFL, no flags, an empty mask.
    unsafe { mem::zeroed() }
}

#[expect(unsafe_code, reason = "there is no safe interface to sigaction(2)")]
fn current(number: c_int) -> io::Result<sigaction> {
    let mut action = default_action();
    // SAFETY: reads the action into a structure of the caller's.
    if unsafe { libc::sigaction(number, ptr::null(), &raw mut action) } == 0 {
        Ok(action)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[expect(unsafe_code, reason = "there is no safe interface to sigaction(2)")]
fn set(number: c_int, action: &sigaction) -> io::Result<()> {
    // SAFETY: the action is the default, one that was in place before, or `on_signal`, which only makes calls that are
    // allowed in a handler.
    if unsafe { libc::sigaction(number, action, ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
