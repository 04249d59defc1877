//! The replica's side of the module: requests for the event loop and for the pool's threads.
//!
//! Python objects are made and touched only by threads that hold the interpreter lock: the I/O thread hands over
//! plain Rust values, and [`Replica::drain`] turns them into objects on the loop's thread, as late as possible.

use std::{
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle, ThreadId},
    time::Duration,
};

use eagleray_client::Orders;
use eagleray_replica::{Handle, Metrics, Next, Serving, Stacks, Wake, Work};
use eagleray_types::control::{
    CompiledRoutes, Failed, OtherRoute, Outcome, Ready, ReplicaEvent, replica_event::Body,
};
use eagleray_wire::ModelKey;
use parking_lot::Mutex;
use pyo3::{exceptions::PyRuntimeError, intern, prelude::*, types::PyList};
use rustc_hash::FxHashMap;

mod anew;
mod child;
mod command;
mod events;
mod headers;
mod immediate;
mod request;
mod resident;
mod scope;
mod text;

use crate::metrics::Sheet;
pub(crate) use anew::{begin_anew, read_command, rename_process};
use events::Outside;
pub(crate) use request::Request;

/// What the loop's requests share.
#[derive(Default)]
pub(crate) struct Loop {
    /// The loop's `create_future`.
    create_future: OnceLock<Py<PyAny>>,
    thread: OnceLock<ThreadId>,
    /// Requests that events may name.
    active: Mutex<FxHashMap<u64, Py<Request>>>,
}

/// The replica of this process: see `eagleray._replica`.
#[pyclass(frozen, module = "eagleray._core")]
pub(crate) struct Replica {
    handle: Handle,
    wake: Arc<Wake>,
    of_loop: Arc<Loop>,
    on_event: Py<PyAny>,
    /// Calls that requests make, held in batches.
    orders: Arc<OnceLock<Arc<Orders>>>,
    metrics: OnceLock<Arc<Metrics>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[pymethods]
impl Replica {
    /// Takes over three descriptors, the connection to the node, the listening socket and the file that the stacks are
    /// written to (see `eagleray._replica.stacks`), and starts the I/O thread.
    /// `on_event(kind, value)` is called by `drain`: "command" with a dict, "problem"
    /// with a text for the log, "thread", "drained", "terminate".
    #[new]
    fn new(control_fd: i32, listen_fd: i32, stacks_fd: i32, on_event: Py<PyAny>) -> PyResult<Self> {
        let wake = Arc::new(Wake::new()?);
        let orders = Arc::new(OnceLock::new());
        let handler = Box::new(Outside {
            wake: Arc::clone(&wake),
            stacks: Stacks::new(own(stacks_fd)?),
            orders: Arc::clone(&orders),
        });
        let (handle, service) =
            eagleray_replica::build(own(control_fd)?, own(listen_fd)?, handler)?;
        Ok(Self {
            handle,
            wake,
            of_loop: Arc::default(),
            on_event,
            orders,
            metrics: OnceLock::new(),
            thread: Mutex::new(Some(service.spawn()?)),
        })
    }

    /// Readable when `drain` has something.
    fn fileno(&self) -> i32 {
        self.wake.as_fd().as_raw_fd()
    }

    /// The loop that calls `drain` and awaits what requests return.
    fn attach(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        // An error: it is attached already, which is said below.
        self.of_loop.thread.set(thread::current().id()).ok();
        let create_future = event_loop.getattr(intern!(event_loop.py(), "create_future"))?;
        self.of_loop
            .create_future
            .set(create_future.unbind())
            .map_err(|_| PyRuntimeError::new_err("the replica is attached to a loop already"))
    }

    /// From now on SIGTERM and SIGINT are the event "terminate"; children that are forked meet them as if this had not
    /// been called.
    fn hear_signals(&self) -> PyResult<()> {
        Ok(self.handle.hear_signals()?)
    }

    /// Handles events and returns new requests. When the list has more than one, `end_batch` must follow once all of
    /// them have begun.
    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        if child::came_back(py)? {
            return Ok(PyList::empty(py));
        }
        let mut requests = Vec::new();
        self.handle.turn(&self.wake, |work| {
            match work {
                Work::Event(event) => self.on_event(py, event)?,
                Work::Request(request) => requests.push(self.adopt(py, request)?),
            }
            PyResult::Ok(())
        })?;
        PyList::new(py, requests)
    }

    /// The loop goes on with `count` requests in this turn: what they send leaves together, at the latest with `flush`,
    /// which must follow.
    fn begin_batch(&self, count: usize) {
        self.handle.begin_batch(count);
    }

    fn flush(&self) {
        self.handle.flush();
    }

    /// What the requests of a batch sent leaves, at the latest with that of the next ones, if these wait already.
    fn end_batch(&self) {
        self.handle.end_batch();
    }

    /// Begins to take requests. `websockets`: user code takes them; else they are refused without asking it.
    #[pyo3(signature = (replica_id, max_ongoing_requests, max_body_bytes, sync_http, sync_methods, websockets = false))]
    fn serve(
        &self,
        replica_id: String,
        max_ongoing_requests: u32,
        max_body_bytes: u64,
        sync_http: bool,
        sync_methods: Vec<String>,
        websockets: bool,
    ) {
        self.handle.serve(Serving {
            replica_id,
            max_ongoing_requests,
            max_body_bytes,
            sync_http,
            sync_methods,
            websockets,
            metrics: self.metrics.get().cloned(),
        });
    }

    /// Where requests are counted that are served from now on; before `serve`.
    fn count_in(&self, sheet: &Sheet, deployment: &str, replica_id: &str, application: &str) {
        let metrics = Metrics::new(&sheet.0, deployment, replica_id, application);
        // An error: they are counted already.
        self.metrics.set(metrics).ok();
    }

    fn set_limit(&self, max_ongoing_requests: u32) {
        self.handle.set_limit(max_ongoing_requests);
    }

    /// While it is on, a loop that does not turn is not taken for one that hangs.
    fn set_exempt(&self, exempt: bool) {
        self.handle.set_exempt(exempt);
    }

    /// While it is on, routers send to other replicas if there are any.
    fn set_avoided(&self, avoided: bool) {
        self.handle.set_avoided(avoided);
    }

    /// The multiplexed models that are loaded here or being loaded, all of them: routers send requests for them here.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what comes from Python is owned"
    )]
    fn set_models(&self, model_ids: Vec<String>) {
        let keys = model_ids
            .iter()
            .filter_map(|id| ModelKey::of(id.as_bytes()));
        self.handle.set_models(keys);
    }

    /// The routes of user code, as they are declared, in the order of their numbers; before `serve`.
    fn set_routes(&self, routes: Vec<String>) {
        self.handle.set_routes(routes);
    }

    fn ongoing(&self) -> u32 {
        self.handle.ongoing()
    }

    /// Takes nothing new; the event "drained" follows.
    fn begin_drain(&self) {
        self.handle.drain();
    }

    /// Ends the I/O thread and the pool's threads.
    fn stop(&self, py: Python<'_>) {
        self.handle.stop();
        if let Some(thread) = self.thread.lock().take() {
            py.detach(|| thread.join().ok());
        }
    }

    /// A pool thread joins; False: there are enough.
    fn join_pool(&self) -> bool {
        self.handle.pool().join()
    }

    /// The next request for a pool thread, claimed, its body complete. Waits without the interpreter lock; None ends
    /// the thread.
    fn next_sync(&self, py: Python<'_>) -> PyResult<Option<Request>> {
        let mut woken = false;
        loop {
            if child::came_back(py)? {
                return Ok(None);
            }
            match self.handle.pool().next(woken) {
                Next::Run { request, spare } => {
                    if spare {
                        self.on_event
                            .call1(py, (intern!(py, "thread"), py.None()))?;
                    }
                    return Ok(Some(Request::new(request, Arc::clone(&self.of_loop))));
                }
                Next::Rest => {
                    py.detach(|| self.handle.rest_in_pool());
                    woken = true;
                }
                Next::Closed => return Ok(None),
            }
        }
    }

    fn tell_ready(
        &self,
        py: Python<'_>,
        sync_bodies: bool,
        start_microseconds: u64,
        docs_path: String,
        compiled_routes: Option<Routes>,
    ) -> PyResult<()> {
        if let Some(metrics) = self.metrics.get() {
            metrics.count_initialization(Duration::from_micros(start_microseconds));
        }
        self.tell(
            py,
            Body::Ready(Ready {
                sync_bodies,
                start_microseconds,
                docs_path,
                compiled_routes: compiled_routes.map(compiled),
                resident_bytes: resident::bytes(),
            }),
        )
    }

    fn tell_start_failed(&self, py: Python<'_>, message: String) -> PyResult<()> {
        self.tell(py, Body::StartFailed(Failed { message }))
    }

    fn tell_health(&self, py: Python<'_>, id: u64, failure: String) -> PyResult<()> {
        if let Some(metrics) = self.metrics.get() {
            metrics.count_health(failure.is_empty());
        }
        let mut outcome = outcome(id, failure);
        outcome.accepted = self.handle.accepted();
        outcome.resident_bytes = resident::bytes();
        self.tell(py, Body::Health(outcome))
    }

    fn tell_reconfigured(&self, py: Python<'_>, id: u64, failure: String) -> PyResult<()> {
        self.tell(py, Body::Reconfigured(outcome(id, failure)))
    }

    fn tell_drained(&self, py: Python<'_>) -> PyResult<()> {
        self.tell(py, Body::Drained(eagleray_types::control::Empty {}))
    }
}

impl Replica {
    /// Holds calls in batches of the loop.
    pub(crate) fn hold(&self, orders: &Arc<Orders>) {
        // A second router of this process would hold nothing.
        if let Some(thread) = self.of_loop.thread.get()
            && self.orders.set(Arc::clone(orders)).is_ok()
        {
            let handle = self.handle.clone();
            orders.hold_in_batches(*thread, move || handle.in_batch());
        }
    }

    fn tell(&self, py: Python<'_>, body: Body) -> PyResult<()> {
        if !child::came_back(py)? {
            self.handle.tell(&ReplicaEvent { body: Some(body) });
        }
        Ok(())
    }

    /// The request as Python sees it, which events may name from now on.
    fn adopt(&self, py: Python<'_>, core: Arc<eagleray_replica::Request>) -> PyResult<Py<Request>> {
        let serial = core.serial();
        let request = Py::new(py, Request::new(core, Arc::clone(&self.of_loop)))?;
        let known = request.clone_ref(py);
        self.of_loop.active.lock().insert(serial, known);
        Ok(request)
    }
}

/// Whether this process was forked from one that had a replica, or a router, or memory that values are shared in.
#[pyfunction]
pub(crate) fn in_forked_child() -> bool {
    eagleray_replica::in_forked_child()
}

#[expect(
    unsafe_code,
    reason = "descriptors come by number, from the environment that the node made"
)]
fn own(descriptor: i32) -> PyResult<OwnedFd> {
    if descriptor < 3 {
        return Err(PyRuntimeError::new_err(format!(
            "{descriptor} is no descriptor for a replica"
        )));
    }
    // SAFETY: the caller hands the descriptor over, as the method's documentation says; a wrong number is an error
    // at its first use.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// How many routes are compiled and how many are not, why none is, and the first of the others with why not.
type Routes = (u32, u32, String, Vec<(String, String)>);

fn compiled((compiled, as_asgi, reason, others): Routes) -> CompiledRoutes {
    let others = others.into_iter();
    CompiledRoutes {
        compiled,
        as_asgi,
        reason,
        others: others
            .map(|(path, reason)| OtherRoute { path, reason })
            .collect(),
    }
}

fn outcome(id: u64, failure: String) -> Outcome {
    Outcome {
        id,
        failure,
        ..Outcome::default()
    }
}
