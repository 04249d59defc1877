//! What the tasks of one thread share, and nobody else: targets, routes, connections, the access log, whether it drains.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use eagleray_router::{
    core::Limits as RouterLimits,
    service::{Applied, Handle},
};
use eagleray_types::control::TargetUpdate;
use slab::Slab;
use tokio::sync::Notify;

use crate::{
    abandoned::{Abandoned, ByDeployment},
    access_log::{AccessLog, Line},
    connection::{Connection, Patience},
    counters::Counters,
    gate::Gate,
    head::Scratch,
    loads::Loads,
    memory::Memory,
    metrics::Metrics,
    options::Options,
    routes::Routes,
    settings::Settings,
    tally::Tallies,
    websocket::deflate::Deflaters,
};

/// After the order to drain, for the first request of a connection.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// The thread's own state, shared by its tasks.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) router: Handle,
    pub(crate) routes: RefCell<Routes>,
    pub(crate) scratch: RefCell<Scratch>,
    pub(crate) random: RefCell<fastrand::Rng>,
    settings: RefCell<Rc<Settings>>,
    /// Others hold from now on.
    settings_changed: Notify,
    access_log: RefCell<AccessLog>,
    access_log_is_enabled: bool,
    access_log_has_lines: Notify,
    connections: RefCell<Slab<Rc<Connection>>>,
    pub(crate) abandoned: Abandoned,
    /// Something that a drain waits for has ended.
    ended: Notify,
    tick: Cell<u32>,
    ready: Cell<bool>,
    draining: Cell<bool>,
    /// Draining, and connections that have not asked anything are ended too.
    closing: Cell<bool>,
    /// Tells the accepting task to end.
    drains: Notify,
    pub(crate) counters: Arc<Counters>,
    tallies: Arc<Tallies>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) metrics: Metrics,
    pub(crate) router_limits: Arc<RouterLimits>,
    /// Compressors of WebSockets.
    pub(crate) deflaters: Rc<Deflaters>,
    pub(crate) gate: Arc<Gate>,
}

impl Shard {
    pub(crate) fn new(
        router: Handle,
        options: &Options,
        seed: u64,
        settings: Settings,
        shared: Shared,
    ) -> Self {
        Self {
            router,
            routes: RefCell::new(Routes::new(&settings.root_path)),
            scratch: RefCell::new(Scratch::new()),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            settings: RefCell::new(Rc::new(settings)),
            settings_changed: Notify::new(),
            access_log_is_enabled: options.access_log.is_some(),
            access_log: RefCell::new(AccessLog::new(
                options.access_log.clone(),
                options.access_log_encoding,
            )),
            access_log_has_lines: Notify::new(),
            connections: RefCell::new(Slab::new()),
            abandoned: Abandoned::new(shared.abandoned_by_deployment, Arc::clone(&shared.counters)),
            ended: Notify::new(),
            tick: Cell::new(0),
            ready: Cell::new(false),
            draining: Cell::new(false),
            closing: Cell::new(false),
            drains: Notify::new(),
            counters: shared.counters,
            tallies: shared.tallies,
            memory: shared.memory,
            metrics: Metrics::new(options.metrics.as_ref()),
            router_limits: shared.router_limits,
            deflaters: Rc::default(),
            gate: shared.gate,
        }
    }

    /// What holds now. Whoever goes by several of them takes them together.
    pub(crate) fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    /// From here on these hold: for connections that begin, and for what connections that live begin. Time that one of
    /// them has used up counts no more, since it was measured against what held before.
    pub(crate) fn configure(&self, settings: Settings) {
        self.routes
            .borrow_mut()
            .set_root_path(&settings.root_path, &self.metrics);
        self.settings.replace(Rc::new(settings));
        for (_key, connection) in self.connections.borrow().iter() {
            connection.begin_anew(self.tick.get());
        }
        self.settings_changed.notify_one();
    }

    /// Waits for [`Self::configure`]; for one task.
    pub(crate) async fn settings_changed(&self) {
        self.settings_changed.notified().await;
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

    /// Takes targets and routes, if they follow what is known.
    pub(crate) fn apply(&self, update: &TargetUpdate) -> Applied {
        let applied = self.router.apply(update);
        if applied == Applied::Applied {
            self.routes
                .borrow_mut()
                .apply(update, &self.tallies, &self.metrics);
            self.ready.set(true);
        }
        applied
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

    /// Called once a tick: looks at every connection.
    pub(crate) fn sweep(&self, patience: &Patience) {
        let tick = self.tick.get().wrapping_add(1);
        self.tick.set(tick);
        self.metrics.look_at(&self.router);
        let memory_is_short = self.memory.drains_idle();
        for (_key, connection) in self.connections.borrow().iter() {
            connection.sweep(tick, patience, memory_is_short, &self.counters);
        }
    }

    /// From here on no connection is accepted but those that the kernel has taken already.
    pub(crate) fn begin_drain(&self) {
        self.draining.set(true);
        self.drains.notify_one();
    }

    /// Waits for [`Self::begin_drain`]; for one task.
    pub(crate) async fn told_to_drain(&self) {
        self.drains.notified().await;
    }

    /// Ends idle connections, and busy ones after their answer; waits for requests that outlive theirs. A connection that
    /// has asked nothing yet, so that its request may be on the way, is ended a moment later.
    pub(crate) async fn drain(&self) {
        self.router.drain();
        if tokio::time::timeout(ASK_WITHIN, self.all_ended())
            .await
            .is_err()
        {
            self.closing.set(true);
            self.all_ended().await;
        }
    }

    async fn all_ended(&self) {
        for (_key, connection) in self.connections.borrow().iter() {
            connection.wake();
        }
        while !(self.connections.borrow().is_empty() && self.abandoned.is_empty()) {
            self.ended.notified().await;
        }
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
    pub(crate) fn log(&self, line: &Line<'_>) {
        if self
            .access_log
            .borrow_mut()
            .write(std::time::SystemTime::now(), line)
        {
            self.access_log_has_lines.notify_one();
        }
    }

    /// Waits until the access log has lines that nobody sees to; for one task.
    pub(crate) async fn access_log_has_lines(&self) {
        self.access_log_has_lines.notified().await;
    }

    pub(crate) fn flush_access_log(&self) {
        self.access_log.borrow_mut().flush();
    }
}

/// What the threads of a process share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) router_limits: Arc<RouterLimits>,
    pub(crate) abandoned_by_deployment: Arc<ByDeployment>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) loads: Arc<Loads>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) gate: Arc<Gate>,
}
