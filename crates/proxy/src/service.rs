//! The proxy as a process: its threads, and the control connection to the node that feeds them.
//!
//! Updates go to every thread in the order in which they came; `Applied` is answered when all have taken one, so
//! whoever waits for it knows that no thread routes by older targets. When the node is gone the proxy ends too:
//! the listening socket is the node's, and so is the duty to start the next proxy.

mod configure;

use std::{io, os::unix::net::UnixStream, sync::Arc, thread::JoinHandle, time::Duration};

use bytes::BytesMut;
use eagleray_router::{core::Limits as RouterLimits, service::Applied};
use eagleray_types::control::{
    self, AppliedUpdate, Empty, ProxyCommand, ProxyCounters, ProxyEvent, TargetUpdate, Unreachable,
    proxy_command, proxy_event,
};
use eagleray_wire::{Decoder, Frame, Kind};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use self::configure::Looks;
use crate::{
    configuring::{Configuring, ReadOptions},
    counters::Counters,
    gate::Gate,
    loads::Loads,
    memory::{Memory, Watch},
    options::Options,
    shard::Shared,
    tally::Tallies,
    thread::{self, Done, Order, Start},
    tls::TlsError,
};

/// Updates that may wait at a thread; more wait in the control socket.
const ORDERS: usize = 16;
/// Replicas that cannot be reached and of which the node has not heard; threads say again what finds no room.
const REPORTS: usize = 64;
/// How often the node hears of requests that are counted.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// Why a proxy ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("a thread of the proxy ended before its time: {0}")]
    ThreadEnded(String),
    #[error("the control connection failed: {0}")]
    Control(#[from] io::Error),
    #[error("the node sent what cannot be read: {0}")]
    Protocol(String),
}

/// Serves the listener until the node says `Drain` and the last request is answered, or the node is gone. Without a
/// listener there is no HTTP: no client can come, and the rest goes on as ever. `read` is for settings that come later.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the proxy owns its sockets and options until it ends"
)]
pub fn run(
    listener: Option<std::net::TcpListener>,
    control: UnixStream,
    options: Options,
    read: &ReadOptions<'_>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Thread)?;
    let mut configuring = Configuring::new(&options, read);
    let mut threads = Threads::start(listener.as_ref(), &options, &configuring)?;
    // The threads have their own, and close them when they drain: then new clients are refused, not left waiting.
    drop(listener);
    let result = match runtime.block_on(converse(control, &mut threads, &mut configuring)) {
        // Noticed while something was said to it.
        Err(Error::Control(error)) if is_hang_up(error.kind()) => {
            tracing::info!("the node is gone, so the proxy ends");
            Ok(())
        }
        other => other,
    };
    // A look at a file that the disk does not give may last for ever.
    runtime.shutdown_background();
    // Without orders, threads that still run end at once.
    threads.orders.clear();
    drop(threads.done);
    for thread in threads.running {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a thread of the proxy failed"),
            Err(_panic) => tracing::error!("a thread of the proxy panicked"),
        }
    }
    result
}

struct Threads {
    running: Vec<JoinHandle<io::Result<()>>>,
    orders: Vec<mpsc::Sender<Order>>,
    done: mpsc::Receiver<Done>,
    unreachable: mpsc::Receiver<Unreachable>,
    counters: Arc<Counters>,
    tallies: Arc<Tallies>,
    loads: Arc<Loads>,
    shared: Shared,
    watch: Watch,
}

impl Threads {
    fn start(
        listener: Option<&std::net::TcpListener>,
        options: &Options,
        configuring: &Configuring<'_>,
    ) -> Result<Self, Error> {
        let count = options.threads.get();
        let counters = Arc::new(Counters::default());
        let tallies: Arc<Tallies> = Arc::default();
        let loads = Arc::new(Loads::new(count));
        let memory = Arc::new(Memory::default());
        let watch = Watch::start(&options.limits, Arc::clone(&memory), Arc::clone(&counters))
            .map_err(Error::Thread)?;
        let settings = configuring.settings();
        let shared = Shared {
            router_limits: Arc::new(RouterLimits::with_max_queued_bytes(settings.queued_bytes())),
            gate: Arc::new(Gate::new(
                &options.limits,
                Arc::clone(&counters),
                Arc::clone(&memory),
            )),
            abandoned_by_deployment: Arc::default(),
            counters: Arc::clone(&counters),
            tallies: Arc::clone(&tallies),
            loads: Arc::clone(&loads),
            memory,
        };
        let (done_sender, done) = mpsc::channel(count * 2);
        let (unreachable_sender, unreachable) = mpsc::channel(REPORTS);
        let mut running = Vec::with_capacity(count);
        let mut orders = Vec::with_capacity(count);
        for index in 0..count {
            let (sender, receiver) = mpsc::channel(ORDERS);
            let start = Start {
                index,
                listener: listener
                    .map(std::net::TcpListener::try_clone)
                    .transpose()
                    .map_err(Error::Thread)?,
                options: options.clone(),
                seed: fastrand::u64(..),
                settings: settings.clone(),
                shared: shared.clone(),
                orders: receiver,
                done: done_sender.clone(),
                unreachable: unreachable_sender.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("eagleray-proxy-{index}"))
                .spawn(move || thread::run(start))
                .map_err(Error::Thread)?;
            running.push(thread);
            orders.push(sender);
        }
        Ok(Self {
            running,
            orders,
            done,
            unreachable,
            counters,
            tallies,
            loads,
            shared,
            watch,
        })
    }

    /// Gives an order to every thread and collects what each has to say to it.
    async fn order(&mut self, order: Order) -> Result<Vec<Done>, Error> {
        for sender in &self.orders {
            sender
                .send(order.clone())
                .await
                .map_err(|_| thread_ended())?;
        }
        self.collect().await
    }

    async fn collect(&mut self) -> Result<Vec<Done>, Error> {
        let mut all = Vec::with_capacity(self.orders.len());
        while all.len() < self.orders.len() {
            all.push(self.done.recv().await.ok_or_else(thread_ended)?);
        }
        if all.contains(&Done::Failed) {
            return Err(thread_ended());
        }
        Ok(all)
    }
}

fn thread_ended() -> Error {
    Error::ThreadEnded("its log line says why".to_owned())
}

/// A node that is gone is noticed by who reads or by who writes, whoever is first.
const fn is_hang_up(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

async fn converse(
    control: UnixStream,
    threads: &mut Threads,
    configuring: &mut Configuring<'_>,
) -> Result<(), Error> {
    control.set_nonblocking(true)?;
    let mut control = tokio::net::UnixStream::from_std(control)?;
    threads.collect().await?;
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    let mut report = tokio::time::interval(REPORT_EVERY);
    report.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks = Looks::new();
    loop {
        while let Some(frame) = Decoder::control()
            .decode(&mut buffer)
            .map_err(|error| Error::Protocol(error.to_string()))?
        {
            if frame.header.kind != Kind::Control {
                continue;
            }
            let command = ProxyCommand::decode(frame.payload)
                .map_err(|error| Error::Protocol(error.to_string()))?;
            match command.body {
                Some(proxy_command::Body::Update(bytes)) => {
                    let update = TargetUpdate::decode(&*bytes)
                        .map_err(|error| Error::Protocol(error.to_string()))?;
                    update_all(threads, &mut control, update).await?;
                }
                Some(proxy_command::Body::Configure(told)) => {
                    let step = configuring.configure(&told);
                    configure::take(threads, &mut control, step).await?;
                }
                Some(proxy_command::Body::Accept(Empty {})) => {
                    configure::accept(threads, &mut control, configuring).await?;
                }
                Some(proxy_command::Body::LookWhetherItTurns(Empty {})) => {
                    threads.order(Order::Turn).await?;
                    send(&mut control, proxy_event::Body::Turns(Empty {})).await?;
                }
                Some(proxy_command::Body::Drain(Empty {})) => {
                    return drain(threads, &mut control).await;
                }
                Some(proxy_command::Body::Count(Empty {})) => {
                    let counters = threads.counters.all();
                    let counted = ProxyCounters {
                        pid: std::process::id(),
                        counters: counters
                            .map(|(name, number)| (name.to_owned(), number))
                            .collect(),
                    };
                    send(&mut control, proxy_event::Body::Counted(counted)).await?;
                }
                // A command of a later release: nothing that we could do.
                None => tracing::warn!("the node sent a command that this release does not know"),
            }
        }
        let read = tokio::select! {
            // A thread that ended first: what the node says cannot be carried out any more.
            biased;
            _failed = threads.done.recv() => return Err(thread_ended()),
            Some(report) = threads.unreachable.recv() => {
                send(&mut control, proxy_event::Body::Unreachable(report)).await?;
                continue;
            }
            () = threads.loads.news() => {
                tell_loads(&threads.loads, &mut control).await?;
                continue;
            }
            _tick = report.tick(), if !threads.tallies.is_empty() => {
                tell_tallies(&threads.tallies, &mut control).await?;
                continue;
            }
            (of, found) = looks.next(configuring.files()) => {
                configure::take(threads, &mut control, configuring.looked(&of, found)).await?;
                continue;
            }
            read = control.read_buf(&mut buffer) => read?,
        };
        if read == 0 {
            tracing::info!("the node is gone, so the proxy ends");
            return Ok(());
        }
    }
}

async fn update_all(
    threads: &mut Threads,
    control: &mut tokio::net::UnixStream,
    update: TargetUpdate,
) -> Result<(), Error> {
    let applied = AppliedUpdate {
        epoch: update.epoch,
        number: update.number,
    };
    if update.snapshot {
        // Of another controller, perhaps: the first that one says is a snapshot.
        threads.tallies.tell_anew();
    }
    let done = threads.order(Order::Update(Arc::new(update))).await?;
    // Every thread has seen the same updates, so all say the same.
    if done.contains(&Done::Update(Applied::Gap)) {
        send(control, proxy_event::Body::SnapshotWanted(Empty {})).await
    } else if done.contains(&Done::Update(Applied::Stale)) {
        tracing::warn!(
            epoch = applied.epoch,
            number = applied.number,
            "ignored an update older than what is known"
        );
        Ok(())
    } else {
        tell_loads(&threads.loads, control).await?;
        tell_tallies(&threads.tallies, control).await?;
        send(control, proxy_event::Body::Applied(applied)).await
    }
}

/// Says what the threads have to do.
async fn tell_loads(loads: &Loads, control: &mut tokio::net::UnixStream) -> Result<(), Error> {
    for said in loads.fetch() {
        send(control, proxy_event::Body::Loads(said)).await?;
    }
    Ok(())
}

/// Says what has changed of requests that are counted.
async fn tell_tallies(
    tallies: &Tallies,
    control: &mut tokio::net::UnixStream,
) -> Result<(), Error> {
    let tallies = tallies.report();
    if tallies.is_empty() {
        return Ok(());
    }
    let tallied = control::Tallies {
        pid: std::process::id(),
        tallies,
        gone: false,
    };
    send(control, proxy_event::Body::Tallied(tallied)).await
}

/// Waits for the last answer; a node that dies meanwhile changes nothing.
async fn drain(threads: &mut Threads, control: &mut tokio::net::UnixStream) -> Result<(), Error> {
    tracing::info!("draining");
    let tallies = Arc::clone(&threads.tallies);
    let drained = threads.order(Order::Drain);
    tokio::pin!(drained);
    let mut ignored = BytesMut::with_capacity(4096);
    loop {
        tokio::select! {
            // Drained first: when both are ready the order of the log lines is the true one.
            biased;
            result = &mut drained => {
                result?;
                break;
            }
            read = control.read_buf(&mut ignored) => {
                if read? == 0 {
                    tracing::info!("the node is gone, so the proxy ends without its last answers");
                    return Ok(());
                }
                ignored.clear();
            }
        }
    }
    tell_tallies(&tallies, control).await
}

async fn send(control: &mut tokio::net::UnixStream, body: proxy_event::Body) -> Result<(), Error> {
    let event = ProxyEvent { body: Some(body) };
    let mut bytes = BytesMut::new();
    Frame::control(0, event.encode_to_vec()).encode(&mut bytes);
    Ok(control.write_all(&bytes).await?)
}
