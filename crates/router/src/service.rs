//! The router as it runs: the state machine of [`core`](crate::core) between sockets, timers and futures.
//!
//! Everything lives on one thread and is shared by `Rc`: the tasks of a proxy thread, or of the one thread that
//! serves the handles of a Python process. A [`Handle`] must be made inside a tokio `LocalRuntime` or `LocalSet`.
//!
//! What keeps it cheap: frames are appended to one buffer a connection and written once a turn of the loop, by the
//! driver task, which runs after the tasks that were woken with it; a batch of answers is read at once and wakes
//! only those whose answers came; requests live in slabs, so a small request costs no allocation here.

mod body;
mod connection;
mod driver;
mod entry;
mod exchange;
mod incoming;
mod links;
mod loads;
mod messages;
mod pieces;
mod releases;
mod socket;
mod state;

use std::{borrow::Cow, cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use eagleray_types::{
    DeploymentKey, ErrorCode,
    control::{DeploymentTarget, TargetUpdate, Unreachable},
};
use eagleray_wire::{
    Flags, HeadError, ModelKey, ResponsePayload, SessionKey,
    region::{Arrival, Attached, Attachment, Held},
};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::core::{Limits, Refused, Submit};

pub use exchange::{Exchange, Room};
pub use loads::{EVERY as REPORT_EVERY, Reporter};
use state::State;
pub use state::view_of;

/// Body bytes that may go out before the replica gives credit, counted over REQUEST and BODY.
pub const INITIAL_BODY_CREDIT: usize = 64 * 1024;
/// Bytes of an answer that a replica may send before it is given credit: what an answer may cost whose client takes
/// nothing.
pub const INITIAL_ANSWER_CREDIT: usize = 64 * 1024;
/// The same once [`PROVEN_BYTES`] of it were taken.
const PROVEN_ANSWER_CREDIT: usize = 512 * 1024;
/// More than sockets swallow of an answer that nobody reads: Linux lets a socket hold 4 MiB that are to be sent, and the
/// other end's holds little until somebody reads there.
const PROVEN_BYTES: usize = 8 * 1024 * 1024;
/// The same of an answer that is long indeed, once [`LONG_BYTES`] of it were taken: the replica's threads and ours then wake
/// for each MiB and not for each quarter of one.
const LONG_ANSWER_CREDIT: usize = 2 * 1024 * 1024;
const LONG_BYTES: usize = 64 * 1024 * 1024;

/// What a router is made from.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of the random choices.
    pub seed: u64,
    /// Counters that all routers of the process share.
    pub limits: Arc<Limits>,
    /// It makes calls, so replicas are asked for a channel on which values go in regions; what comes is mapped here.
    /// Whoever makes it watches its time.
    pub regions: Option<Arc<Held>>,
    /// Where it says which replicas it cannot connect to. What finds no room there is said again later.
    pub unreachable: Option<mpsc::Sender<Unreachable>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            limits: Arc::new(Limits::new()),
            regions: None,
            unreachable: None,
        }
    }
}

/// What became of a target update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::enum_variant_names,
    reason = "`Applied::Applied` reads well where it is matched"
)]
pub enum Applied {
    Applied,
    /// A number is missing before it: nothing was changed, a snapshot is needed.
    Gap,
    /// It is older than what is known, or of an older epoch: nothing was changed.
    Stale,
}

/// A request as its owner gives it.
#[derive(Debug)]
pub struct Outgoing {
    /// The encoded [`RequestHead`](eagleray_wire::RequestHead).
    pub head: Bytes,
    /// What is there of the body.
    pub first: Bytes,
    /// More of it, in order.
    pub rest: VecDeque<Bytes>,
    /// The body is whole; otherwise [`Exchange::push_body`] and [`Exchange::end_body`] follow.
    pub complete: bool,
    /// Running it twice does no harm.
    pub repeatable: bool,
    pub deadline: Option<Instant>,
    /// Body bytes that are kept after they were sent, so that the request can move to another replica.
    pub keep_bytes: usize,
    /// The multiplexed model that it asks for: a replica that holds it is preferred.
    pub model: Option<ModelKey>,
    /// The session that it belongs to: the same replica is preferred for all of it.
    pub session: Option<SessionKey>,
    /// Of a call: what goes beside the body, as the head names it.
    pub attached: Vec<Attached>,
}

impl Outgoing {
    /// A request with its whole body, kept.
    pub fn whole(head: Bytes, body: Bytes) -> Self {
        let keep_bytes = body.len();
        Self {
            head,
            first: body,
            rest: VecDeque::new(),
            complete: true,
            repeatable: false,
            deadline: None,
            keep_bytes,
            model: None,
            session: None,
            attached: Vec::new(),
        }
    }

    fn buffered_bytes(&self) -> usize {
        self.head.len() + self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }
}

/// The first frame of an answer. More data may follow on the [`Exchange`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// END: nothing follows. ERROR: the data is a pickled exception.
    pub flags: Flags,
    /// Head, trailers and data, for [`Answer::parse`].
    pub payload: Bytes,
    /// To a call: what came beside the data.
    pub arrivals: Vec<Arrival>,
    /// To HTTP: the route of user code that took the request, without the application's prefix, if the replica knows it.
    pub route: Option<Arc<str>>,
}

impl Answer {
    /// Takes the payload apart. On an error, call [`Exchange::break_peer`].
    pub fn parse(&self) -> Result<ResponsePayload<'_>, HeadError> {
        ResponsePayload::decode(self.flags, &self.payload)
    }

    pub fn is_complete(&self) -> bool {
        self.flags.contains(Flags::END)
    }

    pub fn is_error(&self) -> bool {
        self.flags.contains(Flags::ERROR)
    }
}

/// More of an answer, after its first frame.
#[derive(Clone, Debug)]
pub struct Data {
    /// `END_OF_MESSAGE`: a message, or an item of a streaming call, ends with these bytes. TEXT: it is text.
    pub flags: Flags,
    pub bytes: Bytes,
    /// To a streaming call: what came beside the item that begins here.
    pub arrivals: Vec<Arrival>,
}

/// The whole answer to a call.
#[derive(Clone, Debug)]
pub struct Value {
    pub data: Bytes,
    pub attachments: Vec<Attachment>,
    /// The value is an exception.
    pub is_error: bool,
}

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: ErrorCode,
    /// What is known besides the code; may be empty.
    pub message: Cow<'static, str>,
}

impl Failure {
    pub const fn new(code: ErrorCode) -> Self {
        Self {
            code,
            message: Cow::Borrowed(""),
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::new(code)
    }
}

/// A router of this thread. Clones are the same router.
#[derive(Clone, Debug)]
pub struct Handle {
    state: Rc<RefCell<State>>,
}

impl Handle {
    /// Makes a router and starts its driver on the current `LocalRuntime` or `LocalSet`.
    pub fn new(options: Options) -> Self {
        Self::with_driver(options).0
    }

    /// The same, with the driver's task. It ends only by a panic; then this router carries nothing any more.
    pub fn with_driver(options: Options) -> (Self, JoinHandle<()>) {
        let state = Rc::new(RefCell::new(State::new(options)));
        let handle = Self { state };
        let driver = tokio::task::spawn_local(driver::drive(handle.clone()));
        (handle, driver)
    }

    /// Takes a change of what is known of deployments.
    pub fn apply(&self, update: &TargetUpdate) -> Applied {
        let applied = self.state.borrow_mut().apply(Instant::now(), update);
        self.settle();
        applied
    }

    /// Adds, or changes, a deployment that only this router knows: no update removes it.
    pub fn add_view(&self, target: &DeploymentTarget) {
        self.state.borrow_mut().add_view(Instant::now(), target);
        self.settle();
    }

    /// Removes a deployment that only this router knows. What waits for it fails.
    pub fn remove_view(&self, key: &DeploymentKey) {
        self.state.borrow_mut().remove_view(Instant::now(), key);
        self.settle();
    }

    /// Hands a request over. Dropping the exchange cancels it.
    ///
    /// # Errors
    /// The request was not taken: no such deployment, one that failed, a full queue, a deadline that has passed.
    pub fn submit(
        &self,
        now: Instant,
        key: &DeploymentKey,
        request: Outgoing,
    ) -> Result<Exchange, Failure> {
        let submit = Submit {
            repeatable: request.repeatable,
            deadline: request.deadline,
            buffered_bytes: request.buffered_bytes(),
            model: request.model,
            session: request.session,
        };
        let mut state = self.state.borrow_mut();
        let entry = match state.submit(now, key, submit, request) {
            Ok(entry) => entry,
            Err(refused) => {
                state.tell_news();
                let message = match refused {
                    Refused::Unavailable => state.unavailable(key),
                    Refused::UnknownDeployment => Cow::Borrowed("the deployment is not known here"),
                    Refused::BackPressure | Refused::Overloaded | Refused::DeadlineExceeded => {
                        Cow::Borrowed("")
                    }
                };
                return Err(Failure {
                    code: refused.code(),
                    message,
                });
            }
        };
        drop(state);
        self.settle_at(now);
        Ok(Exchange::new(self.clone(), entry))
    }

    /// The node ends: see [`Core::drain`](crate::core::Core::drain).
    pub fn drain(&self) {
        self.state.borrow_mut().drain(Instant::now());
        self.settle();
    }

    /// Writes what sockets take at once of what waits in buffers; the rest is left to the driver.
    fn write_early(&self) {
        self.state.borrow_mut().links().write_early();
    }

    /// Carries out what the state machine wants done. To be called after everything that changes it.
    fn settle(&self) {
        self.settle_at(Instant::now());
    }

    fn settle_at(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        state.settle(now);
        // Rare: a replica came. The task needs the handle, which the state itself does not have.
        while let Some(connect) = state.next_connect() {
            let task = tokio::task::spawn_local(connection::run(self.clone(), connect.clone()));
            state.links().begin(connect.connection, task.abort_handle());
        }
    }
}
