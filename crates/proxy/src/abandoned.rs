//! Requests whose client left and whose work goes on, since they asked for it: `x-request-disconnect-disabled: ?1`.
//!
//! Nobody waits for their answers, but a replica that gets no credit stops in the middle of one: so each is read to its
//! end and thrown away, in a task of its own. Their connections no longer bound them, so `abandoned_requests` does, for
//! the whole process: one more is cancelled, as without the header. A drain waits for them. Time limits hold for them
//! too, and they end with the proxy.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use eagleray_router::service::Exchange;
use tokio::{sync::Notify, task::JoinSet};

use crate::shard::Shard;

/// Those of one thread.
#[derive(Debug, Default)]
pub(crate) struct Abandoned {
    /// With whether its answer has begun. Empty but between a client's end and the next turn of [`read`].
    new: RefCell<Vec<(Exchange, bool)>>,
    news: Notify,
    count: Cell<usize>,
}

impl Abandoned {
    pub(crate) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }
}

impl Shard {
    /// Lets a request go on without its client, if there is room for one more. `has_begun`: its answer.
    pub(crate) fn abandon(&self, exchange: Exchange, has_begun: bool) {
        let most = self.limits.abandoned_requests;
        if !self.counters.requests_abandoned_open.add_below(most) {
            self.counters.requests_abandoned_cancelled.add();
            return;
        }
        let abandoned = &self.abandoned;
        abandoned.count.set(abandoned.count.get() + 1);
        abandoned.new.borrow_mut().push((exchange, has_begun));
        abandoned.news.notify_one();
    }
}

/// Reads all of a thread's. Does not end by itself.
pub(crate) async fn read(shard: Rc<Shard>) {
    let abandoned = &shard.abandoned;
    let mut reading = JoinSet::new();
    loop {
        for (exchange, has_begun) in abandoned.new.take() {
            reading.spawn_local(read_one(exchange, has_begun));
        }
        tokio::select! {
            () = abandoned.news.notified() => {}
            Some(_ended) = reading.join_next() => {
                abandoned.count.set(abandoned.count.get().saturating_sub(1));
                shard.counters.requests_abandoned_open.remove();
                shard.notice_end();
            }
        }
    }
}

/// How it ends is of no interest: the client's line of the access log has been written.
async fn read_one(mut exchange: Exchange, has_begun: bool) {
    if !has_begun && exchange.answer().await.is_err() {
        return;
    }
    while let Some(Ok(_data)) = exchange.data().await {}
}
