//! One thread of the proxy: a runtime, a clone of the listener, a router, connections, and nothing shared.
//!
//! Targets and the order to drain come over a bounded queue; the thread answers each when it has been carried out,
//! so that the control side knows when an update holds everywhere.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use eagleray_router::{
    core::Limits as RouterLimits,
    service::{Applied, Handle},
};
use eagleray_types::control::{TargetUpdate, Unreachable};
use slab::Slab;
use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalOptions},
    sync::{Notify, mpsc},
    task::JoinSet,
};

use crate::{
    abandoned::{self, Abandoned, ByDeployment},
    access_log::{AccessLog, FLUSH_AFTER},
    connection::{self, Connection, Patience},
    counters::Counters,
    gate::Gate,
    head::Scratch,
    hosts::Host,
    limits::Limits,
    memory::Memory,
    options::Options,
    routes::Routes,
    trust::Network,
};

/// A sweep of all connections, at most.
const TICK: Duration = Duration::from_secs(1);
/// After the order to drain, for the first request of a connection.
const ASK_WITHIN: Duration = Duration::from_millis(500);
/// Connections taken before anybody else gets a turn.
const ACCEPT_BATCH: usize = 16;

/// To a thread.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Update(Arc<TargetUpdate>),
    /// Begin to accept connections.
    Accept,
    /// Say something.
    Turn,
    Drain,
}

/// From a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Started,
    Accepting,
    Turned,
    Update(Applied),
    Drained,
    Failed,
}

/// The thread's own state, shared by its tasks.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) router: Handle,
    pub(crate) routes: RefCell<Routes>,
    pub(crate) scratch: RefCell<Scratch>,
    pub(crate) random: RefCell<fastrand::Rng>,
    pub(crate) request_timeout: Option<Duration>,
    access_log: RefCell<AccessLog>,
    access_log_is_enabled: bool,
    access_log_has_lines: Notify,
    connections: RefCell<Slab<Rc<Connection>>>,
    pub(crate) abandoned: Abandoned,
    pub(crate) abandoned_by_deployment: Arc<ByDeployment>,
    ended: Notify,
    tick: Cell<u32>,
    ready: Cell<bool>,
    draining: Cell<bool>,
    /// Draining, and connections that have not asked anything are ended too.
    closing: Cell<bool>,
    /// Tells the accepting task to end.
    drains: Notify,
    pub(crate) limits: Limits,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) allowed_hosts: Vec<Host>,
    pub(crate) test_panic_path: Option<&'static str>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) router_limits: Arc<RouterLimits>,
    pub(crate) window_bytes: u64,
    gate: Arc<Gate>,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

impl Shard {
    fn new(router: Handle, options: &Options, seed: u64, shared: Shared) -> Self {
        Self {
            router,
            routes: RefCell::new(Routes::new(&options.root_path)),
            scratch: RefCell::new(Scratch::new()),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            request_timeout: options.request_timeout,
            access_log_is_enabled: options.access_log.is_some(),
            access_log: RefCell::new(AccessLog::new(
                options.access_log.clone(),
                options.access_log_encoding,
            )),
            access_log_has_lines: Notify::new(),
            connections: RefCell::new(Slab::new()),
            abandoned: Abandoned::default(),
            abandoned_by_deployment: shared.abandoned_by_deployment,
            ended: Notify::new(),
            tick: Cell::new(0),
            ready: Cell::new(false),
            draining: Cell::new(false),
            closing: Cell::new(false),
            drains: Notify::new(),
            limits: options.limits.clone(),
            trusted_proxies: options.trusted_proxies.clone(),
            allowed_hosts: options.allowed_hosts.clone(),
            test_panic_path: options.test_panic_path,
            counters: shared.counters,
            memory: shared.memory,
            router_limits: shared.router_limits,
            window_bytes: shared.window_bytes,
            gate: shared.gate,
            tls: shared.tls,
        }
    }

    pub(crate) fn tick(&self) -> u32 {
        self.tick.get()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether a connection is to end as soon as no request is under way on it.
    pub(crate) fn ends(&self, has_asked: bool) -> bool {
        self.draining.get() && (has_asked || self.closing.get())
    }

    fn wake_all(&self) {
        for (_key, connection) in self.connections.borrow().iter() {
            connection.wake();
        }
    }

    /// Whether a first snapshot of targets has come.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.get()
    }

    pub(crate) fn list(&self, connection: &Rc<Connection>) -> usize {
        self.connections.borrow_mut().insert(Rc::clone(connection))
    }

    pub(crate) fn unlist(&self, key: usize) {
        self.connections.borrow_mut().remove(key);
        self.notice_end();
    }

    /// Something that a drain waits for has ended.
    pub(crate) fn notice_end(&self) {
        if self.draining.get() {
            self.ended.notify_one();
        }
    }

    pub(crate) fn count_panic(&self) {
        self.counters.panics.add();
        tracing::error!("a connection's task panicked and was ended");
    }

    pub(crate) fn has_access_log(&self) -> bool {
        self.access_log_is_enabled
    }

    /// Adds a line to the access log. Lossy, see [`AccessLog`].
    pub(crate) fn log(&self, line: &crate::access_log::Line<'_>) {
        if self
            .access_log
            .borrow_mut()
            .write(std::time::SystemTime::now(), line)
        {
            self.access_log_has_lines.notify_one();
        }
    }
}

/// What the threads of a process share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) router_limits: Arc<RouterLimits>,
    /// What the windows of HTTP/2 connections may have together beyond their own.
    pub(crate) window_bytes: u64,
    pub(crate) abandoned_by_deployment: Arc<ByDeployment>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) gate: Arc<Gate>,
    /// `None`: plain TCP.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

/// What a thread is started with.
pub(crate) struct Start {
    /// `None`: no HTTP.
    pub(crate) listener: Option<TcpListener>,
    pub(crate) options: Options,
    pub(crate) seed: u64,
    pub(crate) shared: Shared,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) done: mpsc::Sender<Done>,
    /// Replicas that the thread cannot connect to.
    pub(crate) unreachable: mpsc::Sender<Unreachable>,
}

/// Runs a thread until it has drained or the control side is gone.
pub(crate) fn run(start: Start) -> io::Result<()> {
    let done = start.done.clone();
    let result = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .and_then(|runtime| runtime.block_on(serve(start)));
    if result.is_err() && done.blocking_send(Done::Failed).is_err() {
        tracing::debug!("the control side is gone");
    }
    result
}

fn for_tokio(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

async fn serve(start: Start) -> io::Result<()> {
    let Start {
        listener,
        options,
        seed,
        shared,
        mut orders,
        done,
        unreachable,
    } = start;
    let mut listener = listener.map(for_tokio).transpose()?;
    let (router, driver) = Handle::with_driver(eagleray_router::service::Options {
        seed,
        limits: Arc::clone(&shared.router_limits),
        regions: None,
        unreachable: Some(unreachable),
    });
    let shard = Rc::new(Shard::new(router, &options, seed, shared));
    // Dropped with this function, and its tasks with it. None of them ends by itself.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async {
        if let Err(error) = driver.await {
            tracing::error!(%error, "the router's driver ended");
        }
    });
    tasks.spawn_local(sweep(Rc::clone(&shard), options));
    tasks.spawn_local(flush_access_log(Rc::clone(&shard)));
    tasks.spawn_local(abandoned::read(Rc::clone(&shard)));
    tell(&done, Done::Started).await;
    let mut is_accepting = false;
    loop {
        let order = tokio::select! {
            // A task first: without it no order can be carried out.
            biased;
            Some(ended) = tasks.join_next() => {
                return Err(io::Error::other(format!("one of its tasks ended: {ended:?}")));
            }
            order = orders.recv() => order,
        };
        match order {
            Some(Order::Update(update)) => {
                let applied = shard.router.apply(&update);
                if applied == Applied::Applied {
                    shard.routes.borrow_mut().apply(&update);
                    shard.ready.set(true);
                }
                tell(&done, Done::Update(applied)).await;
            }
            Some(Order::Accept) => {
                if let Some(listener) = listener.take() {
                    tasks.spawn_local(accept(Rc::clone(&shard), listener));
                    is_accepting = true;
                }
                tell(&done, Done::Accepting).await;
            }
            Some(Order::Turn) => tell(&done, Done::Turned).await,
            Some(Order::Drain) => {
                drop(listener.take());
                shard.draining.set(true);
                shard.drains.notify_one();
                if is_accepting {
                    // The only task that ends by itself: when the backlog is empty and the socket closed.
                    tasks.join_next().await;
                }
                shard.router.drain();
                drain(&shard).await;
                break;
            }
            None => break,
        }
    }
    shard.access_log.borrow_mut().flush();
    tell(&done, Done::Drained).await;
    Ok(())
}

/// The control side may be gone; then there is nobody to tell, and the orders end too.
async fn tell(done: &mpsc::Sender<Done>, what: Done) {
    if done.send(what).await.is_err() {
        tracing::debug!("the control side is gone");
    }
}

/// Ends idle connections, and busy ones after their answer; waits for requests that outlive theirs. One that has asked nothing yet, so that its request may be
/// on the way, is ended a moment later.
async fn drain(shard: &Rc<Shard>) {
    let all_ended = || async {
        shard.wake_all();
        while !(shard.connections.borrow().is_empty() && shard.abandoned.is_empty()) {
            shard.ended.notified().await;
        }
    };
    if tokio::time::timeout(ASK_WITHIN, all_ended()).await.is_err() {
        shard.closing.set(true);
        all_ended().await;
    }
}

async fn accept(shard: Rc<Shard>, listener: tokio::net::TcpListener) {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
    const LONGEST_PAUSE: Duration = Duration::from_millis(100);
    let mut pause = SHORTEST_PAUSE;
    let mut batch = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = shard.drains.notified() => break,
        };
        match accepted {
            Ok((stream, client)) => {
                pause = SHORTEST_PAUSE;
                batch += 1;
                if batch == ACCEPT_BATCH {
                    batch = 0;
                    tokio::task::yield_now().await;
                }
                begin(&shard, stream, client);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                // Descriptors or memory are used up: wait for some to come back, and say so once.
                shard.counters.accept_errors.add();
                if pause == SHORTEST_PAUSE {
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    // The kernel has told these clients that they are connected, and would reset them with the socket.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, client)) = listener.accept() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                begin(&shard, stream, client);
            }
        }
    }
}

/// Serves a connection in a task of its own, if there is room for it; else it is closed at once.
fn begin(shard: &Rc<Shard>, stream: TcpStream, client: SocketAddr) {
    let Some(place) = shard.gate.enter(client.ip()) else {
        return;
    };
    if let Err(error) = stream.set_nodelay(true) {
        // The client has left already.
        tracing::debug!(%error, "connection ended before it began");
        return;
    }
    tokio::task::spawn_local(connection::serve(Rc::clone(shard), stream, client, place));
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

async fn sweep(shard: Rc<Shard>, options: Options) {
    let limits = &options.limits;
    let shortest = [
        options.keep_alive,
        limits.header_read_s,
        limits.body_idle_s,
        limits.answer_idle_s,
    ]
    .into_iter()
    .fold(TICK * 4, Duration::min);
    let mut period = shortest / 4;
    if !limits.half_close_s.is_zero() {
        period = period.min(limits.half_close_s);
    }
    let period = period.max(Duration::from_millis(1));
    let patience = Patience::new(options.keep_alive, limits, period);
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let tick = shard.tick.get().wrapping_add(1);
        shard.tick.set(tick);
        let memory_is_short = shard.memory.drains_idle();
        for (_key, connection) in shard.connections.borrow().iter() {
            connection.sweep(tick, &patience, memory_is_short, &shard.counters);
        }
    }
}

async fn flush_access_log(shard: Rc<Shard>) {
    loop {
        shard.access_log_has_lines.notified().await;
        tokio::time::sleep(FLUSH_AFTER).await;
        shard.access_log.borrow_mut().flush();
    }
}
