//! Other settings, carried out: every thread takes them before the node hears that they hold. And the looks at files.

use std::sync::Arc;

use eagleray_types::control::{Empty, proxy_event};
use tokio::{
    net::UnixStream,
    task::{JoinHandle, spawn_blocking},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{Error, Threads, send};
use crate::{
    configuring::{Configuring, LOOK_EVERY, Step},
    thread::Order,
    tls::{Pem, TlsError, TlsOptions},
};

/// Tells the threads, then the node.
pub(super) async fn take(
    threads: &mut Threads,
    control: &mut UnixStream,
    step: Step,
) -> Result<(), Error> {
    if let Some(settings) = step.settings {
        let limits = &settings.limits;
        threads.shared.gate.configure(limits);
        threads.watch.configure(limits);
        let queued = settings.queued_bytes();
        threads.shared.router_limits.set_max_queued_bytes(queued);
        threads.order(Order::Configure(Arc::new(settings))).await?;
        tracing::info!("other http_options hold from now on");
    }
    let Some(said) = step.said else { return Ok(()) };
    if !said.problem.is_empty() {
        tracing::warn!("what was in force stays: {}", said.problem);
    }
    if !said.renewed.is_empty() {
        tracing::info!("{}", said.renewed);
    }
    send(control, proxy_event::Body::Configured(said)).await
}

/// Begins to accept connections, if they can be served.
pub(super) async fn accept(
    threads: &mut Threads,
    control: &mut UnixStream,
    configuring: &mut Configuring<'_>,
) -> Result<(), Error> {
    if let Some(problem) = configuring.unusable() {
        return Err(problem.into());
    }
    if let Some(said) = configuring.introduce() {
        send(control, proxy_event::Body::Configured(said)).await?;
    }
    threads.order(Order::Accept).await?;
    send(control, proxy_event::Body::Ready(Empty {})).await
}

type Look = (TlsOptions, Result<Pem, TlsError>);

/// Looks at the files of TLS, one at a time: on a thread of their own, since a disk may not answer.
#[derive(Debug)]
pub(super) struct Looks {
    interval: Interval,
    running: Option<JoinHandle<Look>>,
}

impl Looks {
    pub(super) fn new() -> Self {
        let mut interval = interval(LOOK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once, and the files have just been read.
        interval.reset();
        Self {
            interval,
            running: None,
        }
    }

    /// What the next look shows; never without files.
    pub(super) async fn next(&mut self, files: Option<&TlsOptions>) -> Look {
        loop {
            if let Some(running) = &mut self.running {
                let looked = running.await;
                self.running = None;
                match looked {
                    Ok(look) => return look,
                    Err(error) => tracing::error!(%error, "a look at the files of TLS failed"),
                }
            }
            self.interval.tick().await;
            if let Some(files) = files.cloned() {
                self.running = Some(spawn_blocking(move || {
                    let read = Pem::read(&files);
                    (files, read)
                }));
            }
        }
    }
}
