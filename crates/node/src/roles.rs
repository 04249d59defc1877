//! The processes that a node starts: each takes its inherited descriptors and hands over to its own crate.

use std::{
    collections::BTreeMap,
    io,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::ExitCode,
};

use eagleray_logs::{Indexer, Writer};
use eagleray_metrics::{Sheet, registry};
use eagleray_supervisor::{
    environment::{CONTROL_FD, LISTENERS, set},
    listeners,
};
use eagleray_types::NodeId;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    inherited, rest,
    settings::{self, ChildOptions, ProxyOptions},
    telemetry,
};

/// What a write gets that makes a file larger than the process may (`ulimit -f`). Not obeyed it is an error of that
/// write, as a full disk is.
const FILE_TOO_LARGE: i32 = 25;

pub(crate) fn controller() -> Result<ExitCode, String> {
    take_no_signals(&[FILE_TOO_LARGE])?;
    let Begun {
        options,
        listeners: [listener],
        control,
        logs,
    } = begin("controller", [listeners::CONTROLLER])?;
    let listener = listener.ok_or("the controller was given no socket to listen on")?;
    let node = NodeId::parse(&options.node_id)
        .ok_or_else(|| format!("{:?} is no id of a node", options.node_id))?;
    let api = rest::Rest::new(&options);
    // Without it searches take longer. It ends with this function.
    let _indexer = Indexer::start(options.logs.directory.clone())
        .inspect_err(|error| tracing::warn!(%error, "logs are searched without an index"));
    let options = eagleray_controller::Options {
        node,
        checkpoint_path: options.checkpoint,
        blob_directory: options.blob_directory,
        log_directory: options.logs.directory,
        run_directory: options.run_directory,
        http: options.http_options,
        // The Python that this executable was installed for has the package.
        python: eagleray_cli::interpreter()
            .map_or_else(|_| "python3".to_owned(), |path| path.display().to_string()),
    };
    let result = eagleray_controller::run(
        UnixListener::from(listener),
        UnixStream::from(control),
        options,
        |calls| api.start(calls),
    );
    Ok(end(&logs, result))
}

pub(crate) fn proxy() -> Result<ExitCode, String> {
    leave_signals_to_the_node()?;
    eagleray_proxy::keep_freed_memory();
    let Begun {
        options,
        listeners: [http],
        control,
        logs,
    } = begin("proxy", [listeners::HTTP])?;
    let proxy = match options.proxy.check() {
        Ok(proxy) => proxy,
        Err(problems) => {
            return Ok(end(&logs, Err(io::Error::other(problems.join("; ")))));
        }
    };
    let read = |text: &str| {
        let config = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let options = ProxyOptions::of_config(&config);
        options.check().map_err(|problems| problems.join("; "))
    };
    let proxy = eagleray_proxy::Options {
        access_log: Some(logs.open(&options.logs.path("access"))),
        access_log_encoding: options.logs.encoding,
        metrics: Some(eagleray_proxy::MetricsOptions {
            directory: options.run_directory.join(eagleray_metrics::DIRECTORY),
            node_id: options.node_id,
            node_address: "127.0.0.1".to_owned(),
        }),
        ..proxy
    };
    let result = eagleray_proxy::run(
        http.map(TcpListener::from),
        UnixStream::from(control),
        proxy,
        &read,
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
/// says what is to be done, in its order: a proxy that obeyed them itself would lose
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
struct Begun<const N: usize> {
    options: ChildOptions,
    /// In the order of their names, as far as the node has them: one without HTTP does not.
    listeners: [Option<OwnedFd>; N],
    control: OwnedFd,
    logs: Writer,
}

fn begin<const N: usize>(role: &'static str, names: [&str; N]) -> Result<Begun<N>, String> {
    // The descriptors first: nothing may be opened under their numbers before.
    let mut given = inherited_listeners()?;
    let listeners = names.map(|name| given.remove(name));
    if let Some(name) = given.keys().next() {
        return Err(format!("this {role} knows no listener named {name}"));
    }
    let control = inherited::from_environment(CONTROL_FD).map_err(|error| error.to_string())?;
    let options: ChildOptions = settings::own_options()?;
    let logs = telemetry::start(role, role, &options.logs).map_err(|error| error.to_string())?;
    count_start(role, &options);
    Ok(Begun {
        options,
        listeners,
        control,
        logs,
    })
}

/// Counts this process, for good: the file stays when it ends, until the node has taken over what it says.
fn count_start(role: &'static str, options: &ChildOptions) {
    let directory = options.run_directory.join(eagleray_metrics::DIRECTORY);
    match Sheet::create(&directory, role) {
        Ok(sheet) => registry::PROCESS_STARTS
            .family(&sheet)
            .count(&[role])
            .add(1),
        Err(error) => tracing::warn!(%error, "the start of this process is not counted"),
    }
}

/// Those that the node gave to this process, by name.
fn inherited_listeners() -> Result<BTreeMap<String, OwnedFd>, String> {
    let given = listeners::parse(&set(LISTENERS).unwrap_or_default())?;
    let taken = given.into_iter().map(|(name, number)| {
        let socket =
            inherited::take(number).map_err(|error| format!("listener {name}: {error}"))?;
        Ok((name, socket))
    });
    taken.collect()
}
