//! Requests whose client left and whose work goes on, since they asked for it: `x-request-disconnect-disabled: ?1`.
//!
//! Nobody waits for their answers, but a replica that gets no credit stops in the middle of one: so each is read to its
//! end and thrown away, in a task of its own. A drain waits for them. Time limits hold for them too, and they end with the
//! proxy.
//!
//! They cost their sender nothing, so two things keep them from holding a service. Those that have not begun wait behind
//! all requests that somebody waits for. And `abandoned_requests` bounds them for the whole process, with
//! `abandoned_requests_per_deployment` and `abandoned_requests_per_connection`: one more is cancelled, as without the
//! header.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use eagleray_router::service::Exchange;
use eagleray_types::DeploymentKey;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::{sync::Notify, task::JoinSet};

use crate::{connection::Connection, counters::Counters, limits::Limits};

/// Those of one thread.
#[derive(Debug)]
pub(crate) struct Abandoned {
    /// Empty but between a client's end and the next turn of [`Self::read`].
    new: RefCell<Vec<One>>,
    news: Notify,
    count: Cell<usize>,
    by_deployment: Arc<ByDeployment>,
    counters: Arc<Counters>,
}

/// How many there are of each deployment, in the whole process. Touched only when a client leaves such a request, and at
/// its end.
#[derive(Debug, Default)]
pub(crate) struct ByDeployment(Mutex<FxHashMap<DeploymentKey, u64>>);

impl ByDeployment {
    fn add_below(&self, key: &DeploymentKey, most: u64) -> bool {
        let mut counts = self.0.lock();
        let count = counts.entry(key.clone()).or_insert(0);
        let has_room = *count < most;
        *count += u64::from(has_room);
        has_room
    }

    fn remove(&self, key: &DeploymentKey) {
        let mut counts = self.0.lock();
        let Some(count) = counts.get_mut(key) else {
            debug_assert!(false, "one of {key} has ended that was not counted");
            return;
        };
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[derive(Debug)]
struct One {
    exchange: Exchange,
    has_begun: bool,
    _room: Room,
}

/// Room for one, given back when dropped.
#[derive(Debug)]
struct Room {
    connection: Rc<Connection>,
    key: DeploymentKey,
    by_deployment: Arc<ByDeployment>,
    counters: Arc<Counters>,
}

impl Drop for Room {
    fn drop(&mut self) {
        let of_connection = &self.connection.abandoned;
        debug_assert!(of_connection.get() > 0, "each room is taken once");
        of_connection.set(of_connection.get().saturating_sub(1));
        self.by_deployment.remove(&self.key);
        self.counters.requests_abandoned_open.remove();
    }
}

impl Abandoned {
    pub(crate) fn new(by_deployment: Arc<ByDeployment>, counters: Arc<Counters>) -> Self {
        Self {
            new: RefCell::default(),
            news: Notify::new(),
            count: Cell::new(0),
            by_deployment,
            counters,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    /// Lets a request of `connection` to the deployment `key` go on without its client, if there is room for one more; else
    /// it is cancelled. `has_begun`: its answer.
    pub(crate) fn add(
        &self,
        mut exchange: Exchange,
        has_begun: bool,
        connection: &Rc<Connection>,
        key: &DeploymentKey,
        limits: &Limits,
    ) {
        let Some(room) = self.room(connection, key, limits) else {
            self.counters.requests_abandoned_cancelled.add();
            return;
        };
        if !has_begun {
            exchange.defer();
        }
        self.count.set(self.count.get() + 1);
        self.new.borrow_mut().push(One {
            exchange,
            has_begun,
            _room: room,
        });
        self.news.notify_one();
    }

    fn room(
        &self,
        connection: &Rc<Connection>,
        key: &DeploymentKey,
        limits: &Limits,
    ) -> Option<Room> {
        let open = &self.counters.requests_abandoned_open;
        if connection.abandoned.get() >= limits.abandoned_requests_per_connection
            || !open.add_below(limits.abandoned_requests)
        {
            return None;
        }
        let most = limits.abandoned_requests_per_deployment;
        if !self.by_deployment.add_below(key, most) {
            open.remove();
            return None;
        }
        connection.abandoned.set(connection.abandoned.get() + 1);
        Some(Room {
            connection: Rc::clone(connection),
            key: key.clone(),
            by_deployment: Arc::clone(&self.by_deployment),
            counters: Arc::clone(&self.counters),
        })
    }

    /// Reads all of them; `on_end` is called at the end of each. Does not end by itself.
    pub(crate) async fn read(&self, on_end: impl Fn()) {
        let mut reading = JoinSet::new();
        loop {
            for one in self.new.take() {
                reading.spawn_local(read_one(one));
            }
            tokio::select! {
                () = self.news.notified() => {}
                Some(_ended) = reading.join_next() => {
                    debug_assert!(self.count.get() > 0, "each is counted when it begins");
                    self.count.set(self.count.get().saturating_sub(1));
                    on_end();
                }
            }
        }
    }
}

/// How it ends is of no interest: the client's line of the access log has been written.
async fn read_one(mut one: One) {
    if !one.has_begun && one.exchange.answer().await.is_err() {
        return;
    }
    while let Some(Ok(_data)) = one.exchange.data().await {}
}
