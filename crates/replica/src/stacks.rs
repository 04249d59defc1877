//! What the threads of user code are doing, without a lock of theirs.
//!
//! The embedder has a handler for a signal that writes the stacks of all its threads to a file, in whichever thread the
//! signal arrives: the youngest thread first, with an empty line between (Python's `faulthandler` does). The I/O thread
//! sends it to itself alone, so no system call of user code is interrupted by it, no thread has to block it (children
//! would inherit that, through exec too), and what was asked for is written when the call that asks returns.

use std::os::fd::OwnedFd;

use eagleray_wire::fork::{self, Listed, signals};
use rustix::{
    fs::{SeekFrom, ftruncate, seek},
    io::pread,
    process::Signal,
};

/// Nothing else uses it; `eagleray._replica.stacks` names the same.
const SIGNAL: Signal = Signal::STKFLT;
/// Characters.
const MOST_SHOWN: usize = 16 * 1024;
/// Bytes of the file: a hundred threads of a hundred frames may be more than is shown, and that of the loop comes last.
const MOST_READ: u64 = 4 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Stacks {
    _listed: Option<Listed>,
    file: OwnedFd,
}

impl Stacks {
    /// Takes the file that the handler writes to; the handler, in place by now, is not for children.
    pub fn new(file: OwnedFd) -> Self {
        if is_caught(SIGNAL) {
            // It fails for no number of a signal.
            signals::keep_from_children(SIGNAL.as_raw()).ok();
        }
        Self {
            _listed: fork::list(&file),
            file,
        }
    }

    /// Empty: they cannot be had.
    pub fn text(&self) -> String {
        if !is_caught(SIGNAL) || ftruncate(&self.file, 0).is_err() {
            return String::new();
        }
        signals::raise_here(SIGNAL.as_raw());
        let length = seek(&self.file, SeekFrom::End(0)).unwrap_or(0);
        let mut bytes = vec![0; usize::try_from(length.min(MOST_READ)).unwrap_or(0)];
        let read = pread(&self.file, &mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        loop_first(&String::from_utf8_lossy(&bytes))
    }
}

/// The youngest thread comes first, and the main thread, which runs the loop, last.
fn loop_first(text: &str) -> String {
    let mut threads: Vec<&str> = text.trim_end().split("\n\n").collect();
    threads.reverse();
    let text = threads.join("\n\n");
    text.chars().take(MOST_SHOWN).collect()
}

/// Whether a handler is in place. Without one the signal would end the process: user code may have taken it away.
fn is_caught(signal: Signal) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return false;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 << (signal.as_raw() - 1) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_of_the_loop_comes_first() {
        let text = "Thread 0x2 (most recent call first):\n  File \"a\"\n\nThread 0x1 (most recent call first):\n  File \"b\"\n";
        assert_eq!(
            loop_first(text),
            "Thread 0x1 (most recent call first):\n  File \"b\"\n\nThread 0x2 (most recent call first):\n  File \"a\""
        );
        assert_eq!(loop_first(""), "");
    }

    #[test]
    fn a_signal_without_a_handler_is_not_sent() {
        assert!(!is_caught(SIGNAL));
    }
}
