//! The processes that a node starts: each takes its inherited descriptors and hands over to its own crate.

use std::{
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    inherited,
    settings::{self, ChildOptions},
    telemetry,
};

pub(crate) fn controller() -> Result<(), String> {
    let (options, listener, node) = begin("controller")?;
    let listener = listener.ok_or_else(|| format!("{} is not set", settings::LISTEN_FD))?;
    let options = eagleray_controller::Options {
        checkpoint_path: options.checkpoint,
        blob_directory: options.blob_directory,
        run_directory: options.run_directory,
        python: "python3".to_owned(),
    };
    eagleray_controller::run(
        UnixListener::from(listener),
        UnixStream::from(node),
        options,
    )
    .map_err(|error| error.to_string())
}

pub(crate) fn proxy() -> Result<(), String> {
    leave_signals_to_the_node()?;
    let (options, listener, control) = begin("proxy")?;
    let access_log = options.log_directory.join("access.log");
    let options = eagleray_proxy::Options {
        access_log: Some(access_log),
        ..options
            .proxy
            .check()
            .map_err(|problems| problems.join("; "))?
    };
    eagleray_proxy::run(
        listener.map(TcpListener::from),
        UnixStream::from(control),
        options,
    )
    .map_err(|error| error.to_string())
}

/// Makes the signals by which a whole group of processes is told to end do nothing here. The node hears them too, and
/// says what is to be done, in the order of [`Phase`](crate::phase): a proxy that obeyed them itself would lose
/// every request in it.
pub(crate) fn leave_signals_to_the_node() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| format!("cannot receive signals: {error}"))?;
    let _entered = runtime.enter();
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ] {
        // The handler stays for the life of the process, with nobody who listens.
        drop(signal(kind).map_err(|error| format!("cannot receive signals: {error}"))?);
    }
    Ok(())
}

/// The options, the listener if there is one (a proxy without HTTP has none), the connection to the node.
type Begun = (
    ChildOptions,
    Option<std::os::fd::OwnedFd>,
    std::os::fd::OwnedFd,
);

fn begin(role: &'static str) -> Result<Begun, String> {
    // The descriptors first: nothing may be opened under their numbers before.
    let listener = settings::set(settings::LISTEN_FD)
        .map(|_| inherited::from_environment(settings::LISTEN_FD))
        .transpose()
        .map_err(|error| error.to_string())?;
    let control =
        inherited::from_environment(settings::CONTROL_FD).map_err(|error| error.to_string())?;
    let options: ChildOptions = settings::own_options()?;
    let log =
        telemetry::open_log(&options.log_directory, role).map_err(|error| error.to_string())?;
    telemetry::start(role, log, options.foreground);
    Ok((options, listener, control))
}
