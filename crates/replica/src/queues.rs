//! Requests that wait for a thread that runs user code. Bounded by admission: see `STALE` in `service/frames.rs`.

use std::sync::Arc;

use crossbeam_queue::SegQueue;

use crate::{flow::Flow, pool::Pool, request::Request};

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
