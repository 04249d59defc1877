//! How much of its memory the process uses, and what it no longer does because of it.
//!
//! One thread looks ten times a second at the resident memory of the process itself, against the least of its
//! control groups, `RLIMIT_AS` (there: its address space) and the machine. From the first watermark on idle
//! connections are closed, from the second new requests are refused, from the third connections too. What is on its
//! way is finished at all of them: to end it would cost work that is done, and frees little. What ended connections had is
//! given back to the system ([`surplus`]).
//!
//! The threads of the proxy read one byte. A process whose memory cannot be read is taken to have enough.

mod surplus;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use crate::{counters::Counters, limits::Limits};
use surplus::Surplus;
pub use surplus::keep_freed_memory;

const PERIOD: Duration = Duration::from_millis(100);
const DRAIN: u8 = 1;
const SHED: u8 = 2;
const REFUSE: u8 = 3;

/// The last look. Relaxed: it guards nothing, and is a tenth of a second old anyway.
#[derive(Debug, Default)]
pub(crate) struct Memory(AtomicU8);

impl Memory {
    pub(crate) fn drains_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= DRAIN
    }

    pub(crate) fn refuses_requests(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= SHED
    }

    pub(crate) fn refuses_connections(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= REFUSE
    }
}

/// The thread that looks. Ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    marks: Arc<Mutex<Marks>>,
}

impl Watch {
    pub(crate) fn start(
        limits: &Limits,
        memory: Arc<Memory>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let (end, ended) = channel();
        let marks = Arc::new(Mutex::new(Marks::new(limits)));
        let looks_at = Arc::clone(&marks);
        let thread = std::thread::Builder::new()
            .name("eagleray-proxy-memory".to_owned())
            .spawn(move || look_until(&ended, &looks_at, &memory, &counters))?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
            marks,
        })
    }

    /// Takes other watermarks.
    pub(crate) fn configure(&self, limits: &Limits) {
        *self.marks.lock() = Marks::new(limits);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches the memory panicked");
        }
    }
}

/// Bytes, and the percentages of them at which something happens.
#[derive(Clone, Copy, Debug)]
struct Marks {
    resident: u64,
    address_space: u64,
    percent: [u64; 3],
}

impl Marks {
    fn new(limits: &Limits) -> Self {
        let resident = most_bytes(limits);
        tracing::info!(bytes = resident, "memory that watermarks are of");
        Self {
            resident,
            address_space: getrlimit(Resource::As).current.unwrap_or(u64::MAX),
            percent: [
                limits.memory_drain_percent,
                limits.memory_shed_percent,
                limits.memory_refuse_percent,
            ],
        }
    }

    fn level(&self, size: u64, resident: u64) -> u8 {
        let percent = |used: u64, limit: u64| used.saturating_mul(100) / limit.max(1);
        let used = percent(resident, self.resident).max(percent(size, self.address_space));
        let reached = |mark: &u64| *mark > 0 && used >= *mark;
        self.percent
            .iter()
            .rposition(reached)
            .map_or(0, |last| last as u8 + 1)
    }
}

/// What the process may use: as the user says, else as the system does.
pub(crate) fn most_bytes(limits: &Limits) -> u64 {
    match limits.memory_bytes {
        0 => machine_bytes()
            .into_iter()
            .chain(group_bytes(Path::new("/sys/fs/cgroup"), &own_groups()))
            .min()
            .unwrap_or(u64::MAX),
        given => given,
    }
}

fn look_until(ended: &Receiver<()>, marks: &Mutex<Marks>, memory: &Memory, counters: &Counters) {
    let file = match File::open("/proc/self/status") {
        Ok(file) => file,
        Err(error) => return tracing::warn!(%error, "memory is not watched"),
    };
    let mut surplus = Surplus::new();
    while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        let Some((size, resident)) = sizes(&file) else {
            continue;
        };
        let level = marks.lock().level(size, resident);
        let before = memory.0.swap(level, Ordering::Relaxed);
        if level > before {
            tracing::warn!(level, resident_bytes = resident, "memory is short");
        } else if level < before {
            tracing::info!(level, resident_bytes = resident, "memory is free again");
        }
        let open = counters.connections_open.get();
        if surplus.is_due(Instant::now(), open, resident, level >= DRAIN) {
            surplus::give_back();
        }
    }
}

/// Total and resident bytes. The file is read anew at each look, without opening it: descriptors may be used up.
/// `statm` would be shorter, but counts pages, and asking for their size does not work under valgrind.
fn sizes(file: &File) -> Option<(u64, u64)> {
    let mut text = [0; 4096];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    Some((bytes_of(text, "VmSize:")?, bytes_of(text, "VmRSS:")?))
}

fn machine_bytes() -> Option<u64> {
    bytes_of(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// The value of a line such as `VmRSS:  1234 kB`.
fn bytes_of(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn own_groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// The limits of the groups that the process is in, and of those above them: each holds for all below.
fn group_bytes(root: &Path, groups: &str) -> Vec<u64> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut folder: PathBuf = root.join(path.trim_start_matches('/'));
        loop {
            // `max` is no number, and no limit.
            if let Ok(text) = fs::read_to_string(folder.join(file))
                && let Ok(bytes) = text.trim().parse()
            {
                found.push(bytes);
            }
            if folder == root || !folder.pop() {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_watermark_holds_from_its_percentage_on() {
        let marks = Marks {
            resident: 1000,
            address_space: u64::MAX,
            percent: [85, 92, 97],
        };
        for (resident, level) in [
            (0, 0),
            (849, 0),
            (850, 1),
            (920, 2),
            (969, 2),
            (970, 3),
            (2000, 3),
        ] {
            assert_eq!(marks.level(0, resident), level, "{resident}");
        }
        let marks = Marks {
            resident: u64::MAX,
            address_space: 1000,
            ..marks
        };
        assert_eq!(marks.level(930, 0), 2);
        let marks = Marks {
            percent: [0, 50, 0],
            ..marks
        };
        assert_eq!([marks.level(0, 0), marks.level(999, 0)], [0, 2]);
    }

    #[test]
    fn the_least_limit_of_the_groups_above_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(folder.path().join("a/memory.max"), "4096\n").unwrap();
        assert_eq!(group_bytes(folder.path(), "0::/a/b\n"), [4096]);
        let old = folder.path().join("memory/x");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("memory.limit_in_bytes"), "8192\n").unwrap();
        assert_eq!(
            group_bytes(folder.path(), "3:cpu:/x\n5:memory:/x\n"),
            [8192]
        );
        assert!(group_bytes(folder.path(), "nonsense").is_empty());
    }

    #[test]
    fn this_process_has_memory_and_a_limit() {
        let file = File::open("/proc/self/status").unwrap();
        let (size, resident) = sizes(&file).unwrap();
        assert!(size >= resident && resident > 0);
        assert!(machine_bytes().unwrap() > resident);
    }
}
