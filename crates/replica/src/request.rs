//! One request, from acceptance to DONE.
//!
//! Shared by the I/O thread (body bytes, credit, cancellation) and the thread that runs user code (claim, reading,
//! answering). Every method may be called at any time from any thread: what comes too late does nothing and says
//! so, so that no order of events between client, router and user code needs care above.
//!
//! Bounded in both directions: a router may send 64 KiB before the claim and [`BODY_WINDOW`] ahead of the reader
//! after it, [`PROVEN_WINDOW`] once much was read; an answer goes out against credit, and what exceeds it stays here, where the sender is told to wait.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use eagleray_metrics::ExemplarId;
use eagleray_types::Cancel;
use eagleray_wire::{
    Claims, Flags, HeadError, Header, NO_DEADLINE, RequestHead, fork, region::Arrival,
};
use parking_lot::{Condvar, Mutex};

use crate::{connection::Connection, event::Event, metrics::RouteMetrics, shared::Shared};

mod answer;
mod body;
mod cancellation;
mod checked;
mod end;
mod messages;
mod pieces;
mod slots;
mod values;

pub use answer::Room;
pub(crate) use body::Taken;
pub use body::{Body, Value};
pub use checked::BadAnswer;
pub use messages::Message;
pub use pieces::Pieces;
pub(crate) use slots::Slots;
pub use values::Payload;

/// Body bytes that a router may send before the claim.
pub(crate) const FIRST_CREDIT: u32 = 64 * 1024;
/// Body bytes that a router may be ahead of the reader after the claim.
pub(crate) const BODY_WINDOW: u32 = 96 * 1024;
/// The same once so many were read: who reads much is not held up, and who reads nothing costs little.
const PROVEN_WINDOW: u32 = 384 * 1024;
const PROVEN_BYTES: u64 = 1024 * 1024;
/// As metrics call what raised, when nobody wanted the answer any more.
const CANCELLED: &str = "CancelledError";
/// Answer bytes that may be under way before the router gives more credit.
pub(crate) const ANSWER_CREDIT: i64 = 64 * 1024;

/// One accepted request. See the module.
#[derive(Debug)]
pub struct Request {
    shared: Arc<Shared>,
    slots: Arc<Slots>,
    serial: u64,
    slot: u32,
    sequence: u64,
    received: Instant,
    deadline: Option<Instant>,
    /// The REQUEST's payload; its head ends at `body_at`.
    payload: Bytes,
    runs: Runs,
    /// It waits for a slot. Only the I/O thread ends a request that does.
    ahead: AtomicBool,
    /// A call through a handle, not HTTP.
    is_call: bool,
    /// Its answer has no body, whatever user code says: HEAD.
    is_bodyless: bool,
    counted: Option<Arc<RouteMetrics>>,
    /// The number of the route of user code that takes it; 0: none that is known.
    route: AtomicU32,
    state: Mutex<State>,
    changed: Condvar,
}

/// How a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    OnLoop,
    /// In the thread pool, with a complete body.
    InThread,
    /// On the loop, as messages both ways once user code has accepted it.
    AsWebSocket,
}

/// What the payload of a REQUEST says, as the I/O thread has read it.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) is_call: bool,
    /// Its answer has no body: HEAD.
    pub(crate) is_bodyless: bool,
    pub(crate) runs: Runs,
    /// Where it counts.
    pub(crate) counted: Option<Arc<RouteMetrics>>,
    /// The first bytes of the body.
    pub(crate) first: Bytes,
    /// Of a call: what came beside its body.
    pub(crate) arrivals: Vec<Arrival>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    Started,
    /// The router took it back, or DONE was sent.
    Over,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with its own reader"
)]
struct State {
    phase: Phase,
    /// When user code was about to run; only where that is counted.
    began: Option<Instant>,
    /// The type of what user code raised.
    failure: Option<Box<str>>,
    cancelled: bool,
    /// Counted as one that runs although nobody wants its answer.
    abandoned: bool,
    /// The loop is told of cancellation, body bytes and room; else a thread that waits.
    on_loop: bool,
    /// A sync request whose body is still coming.
    gathering: bool,
    /// A WebSocket that user code has accepted: it hears of its end as a message and is not cancelled.
    accepted: bool,
    body: body::Incoming,
    /// Only of a WebSocket.
    messages: Option<Box<messages::Incoming>>,
    /// Of a call: what came beside its body.
    arrivals: Vec<Arrival>,
    head_sent: bool,
    promise: checked::Promise,
    end_sent: bool,
    /// Answer bytes that may be sent; below zero by what one message costs besides its data, at most.
    credit: i64,
    pending: VecDeque<answer::Piece>,
    /// The loop waits for body bytes, or for room.
    reader_waits: bool,
    writer_waits: bool,
    /// Calls that this request makes.
    calls: Vec<Weak<dyn Cancel>>,
}

impl Request {
    /// Takes in a REQUEST that admission has accepted.
    pub(crate) fn accept(
        shared: &Arc<Shared>,
        slots: &Arc<Slots>,
        serial: u64,
        header: &Header,
        payload: Bytes,
        said: Said,
        now: Instant,
    ) -> Arc<Self> {
        let Said {
            is_call,
            is_bodyless,
            runs,
            counted,
            first,
            arrivals,
        } = said;
        let deadline =
            (header.c != NO_DEADLINE).then(|| now + Duration::from_millis(header.c.into()));
        let end = header.flags.contains(Flags::END);
        let state = State {
            phase: Phase::Queued,
            began: None,
            failure: None,
            cancelled: false,
            abandoned: false,
            on_loop: runs != Runs::InThread,
            gathering: runs == Runs::InThread && !end,
            accepted: false,
            body: body::Incoming::new(first, end),
            messages: (runs == Runs::AsWebSocket).then(Box::default),
            arrivals,
            head_sent: false,
            promise: checked::Promise::Anything,
            end_sent: false,
            credit: ANSWER_CREDIT,
            pending: VecDeque::new(),
            reader_waits: false,
            writer_waits: false,
            calls: Vec::new(),
        };
        Arc::new(Self {
            shared: Arc::clone(shared),
            slots: Arc::clone(slots),
            serial,
            slot: header.slot,
            sequence: header.sequence,
            received: now,
            deadline,
            payload,
            runs,
            ahead: AtomicBool::new(false),
            is_call,
            is_bodyless,
            counted,
            route: AtomicU32::new(0),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    /// The number by which events name this request; never used twice in a process.
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    fn connection(&self) -> &Connection {
        &self.slots.connection
    }

    pub(crate) const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub const fn received(&self) -> Instant {
        self.received
    }

    /// I/O thread: it waits for a slot; any thread: it has one.
    pub(crate) fn set_ahead(&self, ahead: bool) {
        // Relaxed, here and below: who finds it set although it has a slot by now is told so by admission.
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// The serial of a request that may still wait for a slot.
    fn waited(&self) -> Option<u64> {
        self.ahead.load(Ordering::Relaxed).then_some(self.serial)
    }

    /// When the answer is due. An accepted WebSocket has no limit.
    pub fn deadline(&self) -> Option<Instant> {
        let lifted = self.is_websocket() && self.state.lock().accepted;
        self.deadline.filter(|_| !lifted)
    }

    /// Whether it is a call through a handle, not HTTP.
    pub const fn is_call(&self) -> bool {
        self.is_call
    }

    /// The head, read in place.
    pub fn head(&self) -> Result<RequestHead<'_>, HeadError> {
        RequestHead::decode(&self.payload).map(|(head, _)| head)
    }

    /// Claims the request for user code, exactly once. False: the router took it back, or it was cancelled; there
    /// is nothing more to do.
    pub fn claim(&self) -> bool {
        if fork::in_forked_child() {
            return false;
        }
        let mut state = self.state.lock();
        match state.phase {
            // The I/O thread claimed it to gather its body.
            Phase::Started if self.runs == Runs::InThread && !state.gathering => {
                let goes_on = !state.cancelled || self.give_up(&mut state);
                if goes_on {
                    self.count_begin(&mut state);
                }
                return goes_on;
            }
            Phase::Started | Phase::Over => return false,
            Phase::Queued => {}
        }
        if self.connection().page.start(self.slot, self.sequence) {
            state.phase = Phase::Started;
            if self.runs != Runs::InThread || !state.gathering {
                self.count_begin(&mut state);
            }
            // A body of which nothing has come is asked for by whoever reads it first: its client may wait for that.
            if state.body.has_begun() || self.runs == Runs::AsWebSocket {
                self.open_body(&mut state);
            }
            true
        } else {
            self.drop_taken(&mut state);
            false
        }
    }

    /// User code is about to run.
    fn count_begin(&self, state: &mut State) {
        if let Some(counted) = &self.counted {
            state.began = Some(Instant::now());
            counted.begin();
        }
    }

    /// The request is over.
    fn count_end(&self, state: &mut State, now: Instant) {
        let (Some(counted), Some(began)) = (&self.counted, state.began.take()) else {
            return;
        };
        let failure = state.failure.as_deref();
        let cancelled = state.cancelled.then_some(CANCELLED);
        let failure = failure.or(cancelled);
        let at = self.route.load(Ordering::Relaxed) as usize;
        let inside = at.checked_sub(1).zip(self.shared.routes.get());
        let inside = inside.map(|(at, routes)| counted.inside(at, routes));
        let counted = inside.unwrap_or(counted);
        let slot = counted.end(began, now, failure);
        if let (Some(slot), Ok(head)) = (slot, self.head()) {
            slot.write(match head.trace_id() {
                [] => ExemplarId::Request(head.request_id()),
                trace => ExemplarId::Trace(trace),
            });
        }
    }

    /// Which route of user code takes it: its number in the list that [`Handle::set_routes`](crate::Handle::set_routes) took.
    /// For metrics, and for the router with the head of the answer.
    pub fn set_route(&self, number: u32) {
        self.route.store(number, Ordering::Relaxed);
    }

    /// User code has raised an exception of this type.
    pub fn note_failure(&self, name: &str) {
        if self.counted.is_some() {
            self.state.lock().failure = Some(name.into());
        }
    }

    /// A thread hands its request to the loop, which streams the answer; events for it go there from now on.
    pub fn move_to_loop(&self) {
        let mut state = self.state.lock();
        state.on_loop = true;
        if state.cancelled {
            self.shared.event(Event::Cancelled(self.serial));
        }
    }
}
