//! Log lines of the native processes: `LEVEL time role -- message fields`, one file a process.
//!
//! A file that has grown large is turned over, and one that somebody removed is made again: both are looked for when a
//! process starts, and at most once a second when it writes. The level comes from `EAGLERAY_LOG`.

use std::{
    fmt,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::Writer,
        time::{FormatTime, SystemTime},
        writer::MakeWriterExt,
    },
    registry::LookupSpan,
};

const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// `logs/ROLE.log`, open for appending.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    looked: Instant,
}

impl LogFile {
    /// Another descriptor of the file, for what a child process writes past us.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    pub(crate) fn try_clone_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Opens the file anew if it was removed, or has grown large.
    fn look(&mut self) {
        self.looked = Instant::now();
        let here = self.file.metadata();
        let there = fs::symlink_metadata(&self.path);
        let fine = here.is_ok_and(|here| {
            here.len() <= MAX_LOG_BYTES
                && there.is_ok_and(|there| (here.ino(), here.dev()) == (there.ino(), there.dev()))
        });
        // Where that fails, the lines go where they went.
        if !fine && let Ok(file) = open(&self.path) {
            self.file = file;
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.looked.elapsed() >= LOOK_AFTER {
            self.look();
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens `logs/ROLE.log` for appending.
pub(crate) fn open_log(log_directory: &Path, role: &str) -> io::Result<LogFile> {
    let path = log_directory.join(format!("{role}.log"));
    Ok(LogFile {
        file: open(&path)?,
        path,
        looked: Instant::now(),
    })
}

fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Logs to `file`, and to the terminal too if asked.
pub(crate) fn start(role: &'static str, file: LogFile, terminal: bool) {
    if terminal {
        install(role, Mutex::new(file).and(io::stderr));
    } else {
        install(role, Mutex::new(file));
    }
}

fn install<W: for<'a> MakeWriter<'a> + Send + Sync + 'static>(role: &'static str, writer: W) {
    let filter =
        EnvFilter::try_from_env(crate::settings::LOG).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .event_format(Lines { role })
        .with_writer(writer)
        .finish();
    // It fails only when one is set already, which then stays.
    drop(tracing::subscriber::set_global_default(subscriber));
}

struct Lines {
    role: &'static str,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "{} ", event.metadata().level())?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, " {} -- ", self.role)?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_removed_is_made_again_and_a_large_one_is_turned_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.log");
        let mut log = open_log(directory.path(), "node").unwrap();
        fs::remove_file(&path).unwrap();
        log.write_all(b"lost\n").unwrap();
        log.looked = Instant::now().checked_sub(LOOK_AFTER).unwrap();
        log.write_all(b"kept\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept\n");

        log.file.set_len(MAX_LOG_BYTES + 1).unwrap();
        log.look();
        log.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        let old = fs::metadata(directory.path().join("node.log.1")).unwrap();
        assert_eq!(old.len(), MAX_LOG_BYTES + 1);
        assert_eq!(old.mode() & 0o777, 0o600);

        fs::remove_dir_all(directory.path()).unwrap();
        log.look();
        log.write_all(b"nowhere\n").unwrap();
    }
}
