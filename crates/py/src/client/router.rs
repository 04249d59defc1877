//! `Router`: the router that all handles of a process share, on a thread of its own.
//!
//! It follows the controller's targets and keeps the last ones while the controller is away. A call for a
//! deployment that is not known (yet) waits for news of it, for a while: targets come on another connection than the
//! answer that told the caller of the deployment.

use std::{cell::Cell, rc::Rc, sync::Arc, thread::JoinHandle, time::Duration};

use bytes::{Bytes, BytesMut};
use eagleray_replica::Cancel;
use eagleray_router::service::{Applied, Failure, Handle, Options, Outgoing};
use eagleray_types::{
    DeploymentKey, ErrorCode,
    control::{ApiRequest, ApiResponse, Empty, api_request, api_response},
};
use eagleray_wire::{CallHead, Decoder, Frame, RequestHead};
use parking_lot::Mutex;
use prost::Message;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::PyBytes,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, timeout_at},
};

use super::call::{Call, Outcome, State};
use crate::replica::Request;

/// Calls that may wait for the router's thread; it only falls behind when the process has no CPU.
const CALLS: usize = 65_536;
/// How long a call waits for news of a deployment that is not known.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_LAST: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Order {
    key: DeploymentKey,
    head: Bytes,
    body: Bytes,
    deadline: Option<std::time::Instant>,
    state: Unfinished,
}

/// Ends the call when whatever held it is dropped, at whichever step: a caller never waits for nothing.
#[derive(Debug)]
struct Unfinished(Arc<State>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.finish(Outcome::Failure("Cancelled", String::new()));
    }
}

#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Router {
    orders: mpsc::Sender<Order>,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pid: u32,
}

#[pymethods]
impl Router {
    /// Follows the targets of the controller behind this socket.
    #[new]
    fn new(controller_socket_path: String) -> PyResult<Self> {
        let (sender, receiver) = mpsc::channel(CALLS);
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("eagleray-router".to_owned())
            .spawn(move || run(controller_socket_path, receiver, &stopped))?;
        Ok(Self {
            orders: sender,
            stop,
            thread: Mutex::new(Some(thread)),
            pid: std::process::id(),
        })
    }

    /// Sends a call; `arguments` is the pickled `(args, kwargs)`. Never waits. `parent` is the request that the calling
    /// code serves: its deadline is the call's, and with it the call is cancelled.
    #[pyo3(signature = (application, deployment, method, multiplexed_model_id, session_id, arguments, parent = None))]
    #[expect(clippy::too_many_arguments, reason = "a call has these parts")]
    fn call(
        &self,
        application: String,
        deployment: String,
        method: &str,
        multiplexed_model_id: &str,
        session_id: &str,
        arguments: &Bound<'_, PyBytes>,
        parent: Option<&Bound<'_, Request>>,
    ) -> PyResult<Call> {
        if self.pid != std::process::id() {
            return Err(PyRuntimeError::new_err(
                "this router belongs to the process that this one was forked from",
            ));
        }
        let request_id = request_id();
        let mut head = BytesMut::with_capacity(128);
        RequestHead::Call(CallHead {
            request_id: request_id.as_bytes(),
            revision: b"",
            traceparent: b"",
            priority: 0,
            method: method.as_bytes(),
            multiplexed_model_id: multiplexed_model_id.as_bytes(),
            session_id: session_id.as_bytes(),
            stream: false,
        })
        .encode(&mut head)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let state = Arc::new(State::default());
        let parent = parent.map(|parent| parent.get().core());
        if let Some(parent) = parent {
            let call: Arc<dyn Cancel> = state.clone();
            parent.cancels(&call);
        }
        let order = Order {
            key: DeploymentKey::new(application, deployment),
            head: head.freeze(),
            body: Bytes::copy_from_slice(arguments.as_bytes()),
            deadline: parent.and_then(eagleray_replica::Request::deadline_of_calls),
            state: Unfinished(Arc::clone(&state)),
        };
        if let Err(refused) = self.orders.try_send(order) {
            let message = match &refused {
                mpsc::error::TrySendError::Full(_) => {
                    format!("{CALLS} calls of this process wait to be sent")
                }
                mpsc::error::TrySendError::Closed(_) => {
                    "the router of this process has ended".to_owned()
                }
            };
            state.finish(Outcome::Failure("Unavailable", message));
        }
        Ok(Call::new(state, request_id))
    }

    /// Ends the thread; calls that go on are cancelled.
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

fn run(path: String, mut orders: mpsc::Receiver<Order>, stop: &Notify) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        fail_all(
            &mut orders,
            "the router's thread cannot start: no descriptors are left",
        );
        return;
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let handle = Handle::new(Options {
            seed: fastrand::u64(..),
            ..Options::default()
        });
        let (news, heard) = watch::channel(0_u64);
        tokio::task::spawn_local(follow(path, handle.clone(), news));
        let serve = async {
            while let Some(order) = orders.recv().await {
                tokio::task::spawn_local(carry_out(handle.clone(), order, heard.clone()));
            }
        };
        tokio::select! {
            () = serve => {}
            () = stop.notified() => {}
        }
    });
    drop(local);
    fail_all(&mut orders, "the router of this process has ended");
}

fn fail_all(orders: &mut mpsc::Receiver<Order>, message: &str) {
    orders.close();
    // Until nothing more can come: a sender that was let in before the close may still be on its way.
    while let Some(order) = orders.blocking_recv() {
        order
            .state
            .0
            .finish(Outcome::Failure("Unavailable", message.to_owned()));
    }
}

async fn carry_out(handle: Handle, order: Order, news: watch::Receiver<u64>) {
    let answer = async {
        match exchange(&handle, &order, news).await {
            Ok((data, is_error)) => Outcome::Answer(data, is_error),
            Err(failure) => Outcome::Failure(name(failure.code), failure.message.into_owned()),
        }
    };
    tokio::select! {
        outcome = answer => order.state.0.finish(outcome),
        () = order.state.0.cancelled.notified() => {}
    }
}

async fn exchange(
    handle: &Handle,
    order: &Order,
    mut news: watch::Receiver<u64>,
) -> Result<(Bytes, bool), Failure> {
    let mut patience = Instant::now() + UNKNOWN_FOR;
    if let Some(deadline) = order.deadline {
        patience = patience.min(deadline.into());
    }
    loop {
        news.borrow_and_update();
        let outgoing = Outgoing {
            deadline: order.deadline,
            ..Outgoing::whole(order.head.clone(), order.body.clone())
        };
        match handle.submit(std::time::Instant::now(), &order.key, outgoing) {
            Ok(exchange) => return exchange.collect().await,
            Err(failure) if failure.code == ErrorCode::NotFound => {
                // An error is either the time or the end of the thread: no news will come.
                if !matches!(timeout_at(patience, news.changed()).await, Ok(Ok(()))) {
                    return Err(Failure {
                        message: format!("there is no deployment {}", order.key).into(),
                        ..failure
                    });
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Applies the controller's targets for as long as the thread lives.
async fn follow(path: String, handle: Handle, news: watch::Sender<u64>) {
    let pause = Rc::new(Cell::new(RECONNECT_FIRST));
    loop {
        // Every end is the same to us: connect again, and a snapshot comes first.
        drop(follow_once(&path, &handle, &news, &pause).await);
        sleep(pause.get()).await;
        pause.set((pause.get() * 2).min(RECONNECT_LAST));
    }
}

async fn follow_once(
    path: &str,
    handle: &Handle,
    news: &watch::Sender<u64>,
    pause: &Cell<Duration>,
) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    let mut out = BytesMut::new();
    let request = ApiRequest {
        body: Some(api_request::Body::WatchTargets(Empty {})),
    };
    Frame::control(1, request.encode_to_vec()).encode(&mut out);
    stream.write_all(&out).await?;
    let decoder = Decoder::control();
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = decoder.decode(&mut buffer).map_err(std::io::Error::other)? {
            let response = ApiResponse::decode(frame.payload).map_err(std::io::Error::other)?;
            let Some(api_response::Body::Target(update)) = response.body else {
                continue;
            };
            if handle.apply(&update) == Applied::Gap {
                return Ok(());
            }
            pause.set(RECONNECT_FIRST);
            news.send_modify(|number| *number += 1);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// The code's name, for Python.
const fn name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadRequest => "BadRequest",
        ErrorCode::NotFound => "NotFound",
        // For whoever called, its time limit is over either way.
        ErrorCode::DeadlineExceeded | ErrorCode::NoReplica => "DeadlineExceeded",
        ErrorCode::RequestTimeout => "RequestTimeout",
        ErrorCode::PayloadTooLarge => "PayloadTooLarge",
        ErrorCode::Cancelled => "Cancelled",
        ErrorCode::UserCode => "UserCode",
        ErrorCode::Internal => "Internal",
        ErrorCode::ReplicaDied => "ReplicaDied",
        // A full queue in bytes is a full queue to Python.
        ErrorCode::BackPressure | ErrorCode::Overloaded => "BackPressure",
        ErrorCode::Unavailable => "Unavailable",
        ErrorCode::Draining => "Draining",
    }
}
