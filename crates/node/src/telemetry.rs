//! Log lines of the native processes: `LEVEL time role -- message fields`, or the same as JSON, one file a process.
//!
//! They go through the process's one [`Writer`], so no log line waits for the disk, and none can fail: a process that
//! logs on a full disk goes on. Panics are log lines too. What the machine itself says on standard error as it ends a
//! process (an allocation that failed, a stack that overflowed) lands in the same file. The level comes from
//! `EAGLERAY_LOG`.

use std::{
    fmt,
    io::{self, Write},
    panic,
    time::Duration,
};

use eagleray_logs::{Encoding, Log, Writer as LogWriter, push_json_string};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use crate::settings::{self, LogOptions};

/// The last lines of a process reach the disk within this time, or are lost.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// Starts to log to the file of `name`, as `role`.
///
/// # Errors
/// When the process can have no more threads.
pub(crate) fn start(role: &'static str, name: &str, options: &LogOptions) -> io::Result<LogWriter> {
    let writer = LogWriter::start(options.limits)?;
    let path = options.path(name);
    let (file, terminal) = if options.terminal {
        // A writer of its own: a terminal may stand still.
        let terminal = LogWriter::start(options.limits)?.terminal();
        (writer.open(&path), Some(terminal))
    } else {
        (writer.open_with_stderr(&path), None)
    };
    install(role, options.encoding, Lines { file, terminal });
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        tracing::error!(
            "thread {} {panic}{trace}",
            thread.name().unwrap_or("without a name")
        );
    }));
    Ok(writer)
}

/// Waits a moment for the last lines.
pub(crate) fn finish(writer: &LogWriter) {
    writer.flush(LAST_LINES_WITHIN);
}

fn install(role: &'static str, encoding: Encoding, lines: Lines) {
    let filter = EnvFilter::try_from_env(settings::LOG).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        // It would print them, and printing can fail and block.
        .log_internal_errors(false)
        .event_format(Format { role, encoding })
        .with_writer(lines)
        .finish();
    // It fails only when one is set already, which then stays.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Gives each event to the logs.
struct Lines {
    file: Log,
    terminal: Option<Log>,
}

struct Line<'a>(&'a Lines);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl Write for Line<'_> {
    /// Takes an event whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if let Some(terminal) = &self.0.terminal {
            terminal.write(event.to_vec(), 1);
        }
        self.0.file.write(event.to_vec(), 1);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Format {
    role: &'static str,
    encoding: Encoding,
}

impl<S, N> FormatEvent<S, N> for Format
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
        let level = event.metadata().level();
        if self.encoding == Encoding::Text {
            write!(writer, "{level} ")?;
            SystemTime.format_time(&mut writer)?;
            write!(writer, " {} -- ", self.role)?;
            context.format_fields(writer.by_ref(), event)?;
            return writeln!(writer);
        }
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        write!(writer, "{{\"levelname\":\"{level}\",\"asctime\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(
            writer,
            "\",\"component_name\":\"{}\",\"component_id\":\"{}\",\"message\":",
            self.role,
            std::process::id()
        )?;
        let mut quoted = Vec::with_capacity(message.len() + 2);
        push_json_string(&mut quoted, &message);
        writer.write_str(&String::from_utf8_lossy(&quoted))?;
        writeln!(writer, "}}")
    }
}
