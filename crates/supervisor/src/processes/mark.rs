//! What says, of any process, which node and which replica started it.

use std::fs;

use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit};

/// What a process hands down to all that it starts, through `fork`, `exec`, `setsid` and an empty environment: a limit of
/// a resource that Linux has not counted since 2.4 (`RLIMIT_LOCKS`), read in `/proc/PID/limits`. Its high bits say the
/// node, the low ones the replica's process. Whoever raises that limit again takes the mark off; nothing does by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub(super) u64);

/// Process numbers are below 2^22 (`PID_MAX_LIMIT`).
const PROCESS_BITS: u32 = 22;

impl Mark {
    /// For any replica of this node. A number of 41 bits: two nodes of a machine share one with odds of 1 in 10^12.
    pub(crate) fn of_node(node_id: &str) -> Self {
        // FNV-1a: the same in every process and release.
        let hash = node_id
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        // Never that of "unlimited", which is all ones.
        Self(hash >> 1 >> PROCESS_BITS << PROCESS_BITS)
    }

    /// For one replica.
    pub(super) const fn of_process(self, pid: u32) -> Self {
        Self(self.0 | pid as u64)
    }

    /// Marks the calling process, as one of this node, and all that it will start. System calls only.
    pub(crate) fn set(self) {
        let maximum = getrlimit(Resource::Locks).maximum;
        let mark = self.of_process(getpid().as_raw_nonzero().get().cast_unsigned());
        let limit = Rlimit {
            current: Some(mark.0),
            maximum,
        };
        // Refused where the maximum is lower: then session and environment are what is left.
        setrlimit(Resource::Locks, limit).ok();
    }

    /// Of another process.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Max file locks"))?;
        Some(Self(line.split_ascii_whitespace().next()?.parse().ok()?))
    }

    pub(super) const fn node(self) -> u64 {
        self.0 >> PROCESS_BITS
    }
}
