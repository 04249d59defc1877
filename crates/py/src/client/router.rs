//! `Router`: the router that all handles of a process share, on a thread of its own.
//!
//! It follows the controller's targets and keeps the last ones while the controller is away. A call for a
//! deployment that is not known (yet) waits for news of it, for a while: targets come on another connection than the
//! answer that told the caller of the deployment.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use eagleray_replica::Cancel;
use eagleray_router::service::{Handle, Options};
use eagleray_types::DeploymentKey;
use eagleray_wire::{
    Attachments, CallHead, ModelKey, RequestHead, SessionKey,
    region::{Held, Pool},
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
};
use tokio::sync::{Notify, mpsc, watch};

use super::{
    arguments::Arguments,
    call::Call,
    carry::{self, Answer, Order, Shared, Unfinished},
    orders::Orders,
    state::{Failed, Outcome, State},
    targets::{Targets, follow},
};
use crate::{
    region::{self, Region},
    replica::{Replica, Request},
};

#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Router {
    orders: Arc<Orders>,
    targets: Arc<Targets>,
    /// For arguments.
    regions: Arc<Pool>,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pid: u32,
}

#[pymethods]
impl Router {
    /// Follows the targets of the controller behind this socket. Calls made in a batch of `replica`'s loop, that of the
    /// thread that attached it, leave together.
    #[new]
    #[pyo3(signature = (controller_socket_path, replica = None))]
    fn new(controller_socket_path: String, replica: Option<&Bound<'_, Replica>>) -> PyResult<Self> {
        let (orders, receiver) = Orders::new();
        if let Some(replica) = replica {
            replica.get().hold(&orders);
        }
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let targets = Arc::new(Targets::default());
        let of_thread = Arc::clone(&targets);
        let warm = Arc::new(Notify::new());
        let on_warm = Arc::clone(&warm);
        let regions = Pool::new(move || on_warm.notify_one());
        let on_idle = Arc::clone(&warm);
        let kept = Regions {
            pool: Arc::clone(&regions),
            held: Held::new(move || on_idle.notify_one()),
            warm,
        };
        let thread = std::thread::Builder::new()
            .name("eagleray-router".to_owned())
            .spawn(move || {
                run(
                    &controller_socket_path,
                    receiver,
                    &stopped,
                    &of_thread,
                    kept,
                );
            })?;
        Ok(Self {
            orders,
            targets,
            regions,
            stop,
            thread: Mutex::new(Some(thread)),
            pid: std::process::id(),
        })
    }

    /// Sends a call. Never waits. `arguments` are the body, bytes or a `Region`, or a list of `(kind, bytes, Region or Call)`: the segments
    /// of an envelope, where a call stands for its answer. An empty `method` reserves a slot; `Call.dispatch` says
    /// what runs there. `replica_id`: the only replica that it may go to. `parent` is the request that the calling
    /// code serves: its id and route are the call's, its deadline too, and with it the call is cancelled.
    #[pyo3(signature = (application, deployment, method, multiplexed_model_id, session_id, arguments, parent = None,
                        stream = false, replica_id = ""))]
    #[expect(clippy::too_many_arguments, reason = "a call has these parts")]
    fn call(
        &self,
        application: String,
        deployment: String,
        method: &str,
        multiplexed_model_id: &str,
        session_id: &str,
        arguments: &Bound<'_, PyAny>,
        parent: Option<&Bound<'_, Request>>,
        stream: bool,
        replica_id: &str,
    ) -> PyResult<Call> {
        if self.pid != std::process::id() {
            return Err(PyRuntimeError::new_err(
                "this router belongs to the process that this one was forked from",
            ));
        }
        let (request_id, route) = match parent {
            Some(parent) => parent.get().identity()?,
            None => (request_id(), String::new()),
        };
        let mut head = BytesMut::with_capacity(128);
        RequestHead::Call(CallHead {
            request_id: request_id.as_bytes(),
            revision: b"",
            traceparent: b"",
            priority: 0,
            method: method.as_bytes(),
            multiplexed_model_id: multiplexed_model_id.as_bytes(),
            session_id: session_id.as_bytes(),
            stream: stream || method.is_empty(),
            route: route.as_bytes(),
            attachments: Attachments::default(),
        })
        .encode(&mut head)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let state = Arc::new(State::default());
        let parent = parent.map(|parent| parent.get().core());
        if let Some(parent) = parent {
            let call: Arc<dyn Cancel> = state.clone();
            parent.cancels(&call);
        }
        let request = carry::Request {
            key: DeploymentKey::new(application, deployment),
            replica_id: replica_id.to_owned(),
            head: head.freeze(),
            arguments: Arguments::from_python(arguments)?,
            answer: match (method.is_empty(), stream) {
                (true, _) => Answer::Reservation,
                (false, true) => Answer::Items,
                (false, false) => Answer::Value,
            },
            model: ModelKey::of(multiplexed_model_id.as_bytes()),
            session: SessionKey::of(session_id.as_bytes()),
            deadline: parent.and_then(eagleray_replica::Request::deadline_of_calls),
        };
        let order = Order {
            request,
            state: Unfinished(Arc::clone(&state)),
        };
        self.orders.send(order);
        Ok(Call::new(state, request_id))
    }

    /// Copies buffers, one after the other, into a region: the body of a call. `None`: there is no room, and they go as
    /// bytes.
    #[expect(clippy::needless_pass_by_value, reason = "a list from Python")]
    fn share(&self, py: Python<'_>, parts: Vec<Bound<'_, PyAny>>) -> PyResult<Option<Region>> {
        region::with_parts(py, &parts, |parts| self.regions.lend(parts)).map(region::lent)
    }

    /// Ids of the replicas of a deployment. Waits for news of it for `timeout_s`; `None`: it is not known.
    fn replicas(
        &self,
        py: Python<'_>,
        application: String,
        deployment: String,
        timeout_s: f64,
    ) -> Option<Vec<String>> {
        let key = DeploymentKey::new(application, deployment);
        let limit = Duration::try_from_secs_f64(timeout_s).unwrap_or(Duration::ZERO);
        let until = Instant::now() + limit.min(Duration::from_secs(60));
        py.detach(|| self.targets.replicas(&key, until))
    }

    /// Ends the thread; calls that go on fail.
    fn close(&self, py: Python<'_>) {
        self.stop.notify_one();
        let thread = self.thread.lock().take();
        if let (Some(thread), true) = (thread, self.pid == std::process::id()) {
            // A panic there was reported where it happened.
            drop(py.detach(|| thread.join()));
        }
    }
}

/// A fresh UUID4.
fn request_id() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

/// The regions that a router's thread looks after.
struct Regions {
    /// Of arguments.
    pool: Arc<Pool>,
    /// Of results.
    held: Arc<Held>,
    /// Some are warm, or idle.
    warm: Arc<Notify>,
}

impl Regions {
    fn poll_timeout(&self) -> Option<Instant> {
        let times = [self.pool.poll_timeout(), self.held.poll_timeout()];
        times.into_iter().flatten().min()
    }

    /// Gives warm memory back in time, for as long as the thread lives.
    async fn look_after(self) {
        loop {
            self.warm.notified().await;
            while let Some(at) = self.poll_timeout() {
                tokio::time::sleep_until(at.into()).await;
                let now = Instant::now();
                self.pool.on_timeout(now);
                self.held.on_timeout(now);
            }
        }
    }
}

fn run(
    path: &str,
    mut orders: mpsc::Receiver<Order>,
    stop: &Notify,
    targets: &Arc<Targets>,
    regions: Regions,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return fail_all(
            orders,
            "the router's thread cannot start: no descriptors are left",
        );
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let handle = Handle::new(Options {
            seed: fastrand::u64(..),
            regions: Some(Arc::clone(&regions.held)),
            ..Options::default()
        });
        let (sender, news) = watch::channel(0_u64);
        let shared = Shared {
            handle: handle.clone(),
            targets: Arc::clone(targets),
            news,
            resolving: Rc::new(Cell::new(0)),
            regions: Arc::clone(&regions.pool),
        };
        tokio::task::spawn_local(regions.look_after());
        let serve = async {
            while let Some(order) = orders.recv().await {
                tokio::task::spawn_local(shared.clone().carry_out(order));
            }
        };
        tokio::select! {
            () = serve => {}
            () = follow(path, &handle, targets, sender) => {}
            () = stop.notified() => {}
        }
    });
    drop(local);
    fail_all(orders, "the router of this process has ended");
}

fn fail_all(mut orders: mpsc::Receiver<Order>, message: &str) {
    orders.close();
    // Until nothing more can come: a sender that was let in before the close may still be on its way.
    while let Some(order) = orders.blocking_recv() {
        let failed = Failed::new("Unavailable", message);
        order.state.0.finish(Outcome::Failure(failed));
    }
}
