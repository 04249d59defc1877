//! The processes that a node starts: each takes its inherited descriptors and hands over to its own crate.

use std::{
    io,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::ExitCode,
};

use eagleray_logs::Writer;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    inherited,
    settings::{self, ChildOptions},
    telemetry,
};

/// What a write gets that makes a file larger than the process may (`ulimit -f`). Not obeyed it is an error of that
/// write, as a full disk is.
const FILE_TOO_LARGE: i32 = 25;

pub(crate) fn controller() -> Result<ExitCode, String> {
    take_no_signals(&[FILE_TOO_LARGE])?;
    let Begun {
        options,
        listener,
        control,
        logs,
    } = begin("controller")?;
    let listener = listener.ok_or_else(|| format!("{} is not set", settings::LISTEN_FD))?;
    let options = eagleray_controller::Options {
        checkpoint_path: options.checkpoint,
        blob_directory: options.blob_directory,
        log_directory: options.logs.directory,
        run_directory: options.run_directory,
        python: "python3".to_owned(),
    };
    let result = eagleray_controller::run(
        UnixListener::from(listener),
        UnixStream::from(control),
        options,
    );
    Ok(end(&logs, result))
}

pub(crate) fn proxy() -> Result<ExitCode, String> {
    leave_signals_to_the_node()?;
    let Begun {
        options,
        listener,
        control,
        logs,
    } = begin("proxy")?;
    let proxy = match options.proxy.check() {
        Ok(proxy) => proxy,
        Err(problems) => {
            return Ok(end(&logs, Err(io::Error::other(problems.join("; ")))));
        }
    };
    let proxy = eagleray_proxy::Options {
        access_log: Some(logs.open(&options.logs.path("access"))),
        access_log_encoding: options.logs.encoding,
        ..proxy
    };
    let result = eagleray_proxy::run(
        listener.map(TcpListener::from),
        UnixStream::from(control),
        proxy,
    );
    Ok(end(&logs, result))
}

/// Logs why it ended, and waits for the last lines. The node shows the end of the log.
fn end<E: std::error::Error>(logs: &Writer, result: Result<(), E>) -> ExitCode {
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    };
    telemetry::finish(logs);
    code
}

/// Makes the signals by which a whole group of processes is told to end do nothing here. The node hears them too, and
/// says what is to be done, in the order of [`Phase`](crate::phase): a proxy that obeyed them itself would lose
/// every request in it.
pub(crate) fn leave_signals_to_the_node() -> Result<(), String> {
    let ends = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let [terminate, interrupt, hangup] = ends.map(|kind| kind.as_raw_value());
    take_no_signals(&[terminate, interrupt, hangup, FILE_TOO_LARGE])
}

/// As [`leave_signals_to_the_node`], for the node itself: only that no write ends it.
pub(crate) fn survive_large_files() -> Result<(), String> {
    take_no_signals(&[FILE_TOO_LARGE])
}

fn take_no_signals(numbers: &[i32]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| format!("cannot receive signals: {error}"))?;
    let _entered = runtime.enter();
    for number in numbers {
        // The handler stays for the life of the process, with nobody who listens.
        let kind = SignalKind::from_raw(*number);
        drop(signal(kind).map_err(|error| format!("cannot receive signals: {error}"))?);
    }
    Ok(())
}

/// What a process of the node begins with.
struct Begun {
    options: ChildOptions,
    /// A proxy without HTTP has none.
    listener: Option<OwnedFd>,
    control: OwnedFd,
    logs: Writer,
}

fn begin(role: &'static str) -> Result<Begun, String> {
    // The descriptors first: nothing may be opened under their numbers before.
    let listener = settings::set(settings::LISTEN_FD)
        .map(|_| inherited::from_environment(settings::LISTEN_FD))
        .transpose()
        .map_err(|error| error.to_string())?;
    let control =
        inherited::from_environment(settings::CONTROL_FD).map_err(|error| error.to_string())?;
    let options: ChildOptions = settings::own_options()?;
    let logs = telemetry::start(role, role, &options.logs).map_err(|error| error.to_string())?;
    Ok(Begun {
        options,
        listener,
        control,
        logs,
    })
}
