//! What the embedder holds.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::BytesMut;
use eagleray_types::control::ReplicaEvent;
use eagleray_wire::{MOST_ROUTES, ModelKey, fork::signals};

use crate::{
    Handler,
    event::{Event, Serving},
    out::Outgoing,
    poller::Poller,
    pool::Pool,
    queues::Queues,
    request::Request,
    service::Service,
    shared::Shared,
};

const CONTROL_TOKEN: u64 = 1;

/// The replica as the threads of user code see it. Clones share everything.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    queues: Arc<Queues>,
}

/// Makes a replica from the connection to its node and the socket that routers connect to. `handler` is woken by
/// the service; the service runs on a thread of its own.
///
/// # Errors
/// The descriptors are not sockets, or none are left.
pub fn build(
    control: OwnedFd,
    listener: OwnedFd,
    handler: Box<dyn Handler>,
) -> io::Result<(Handle, Service)> {
    let poller = Arc::new(Poller::new()?);
    let control = Arc::new(control);
    let now = Instant::now();
    let out = Outgoing::new(
        Arc::clone(&control),
        Arc::clone(&poller),
        CONTROL_TOKEN,
        now,
    );
    let shared = Arc::new(Shared::new(handler, poller, out, now));
    let queues = Arc::new(Queues::new(Arc::clone(&shared.pool)));
    let service = Service::new(Arc::clone(&shared), Arc::clone(&queues), listener, control)?;
    Ok((Handle { shared, queues }, service))
}

impl Handle {
    /// From now on SIGTERM and SIGINT are events ([`Event::Terminate`]), in this process and in none that it forks.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn hear_signals(&self) -> io::Result<()> {
        signals::hear(self.shared.poller.interrupter()?)
    }

    /// Begins to take requests.
    pub fn serve(&self, serving: Serving) {
        self.set_limit(serving.max_ongoing_requests);
        if let Some(metrics) = &serving.metrics {
            metrics.count_start();
        }
        *self.shared.serving.lock() = Some(Arc::new(serving));
        self.shared.poller.interrupt();
    }

    /// A new `max_ongoing_requests`; what runs beyond a smaller one runs to its end.
    pub fn set_limit(&self, limit: u32) {
        self.queues.pool.set_limit(limit as usize);
        let now = Instant::now();
        let mut admission = self.shared.admission.lock();
        admission.set_limit(now, limit.max(1));
        self.shared.after(now, admission);
    }

    /// The multiplexed models that are loaded here or being loaded: all of them, each time that this changes. Routers
    /// learn it at once.
    pub fn set_models(&self, models: impl IntoIterator<Item = ModelKey>) {
        let mut payload = BytesMut::new();
        ModelKey::encode(models, &mut payload);
        self.shared.set_models(Instant::now(), payload.freeze());
    }

    /// The routes of user code, in the order of their numbers, which begin with 1; before anything is served. Routers learn
    /// them when they connect.
    pub fn set_routes(&self, routes: Vec<String>) {
        let routes = routes.into_iter().take(MOST_ROUTES);
        // An error: they are known, and a replica serves the same code all its life.
        self.shared
            .routes
            .set(routes.map(Into::into).collect())
            .ok();
    }

    pub fn ongoing(&self) -> u32 {
        self.shared.admission.lock().ongoing()
    }

    pub fn accepted(&self) -> u64 {
        self.shared.admission.lock().accepted()
    }

    /// The loop turns. To be called by the loop's thread at the beginning of each look at the queues.
    pub fn turned(&self) {
        let shared = &self.shared;
        // Relaxed: a counter with one writer, by which nothing else is published.
        let turns = shared.loop_turns.load(Ordering::Relaxed);
        shared.loop_turns.store(turns + 1, Ordering::Relaxed);
        if shared.hung.load(Ordering::Relaxed) {
            shared.poller.interrupt();
        }
    }

    /// User code that may take its time (`reconfigure`) begins or is over: until then neither this process nor its
    /// routers take a loop or a process that does not turn for one that hangs.
    pub fn set_exempt(&self, exempt: bool) {
        // SeqCst: a connection that is made meanwhile either sees the flag or is in the list.
        self.shared.exempt.store(exempt, Ordering::SeqCst);
        for connection in self.shared.connections.lock().iter() {
            connection.page.set_exempt(exempt);
        }
    }

    /// A request might wait here for long from now on, or no longer: routers prefer other replicas meanwhile.
    pub fn set_avoided(&self, avoided: bool) {
        // SeqCst: see `tell_avoid`.
        self.shared.avoided.store(avoided, Ordering::SeqCst);
        self.shared.tell_avoid(Instant::now());
    }

    /// The next request for the loop. Does not wait.
    pub fn next_request(&self) -> Option<Arc<Request>> {
        self.queues.requests.pop()
    }

    pub fn next_event(&self) -> Option<Event> {
        self.shared.events.pop()
    }

    /// The loop found both queues empty and will wait for the handler's wake. True: something came meanwhile, and
    /// it must look again.
    pub fn rest(&self) -> bool {
        self.shared.rest(|| !self.queues.requests.is_empty())
    }

    /// Where the threads for sync methods get their requests.
    pub fn pool(&self) -> &Pool {
        &self.queues.pool
    }

    /// A thread of the pool has nothing to do: sends what was put off, and rests until there is work or the pool closes.
    /// Called without the interpreter lock.
    pub fn rest_in_pool(&self) {
        self.flush();
        self.pool().wait();
    }

    /// The loop is about to start `count` requests, or to go on with them: what they send may leave together, at the
    /// latest with [`Handle::flush`], which must follow.
    pub fn begin_batch(&self, count: usize) {
        self.shared.begin_batch(count);
    }

    /// Whether what is sent now may wait for company: [`Handler::flush`] follows within a millisecond.
    pub fn in_batch(&self) -> bool {
        self.shared.in_batch()
    }

    /// Sends the answers that were put off for company: after a batch, before a thread of the pool rests.
    pub fn flush(&self) {
        self.shared.batch.store(false, Ordering::Relaxed);
        self.shared.flush();
    }

    /// The loop has started all requests of a batch. If more wait for it, what they answered leaves with the answers of
    /// these: [`Handle::begin_batch`] or [`Handle::flush`] must follow at the next look at the queue.
    pub fn end_batch(&self) {
        if self.queues.requests.is_empty() || !self.in_batch() {
            self.flush();
        }
    }

    /// Tells the controller, through the node.
    pub fn tell(&self, event: &ReplicaEvent) {
        self.shared.tell(Instant::now(), event);
    }

    /// Takes nothing new; `Event::Drained` follows when all is over.
    pub fn drain(&self) {
        if self.shared.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        let now = Instant::now();
        let mut admission = self.shared.admission.lock();
        admission.drain(now);
        self.shared.after(now, admission);
    }

    /// Ends the service and the pool's threads, after a bounded time for answers that are on their way.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.poller.interrupt();
    }
}
