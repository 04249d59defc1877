//! The router that all handles of a process share, on a thread of its own.
//!
//! It follows the controller's targets and keeps the last ones while the controller is away. A call for a
//! deployment that is not known (yet) waits for news of it, for a while: targets come on another connection than the
//! answer that told the caller of the deployment.

use std::{cell::Cell, rc::Rc, sync::Arc, thread::JoinHandle, time::Instant};

use bytes::BytesMut;
use eagleray_router::service::{Handle, Options, Reporter};
use eagleray_types::{Caller, Cancel, DeploymentKey};
use eagleray_wire::{
    Attachments, CallHead, HeadError, ModelKey, RequestHead, SessionKey,
    region::{Held, Lent, Pool},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    arguments::Arguments,
    call::{Call, Failed, Outcome},
    carry::Shared,
    metrics::Metrics,
    order::{self, Answer, Unfinished},
    orders::Orders,
    reservation::Reservation,
    targets::{Followed, Targets, follow},
};

/// Replicas that cannot be reached and of which the controller has not heard.
const REPORTS: usize = 64;

/// One call, as its caller wants it.
#[expect(
    missing_debug_implementations,
    reason = "whoever makes the call may not have one"
)]
pub struct Order<'a> {
    pub key: DeploymentKey,
    /// The only replica that it may go to; empty: any.
    pub replica_id: &'a str,
    /// Empty: the call reserves a slot, and [`Reservation::dispatch`] says what runs there.
    pub method: &'a str,
    pub multiplexed_model_id: &'a str,
    pub session_id: &'a str,
    pub arguments: Arguments,
    /// The caller iterates over the result.
    pub stream: bool,
    /// The request that makes the call; `None`: it has a fresh id, no route, no time limit, and nobody ends it.
    pub caller: Option<&'a dyn Caller>,
}

/// A call that was sent.
#[derive(Debug)]
pub struct Sent {
    pub call: Arc<Call>,
    /// Of a call that named no method, and of no other.
    pub reservation: Option<Reservation>,
    pub request_id: String,
}

/// The process's router. Dropping it leaves its thread alone: [`Router::close`] ends it.
#[derive(Debug)]
pub struct Router {
    orders: Arc<Orders>,
    targets: Arc<Targets>,
    /// For arguments.
    regions: Arc<Pool>,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pid: u32,
}

impl Router {
    /// Starts the thread, which follows the targets of the controller behind this socket. `actor`, for metrics: the id of
    /// the replica that this process is, or `DRIVER`.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(controller_socket_path: String, actor: String) -> std::io::Result<Self> {
        let (orders, receiver) = Orders::new();
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
                let metrics = Metrics::new(&controller_socket_path, &actor);
                run(
                    &controller_socket_path,
                    metrics,
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

    /// Whether this process is a fork of the one whose router it is: it has no thread here.
    pub fn is_forked(&self) -> bool {
        self.pid != std::process::id()
    }

    /// By which calls leave together.
    pub const fn orders(&self) -> &Arc<Orders> {
        &self.orders
    }

    /// Sends a call. Never waits.
    ///
    /// # Errors
    /// A name is too long for a head.
    pub fn call(&self, order: Order<'_>) -> Result<Sent, HeadError> {
        let (request_id, route) = order
            .caller
            .map_or_else(|| (fresh_id(), String::new()), Caller::identity);
        let traceparent = order.caller.map(Caller::traceparent).unwrap_or_default();
        let reserves = order.method.is_empty();
        let mut head = BytesMut::with_capacity(128);
        RequestHead::Call(CallHead {
            request_id: request_id.as_bytes(),
            traceparent: traceparent.as_bytes(),
            priority: 0,
            method: order.method.as_bytes(),
            multiplexed_model_id: order.multiplexed_model_id.as_bytes(),
            session_id: order.session_id.as_bytes(),
            stream: order.stream || reserves,
            route: route.as_bytes(),
            attachments: Attachments::default(),
        })
        .encode(&mut head)?;
        let call = Arc::new(Call::default());
        let (reservation, dispatched) = reserves.then(Reservation::new).unzip();
        let request = order::Request {
            key: order.key,
            replica_id: order.replica_id.to_owned(),
            head: head.freeze(),
            route,
            arguments: order.arguments,
            answer: match (dispatched, order.stream) {
                (Some(dispatched), _) => Answer::Reservation(dispatched),
                (None, true) => Answer::Items,
                (None, false) => Answer::Value,
            },
            model: ModelKey::of(order.multiplexed_model_id.as_bytes()),
            session: SessionKey::of(order.session_id.as_bytes()),
            deadline: order.caller.and_then(Caller::deadline_of_calls),
        };
        self.orders.send(order::Order {
            request,
            call: Unfinished(Arc::clone(&call)),
        });
        if let Some(caller) = order.caller {
            let call: Arc<dyn Cancel> = call.clone();
            caller.cancels(&call);
        }
        Ok(Sent {
            call,
            reservation,
            request_id,
        })
    }

    /// Copies bytes, one after the other, into a region: the body of a call. `None`: there is no room, and they go as
    /// bytes.
    pub fn share(&self, parts: &[&[u8]]) -> Option<Arc<Lent>> {
        self.regions.lend(parts)
    }

    /// Ids of the replicas of a deployment, in a stable order. Waits for news of it until then; `None`: it is not known.
    pub fn replicas(&self, key: &DeploymentKey, until: Instant) -> Option<Vec<String>> {
        self.targets.replicas(key, until)
    }

    /// Ends the thread and waits for it; calls that go on fail.
    pub fn close(&self) {
        self.stop.notify_one();
        let thread = self.thread.lock().take();
        if let (Some(thread), false) = (thread, self.is_forked()) {
            // A panic there was reported where it happened.
            drop(thread.join());
        }
    }
}

/// A fresh UUID4, for a call that no request makes.
fn fresh_id() -> String {
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
    metrics: Metrics,
    mut orders: mpsc::Receiver<order::Order>,
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
        let (unreachable, reports) = mpsc::channel(REPORTS);
        let handle = Handle::new(Options {
            seed: fastrand::u64(..),
            regions: Some(Arc::clone(&regions.held)),
            unreachable: Some(unreachable),
            ..Options::default()
        });
        let (sender, news) = watch::channel(0_u64);
        let metrics = Rc::new(metrics);
        let shared = Shared {
            metrics: Rc::clone(&metrics),
            handle: handle.clone(),
            targets: Arc::clone(targets),
            news,
            resolving: Rc::new(Cell::new(0)),
            regions: Arc::clone(&regions.pool),
        };
        tokio::task::spawn_local(regions.look_after());
        // A process may have several, one after the other, and each counts by itself.
        let name = format!("handles {}/{:08x}", std::process::id(), fastrand::u32(..));
        let of_metrics = handle.clone();
        let router = Followed {
            reporter: Reporter::new(handle.clone(), name),
            handle,
        };
        let serve = async {
            while let Some(order) = orders.recv().await {
                tokio::task::spawn_local(shared.clone().carry_out(order));
            }
        };
        tokio::select! {
            () = serve => {}
            () = follow(path, &router, targets, sender, reports) => {}
            () = metrics.watch(&of_metrics) => {}
            () = stop.notified() => {}
        }
        metrics.end(&of_metrics);
    });
    drop(local);
    fail_all(orders, "the router of this process has ended");
}

fn fail_all(mut orders: mpsc::Receiver<order::Order>, message: &str) {
    orders.close();
    // Until nothing more can come: a sender that was let in before the close may still be on its way.
    while let Some(order) = orders.blocking_recv() {
        let failed = Failed::new("Unavailable", message);
        order.call.0.finish(Outcome::Failure(failed));
    }
}
