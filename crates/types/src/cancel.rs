//! How what a request starts belongs to it, and ends with it: a replica's request and the caller's side of handles know each
//! other by this alone.

use std::{fmt::Debug, sync::Arc, time::Instant};

/// Something that a request started and that ends with it: a replica's request holds it, the caller's side makes it.
pub trait Cancel: Debug + Send + Sync {
    /// Asks it to end. Must neither wait nor call back.
    fn cancel(&self);
}

/// A request whose user code makes a call. The call has its id and route, is due when its answer is, and ends with it.
pub trait Caller {
    /// Id and route.
    fn identity(&self) -> (String, String);

    /// The W3C `traceparent` that it came with; or empty.
    fn traceparent(&self) -> String;

    /// When the answers to its calls are due; `None`: they have no limit.
    fn deadline_of_calls(&self) -> Option<Instant>;

    /// Cancels `call` when nobody wants the answer of this request any more, at once if that is so already.
    fn cancels(&self, call: &Arc<dyn Cancel>);
}
