//! What the embedder hears from the I/O thread, and what it says when it begins.

use std::sync::Arc;

use eagleray_types::control::ReplicaCommand;

use crate::metrics::Metrics;

/// Something for the thread of the event loop, besides new requests.
#[derive(Debug)]
pub enum Event {
    /// From the controller, through the node.
    Command(Box<ReplicaCommand>),
    /// Nobody wants the answer of this request any more.
    Cancelled(u64),
    /// Body bytes have come, or room for an answer: what the request waited for may go on.
    Ready(u64),
    /// Requests for sync methods wait and no thread rests: start one more.
    ThreadWanted,
    /// Draining, and the last request is over.
    Drained,
    /// A signal asks the process to end: see [`Handle::hear_signals`](crate::Handle::hear_signals).
    Terminate,
    /// For the log.
    Problem(String),
}

/// Set when the replica begins to serve.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    pub replica_id: String,
    pub max_ongoing_requests: u32,
    pub max_body_bytes: u64,
    /// HTTP requests go to the thread pool, with complete bodies.
    pub sync_http: bool,
    /// User code takes WebSockets; else they are refused here.
    pub websockets: bool,
    /// Methods whose calls go to the thread pool.
    pub sync_methods: Vec<String>,
    /// Where requests are counted; `None`: nowhere.
    pub metrics: Option<Arc<Metrics>>,
}
