//! The replica runtime: everything between a router's connection and user code, and none of the user code.
//!
//! [`build`] makes a [`Service`], which runs on an I/O thread of its own, and a [`Handle`], which the threads of
//! user code hold. Requests and events come to the embedder on queues, with one call of [`Handler::wake`] for
//! many; a [`Request`] is claimed, read and answered by whichever thread runs it. The crate knows no Python: the
//! module `eagleray._core` embeds it in an event loop and a thread pool.

pub mod admission;
mod connection;
mod event;
mod flow;
mod handle;
mod liveness;
mod metrics;
mod out;
mod poller;
mod pool;
mod queues;
mod request;
mod service;
mod shared;
mod stacks;
mod turn;

pub use eagleray_wire::fork::{anew, in_forked_child, signals};
pub use event::{Event, Serving};
pub use handle::{Handle, build};
pub use metrics::Metrics;
pub use pool::{Next, Pool};
pub use request::{BadAnswer, Body, Message, Payload, Pieces, Request, Room, Value};
pub use service::{Ended, Service};
pub use stacks::Stacks;
pub use turn::{Wake, Work};

/// The embedder's loop, as the service sees it.
pub trait Handler: Send + Sync {
    /// There are requests or events. Called from the I/O thread and from threads that finish requests; must neither
    /// block nor call back.
    fn wake(&self);

    /// What the threads of user code are doing, as text for people. Called from the I/O thread when the loop does not
    /// turn; must not wait for any of them.
    fn stacks(&self) -> String {
        String::new()
    }

    /// The end of a batch, or a millisecond later at most: the embedder sends what it has put off. Called from the I/O
    /// thread and from whoever ends the batch; must neither block nor call back.
    fn flush(&self) {}
}
