//! Log lines of the native processes: `LEVEL time role -- message fields`, one file a process.
//!
//! A file is turned over once, when a process starts and finds it large. The level comes from `EAGLERAY_LOG`.

use std::{
    fmt,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
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

/// Opens `logs/ROLE.log` for appending.
pub(crate) fn open_log(log_directory: &Path, role: &str) -> io::Result<File> {
    let path = log_directory.join(format!("{role}.log"));
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES) {
        fs::rename(&path, log_directory.join(format!("{role}.log.1")))?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Logs to `file`, and to the terminal too if asked.
pub(crate) fn start(role: &'static str, file: File, terminal: bool) {
    if terminal {
        install(role, file.and(io::stderr));
    } else {
        install(role, file);
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
