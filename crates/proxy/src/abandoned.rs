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
};

use eagleray_router::service::Exchange;
use eagleray_types::DeploymentKey;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::{sync::Notify, task::JoinSet};

use crate::{connection::Connection, exchange::Record, shard::Shard};

/// Those of one thread.
#[derive(Debug, Default)]
pub(crate) struct Abandoned {
    /// Empty but between a client's end and the next turn of [`read`].
    new: RefCell<Vec<One>>,
    news: Notify,
    count: Cell<usize>,
}

impl Abandoned {
    pub(crate) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }
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
        if let Some(count) = counts.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(key);
            }
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
    shard: Rc<Shard>,
    connection: Rc<Connection>,
    key: DeploymentKey,
}

impl Room {
    fn take(shard: &Rc<Shard>, connection: &Rc<Connection>, key: &DeploymentKey) -> Option<Self> {
        let (limits, open) = (&shard.limits, &shard.counters.requests_abandoned_open);
        if connection.abandoned.get() >= limits.abandoned_requests_per_connection
            || !open.add_below(limits.abandoned_requests)
        {
            return None;
        }
        let most = limits.abandoned_requests_per_deployment;
        if !shard.abandoned_by_deployment.add_below(key, most) {
            open.remove();
            return None;
        }
        connection.abandoned.set(connection.abandoned.get() + 1);
        Some(Self {
            shard: Rc::clone(shard),
            connection: Rc::clone(connection),
            key: key.clone(),
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let of_connection = &self.connection.abandoned;
        of_connection.set(of_connection.get().saturating_sub(1));
        self.shard.abandoned_by_deployment.remove(&self.key);
        self.shard.counters.requests_abandoned_open.remove();
    }
}

/// Lets a request go on without its client, if there is room for one more. `has_begun`: its answer.
pub(crate) fn abandon(record: &Record, mut exchange: Exchange, has_begun: bool) {
    let (shard, connection, ingress) = record.place();
    let Some(room) = ingress.and_then(|ingress| Room::take(shard, connection, &ingress.key)) else {
        shard.counters.requests_abandoned_cancelled.add();
        return;
    };
    if !has_begun {
        exchange.defer();
    }
    let abandoned = &shard.abandoned;
    abandoned.count.set(abandoned.count.get() + 1);
    abandoned.new.borrow_mut().push(One {
        exchange,
        has_begun,
        _room: room,
    });
    abandoned.news.notify_one();
}

/// Reads all of a thread's. Does not end by itself.
pub(crate) async fn read(shard: Rc<Shard>) {
    let abandoned = &shard.abandoned;
    let mut reading = JoinSet::new();
    loop {
        for one in abandoned.new.take() {
            reading.spawn_local(read_one(one));
        }
        tokio::select! {
            () = abandoned.news.notified() => {}
            Some(_ended) = reading.join_next() => {
                abandoned.count.set(abandoned.count.get().saturating_sub(1));
                shard.notice_end();
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
