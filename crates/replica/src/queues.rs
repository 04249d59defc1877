//! Requests that wait for a thread that runs user code. Bounded by admission: see `STALE` in `service/frames.rs`.

use std::{sync::Arc, time::Instant};

use crossbeam_queue::SegQueue;

use crate::{flow::Flow, pool::Pool, request::Request, shared::Waiting};

/// See the module.
#[derive(Debug)]
pub(crate) struct Queues {
    /// For the event loop.
    pub(crate) requests: SegQueue<Arc<Request>>,
    /// For the threads of sync methods.
    pub(crate) pool: Pool,
}

impl Queues {
    /// Both empty. `flow` counts what goes through the pool.
    pub(crate) fn new(flow: Arc<Flow>) -> Self {
        Self {
            requests: SegQueue::new(),
            pool: Pool::new(flow),
        }
    }
}

/// A request that goes to the event loop when it gets a slot.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) request: Arc<Request>,
    pub(crate) queues: Arc<Queues>,
}

impl Waiting for Ahead {
    fn serial(&self) -> u64 {
        self.request.serial()
    }

    fn start(self: Box<Self>) {
        self.request.set_ahead(false);
        self.queues.requests.push(self.request);
    }

    fn send_back(self: Box<Self>, now: Instant) {
        self.request.send_back(now);
    }
}
