//! What a node needs of its machine.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use eagleray_supervisor::{run_directory, state_directory::Bases};
use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open, statvfs},
    process::{PidfdFlags, Resource, getpid, getrlimit, pidfd_open},
};

use super::Check;
use crate::{python::interpreter, socket::default_node_name};

/// A connection, a log, a replica each take some.
const FEW_FILES: u64 = 4096;
const LITTLE_SPACE: u64 = 512 << 20;
/// Each deploy waits for a few.
const SLOW: Duration = Duration::from_millis(50);

pub(super) fn checks() -> Vec<Check> {
    vec![kernel(), files(), python(), run_root(), space(), disk()]
}

fn kernel() -> Check {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let memory = || -> rustix::io::Result<()> {
        let memory = memfd_create(
            "eagleray-doctor",
            MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC,
        )?;
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW)
    };
    let process = || pidfd_open(getpid(), PidfdFlags::empty()).map(drop);
    match memory().and_then(|()| process()) {
        Ok(()) => Check::passed(
            "kernel",
            format!("{release}, with sealed memory and process descriptors"),
        ),
        Err(error) => Check::failed(
            "kernel",
            format!("{release} lacks sealed memory or process descriptors: {error}"),
            "Linux 5.4 or later is needed, and a container must allow memfd_create and pidfd_open",
        ),
    }
}

fn files() -> Check {
    match getrlimit(Resource::Nofile).current {
        Some(most) if most < FEW_FILES => Check::warning(
            "files",
            format!("{most} open files at most"),
            "each connection takes one: ulimit -n 65536, or LimitNOFILE= of the service",
        ),
        Some(most) => Check::passed("files", format!("{most} open files at most")),
        None => Check::passed("files", "as many open files as there are"),
    }
}

fn python() -> Check {
    match interpreter() {
        Ok(python) => Check::passed("python", python.display().to_string()),
        Err(message) => Check::failed("python", message, ""),
    }
}

/// The nearest directory that is there.
fn nearest(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| path.is_dir());
    found.unwrap_or(Path::new("/")).to_owned()
}

fn run_root() -> Check {
    let root = run_directory::root();
    let nearest = nearest(&root);
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match rustix::fs::access(&nearest, access) {
        Ok(()) => Check::passed("run_directory", root.display().to_string()),
        Err(error) => Check::failed(
            "run_directory",
            format!(
                "{} cannot be made: {}: {error}",
                root.display(),
                nearest.display()
            ),
            "set XDG_RUNTIME_DIR to a directory of yours",
        ),
    }
}

fn state() -> PathBuf {
    nearest(&Bases::from_environment().logs_of_resident(&default_node_name()))
}

fn space() -> Check {
    let state = state();
    let free = match statvfs(&state) {
        Ok(found) => found.f_bavail * found.f_frsize,
        Err(error) => return Check::warning("space", format!("{}: {error}", state.display()), ""),
    };
    let text = format!("{} MiB free at {}", free >> 20, state.display());
    if free < LITTLE_SPACE {
        return Check::warning(
            "space",
            text,
            "logs and the code of revisions go there; XDG_STATE_HOME says where",
        );
    }
    Check::passed("space", text)
}

/// How long the disk takes to keep something, which each deploy waits for. The file has no name and is gone at once.
fn disk() -> Check {
    let state = state();
    let probe = || -> std::io::Result<Duration> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = open(&state, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = std::fs::File::from(file);
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        Ok(began.elapsed())
    };
    match probe() {
        Ok(took) if took > SLOW => Check::warning(
            "disk",
            format!(
                "{} takes {} ms to keep a page",
                state.display(),
                took.as_millis()
            ),
            "deploys wait for it; XDG_STATE_HOME says where the state is",
        ),
        Ok(took) => Check::passed(
            "disk",
            format!(
                "{} keeps a page in {:.1} ms",
                state.display(),
                took.as_secs_f64() * 1e3
            ),
        ),
        // Not every file system can make a file without a name.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            Check::passed("disk", format!("{} (not timed)", state.display()))
        }
        Err(error) => Check::failed(
            "disk",
            format!("{} cannot be written to: {error}", state.display()),
            "set XDG_STATE_HOME to a directory of yours with space in it",
        ),
    }
}
