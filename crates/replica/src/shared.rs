//! What the I/O thread and the threads that run user code share, besides the requests that wait (`queues.rs`): a request
//! holds this, so this knows of none.
//!
//! Lock order: a request's state, then admission, then nothing; a request's state, or the models, then the list of
//! connections or a connection's out-buffer.
//! Every lock is held for a few hundred nanoseconds, never across a system call other than a nonblocking send,
//! and none of them while foreign code runs.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use crossbeam_queue::SegQueue;
use eagleray_types::control::ReplicaEvent;
use eagleray_wire::{Header, Kind, encode_routes, region};
use parking_lot::{Mutex, MutexGuard};
use prost::Message;

use crate::{
    Handler,
    admission::{Admission, ConnectionKey},
    connection::Connection,
    event::{Event, Serving},
    flow::Flow,
    out::Outgoing,
    poller::Poller,
};

/// With so many events waiting, problems are dropped: peers cause them, and the other events are bounded by requests.
const PROBLEMS: usize = 1024;

/// For so many requests that go on together the I/O thread is woken to look after what they put off: one wake-up for as
/// many sends.
const WORTH_WATCHING: usize = 4;

pub(crate) struct Shared {
    pub(crate) handler: Box<dyn Handler>,
    pub(crate) poller: Arc<Poller>,
    pub(crate) admission: Mutex<Gate>,
    pub(crate) connections: Mutex<Vec<Arc<Connection>>>,
    pub(crate) control: Outgoing,
    pub(crate) events: SegQueue<Event>,
    /// Requests for the pool, in number.
    pub(crate) pool: Arc<Flow>,
    /// Regions for the results of calls.
    pub(crate) regions: Arc<region::Pool>,
    /// Arguments that came in regions.
    pub(crate) held: Arc<region::Held>,
    pub(crate) serving: Mutex<Option<Arc<Serving>>>,
    /// The loop has been woken and has not looked since.
    notified: AtomicBool,
    /// The I/O thread wakes within `out::WATCH`, so answers may be put off for company.
    pub(crate) watching: AtomicBool,
    /// The loop has taken several requests at once and says when it has started them all.
    pub(crate) batch: AtomicBool,
    pub(crate) draining: AtomicBool,
    pub(crate) stopping: AtomicBool,
    /// How often the loop has turned; written by the loop only.
    pub(crate) loop_turns: AtomicU64,
    /// The loop has not turned for long; whoever sees it turn wakes the I/O thread.
    pub(crate) hung: AtomicBool,
    /// For how long, when that was last said; 0: it turns.
    pub(crate) hung_milliseconds: AtomicU32,
    /// Routers shall prefer others.
    pub(crate) avoided: AtomicBool,
    /// `reconfigure` runs: the loop may take its time.
    pub(crate) exempt: AtomicBool,
    /// Requests that run although nobody wants their answer.
    pub(crate) abandoned: AtomicU32,
    /// The payload of MODELS; empty until user code has a loader of models.
    pub(crate) models: Mutex<Option<Bytes>>,
    /// The routes of user code, by their numbers less one; set once, before anything is served.
    pub(crate) routes: OnceLock<Box<[Box<str>]>>,
    pub(crate) serial: AtomicU64,
    /// When the I/O thread next looks at the time, in microseconds after `began`.
    pub(crate) sleeps_until: AtomicU64,
    pub(crate) began: Instant,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Admission, with the requests that wait for a slot.
pub(crate) type Gate = Admission<Box<dyn Waiting>>;

/// A request that waits for a slot.
pub(crate) trait Waiting: std::fmt::Debug + Send {
    fn serial(&self) -> u64;

    /// It has one: it goes on to the event loop.
    fn start(self: Box<Self>);

    /// It got none in time: its router has it again.
    fn send_back(self: Box<Self>, now: Instant);
}

/// What became of a slot that was given back.
pub(crate) struct Released {
    pub(crate) granted: bool,
    pub(crate) occupied: u32,
    pub(crate) places: u32,
}

impl Shared {
    pub(crate) fn new(
        handler: Box<dyn Handler>,
        poller: Arc<Poller>,
        control: Outgoing,
        now: Instant,
    ) -> Self {
        let interrupt = || {
            let interrupted = Arc::clone(&poller);
            move || interrupted.interrupt()
        };
        Self {
            handler,
            regions: region::Pool::new(interrupt()),
            held: region::Held::new(interrupt()),
            poller,
            admission: Mutex::new(Admission::new(1)),
            connections: Mutex::default(),
            control,
            events: SegQueue::new(),
            pool: Arc::default(),
            serving: Mutex::default(),
            notified: AtomicBool::new(false),
            watching: AtomicBool::new(false),
            batch: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            loop_turns: AtomicU64::new(0),
            hung: AtomicBool::new(false),
            hung_milliseconds: AtomicU32::new(0),
            avoided: AtomicBool::new(false),
            exempt: AtomicBool::new(false),
            abandoned: AtomicU32::new(0),
            models: Mutex::default(),
            routes: OnceLock::new(),
            serial: AtomicU64::new(1),
            sleeps_until: AtomicU64::new(u64::MAX),
            began: now,
        }
    }

    /// Tells routers whether a request would wait here. Both threads whose doing that is call this after they have
    /// changed their flag; the lock makes the last word right, whoever has it.
    pub(crate) fn tell_avoid(&self, now: Instant) {
        let connections = self.connections.lock();
        let header = self.avoid_header();
        for connection in connections.iter() {
            connection.out.frame(now, false, header, &[], &[]);
        }
    }

    /// HUNG as it is now.
    pub(crate) fn avoid_header(&self) -> Header {
        let mut header = Header::new(Kind::Hung, 0, 0);
        // SeqCst: see `tell_avoid`.
        let hung = self.hung_milliseconds.load(Ordering::SeqCst);
        let avoided = self.avoided.load(Ordering::SeqCst);
        header.a = hung.max(u32::from(avoided));
        header
    }

    /// Queues an event and wakes the loop.
    pub(crate) fn event(&self, event: Event) {
        self.events.push(event);
        self.notify();
    }

    /// Tells the controller, through the node.
    pub(crate) fn tell(&self, now: Instant, event: &ReplicaEvent) {
        let header = Header::new(Kind::Control, 0, 0);
        self.control
            .frame(now, false, header, &[], &event.encode_to_vec());
    }

    /// Tells the log, unless it does not keep up.
    pub(crate) fn problem(&self, text: String) {
        if self.events.len() < PROBLEMS {
            self.event(Event::Problem(text));
        }
    }

    /// Wakes the loop, unless it was woken and has not looked yet.
    pub(crate) fn notify(&self) {
        // AcqRel: what was queued before is seen by the loop that clears the flag.
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.handler.wake();
        }
    }

    /// The loop has emptied both queues and rests. True: something came meanwhile, look again.
    pub(crate) fn rest(&self, requests_wait: impl FnOnce() -> bool) -> bool {
        self.notified.store(false, Ordering::SeqCst);
        let more = requests_wait() || !self.events.is_empty();
        more && !self.notified.swap(true, Ordering::AcqRel)
    }

    /// Whether an answer may wait for the next: more are being made, and the I/O thread looks after them.
    pub(crate) fn together(&self) -> bool {
        // SeqCst: when `watching` is cleared meanwhile, the I/O thread's sweep comes after this answer's lock or
        // before, and then the answer sees the cleared flag.
        self.watching.load(Ordering::SeqCst)
            && (self.batch.load(Ordering::Relaxed) || self.pool.waits())
    }

    /// A request is over, its DONE about to be sent. `waited`: the serial of one that may still wait for a slot.
    pub(crate) fn finished(
        &self,
        now: Instant,
        key: ConnectionKey,
        waited: Option<u64>,
    ) -> Released {
        let mut admission = self.admission.lock();
        let granted = !withdraw(now, &mut admission, waited) && admission.finished(now, key);
        let released = Released {
            granted,
            occupied: admission.occupied(),
            places: admission.places(),
        };
        self.after(now, admission);
        released
    }

    /// A request is over without a DONE.
    pub(crate) fn dropped(&self, now: Instant, waited: Option<u64>) {
        let mut admission = self.admission.lock();
        if !withdraw(now, &mut admission, waited) {
            admission.dropped(now);
        }
        self.after(now, admission);
    }

    /// Changes admission, and does what follows from it.
    pub(crate) fn change(&self, now: Instant, change: impl FnOnce(&mut Gate)) {
        let mut admission = self.admission.lock();
        change(&mut admission);
        self.after(now, admission);
    }

    /// Starts what waits for a slot, and sends what admission has to say, after any change of it.
    pub(crate) fn after(&self, now: Instant, mut admission: MutexGuard<'_, Gate>) {
        let mut starts = false;
        while let Some(request) = admission.next_ahead() {
            request.start();
            starts = true;
        }
        let is_idle = admission.is_idle();
        let mut first = admission.poll_transmit();
        let timeout = admission.poll_timeout();
        drop(admission);
        if starts {
            self.notify();
        }
        while let Some(transmit) = first {
            let (key, header) = transmit;
            self.control_frame(now, key, header);
            first = self.admission.lock().poll_transmit();
        }
        if let Some(timeout) = timeout {
            let at = self.micros(timeout);
            // Relaxed: the I/O thread stores before it sleeps and looks at admission after; a needless wake is cheap.
            if at < self.sleeps_until.load(Ordering::SeqCst) {
                self.sleeps_until.store(at, Ordering::SeqCst);
                self.poller.interrupt();
            }
        }
        if is_idle && self.draining.load(Ordering::Acquire) {
            self.event(Event::Drained);
        }
    }

    fn control_frame(&self, now: Instant, key: ConnectionKey, header: Header) {
        let connection = self
            .connections
            .lock()
            .iter()
            .find(|connection| connection.key == key)
            .cloned();
        if let Some(connection) = connection {
            connection.out.frame(now, self.together(), header, &[], &[]);
        }
    }

    /// Whether the loop is in a batch and the I/O thread looks after what is put off.
    pub(crate) fn in_batch(&self) -> bool {
        self.watching.load(Ordering::SeqCst) && self.batch.load(Ordering::Relaxed)
    }

    /// The loop is about to go on with so many requests.
    pub(crate) fn begin_batch(&self, count: usize) {
        // Relaxed: a hint.
        self.batch.store(true, Ordering::Relaxed);
        // Watched first, then woken: the I/O thread sees the flag when it goes to sleep again.
        if count >= WORTH_WATCHING && !self.watching.swap(true, Ordering::SeqCst) {
            self.poller.interrupt();
        }
    }

    /// Sends everything that was put off.
    pub(crate) fn flush(&self) {
        self.handler.flush();
        for connection in self.connections.lock().iter() {
            connection.out.flush();
        }
    }

    /// Tells every router which models are here.
    pub(crate) fn set_models(&self, now: Instant, payload: Bytes) {
        // Held while they are sent, so that a router that connects meanwhile gets no older ones after these.
        let mut models = self.models.lock();
        for connection in self.connections.lock().iter() {
            connection
                .out
                .frame(now, false, models_header(), &payload, &[]);
        }
        *models = Some(payload);
    }

    /// Tells a router that has just connected, if there is something to tell.
    pub(crate) fn tell_models(&self, now: Instant, connection: &Connection) {
        if let Some(payload) = &*self.models.lock() {
            connection
                .out
                .frame(now, false, models_header(), payload, &[]);
        }
    }

    /// Tells a router that has just connected the routes of user code, if these are known and it reads them.
    pub(crate) fn tell_routes(&self, now: Instant, connection: &Connection) {
        if let Some(routes) = self.routes.get().filter(|_| connection.hears_routes) {
            let payload = encode_routes(routes.iter().map(|route| &**route));
            let header = Header::new(Kind::Routes, 0, 0);
            connection.out.frame(now, false, header, &payload, &[]);
        }
    }

    pub(crate) fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_micros() as u64
    }
}

/// Whether the request waited for a slot; then it waits no more.
fn withdraw(now: Instant, admission: &mut Gate, waited: Option<u64>) -> bool {
    waited.is_some_and(|serial| admission.withdraw(now, |waiting| waiting.serial() == serial))
}

fn models_header() -> Header {
    Header::new(Kind::Models, 0, 0)
}
