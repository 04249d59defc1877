//! A forked child that is no child of user code but a process of its own: a replica that was forked from a zygote.
//!
//! Whoever looks for the processes of a replica looks at what they cannot take off (`crates/supervisor/src/processes.rs`):
//! their session, the environment that they were started with, and a limit that holds a mark. The child has all three of
//! its parent, and gets its own here. `setenv` does not change what `/proc/PID/environ` shows, which is the memory that
//! the environment lay in at the start; so this writes there.

use std::{
    fs, io,
    ops::Range,
    sync::atomic::{AtomicU8, Ordering},
};

use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit, setsid};

use super::CHILD;

const VARIABLE: &[u8] = b"EAGLERAY_REPLICA=";
/// Process numbers are below 2^22 (`PID_MAX_LIMIT`): the low bits of a mark.
const PROCESS_BITS: u32 = 22;

/// Gives this process, which was forked from process `parent`, a session and a mark of its own and the name `id`.
///
/// # Errors
/// The name is longer than the one that was there, or the system refuses.
pub fn begin(id: &str, parent: u32) -> io::Result<()> {
    // In this order: until the last one it still belongs to its parent.
    rename(id)?;
    mark(parent);
    setsid()?;
    CHILD.store(false, Ordering::Relaxed);
    Ok(())
}

/// Gives this process another name in the environment that it was started with.
///
/// # Errors
/// There is none in that, or it is shorter.
pub fn rename(id: &str) -> io::Result<()> {
    let place = environment()?;
    let shown = fs::read("/proc/self/environ")?;
    let begin = shown
        .windows(VARIABLE.len())
        .enumerate()
        .find(|(at, window)| *window == VARIABLE && (*at == 0 || shown.get(at - 1) == Some(&0)))
        .map(|(at, _)| at + VARIABLE.len())
        .ok_or_else(|| io::Error::other("the environment names no replica"))?;
    let old = shown.get(begin..).unwrap_or_default();
    let length = old.iter().position(|byte| *byte == 0).unwrap_or(0);
    if id.len() > length || place.start + begin + length > place.end {
        return Err(io::Error::other(format!("the name {id} is too long")));
    }
    for (at, byte) in (begin..).zip(id.bytes().chain(std::iter::repeat(0)).take(length)) {
        write(place.start + at, byte);
    }
    Ok(())
}

/// Where the environment lay when the process was started: fields 50 and 51 of proc(5)'s stat.
fn environment() -> io::Result<Range<usize>> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let rest = text.rsplit(')').next().unwrap_or_default();
    let mut fields = rest.split_ascii_whitespace().skip(47);
    let mut next = || fields.next().and_then(|field| field.parse().ok());
    match (next(), next()) {
        (Some(start), Some(end)) if start != 0 && start < end => Ok(start..end),
        _ => Err(io::Error::other(
            "the system does not say where the environment is",
        )),
    }
}

#[expect(
    unsafe_code,
    reason = "what /proc shows of an environment is memory of this process, which nobody owns in Rust"
)]
fn write(address: usize, byte: u8) {
    // SAFETY: the kernel put the environment there, on the stack of the first thread, below everything that runs: it is
    // mapped and writable as long as the process lives. An atomic, since C code may read it.
    let place = unsafe { AtomicU8::from_ptr(std::ptr::with_exposed_provenance_mut(address)) };
    place.store(byte, Ordering::Relaxed);
}

/// As the node marks those that it starts itself. Where it could not, there is nothing to change.
fn mark(parent: u32) {
    let limit = getrlimit(Resource::Locks);
    let process = u64::from(getpid().as_raw_nonzero().get().cast_unsigned());
    let low = (1 << PROCESS_BITS) - 1;
    if let Some(mark) = limit.current.filter(|mark| mark & low == u64::from(parent)) {
        let limit = Rlimit {
            current: Some((mark & !low) | process),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Locks, limit).ok();
    }
}
