//! The caller's side of handles, without Python: the router that all handles of a process share, the calls that are
//! made on it, and the questions that a driver asks its node and its controller.
//!
//! A [`Call`] is what caller and router's thread share of one call. Whoever waits for it is a thread, which sleeps in
//! [`Call::wait_until`], or an event loop, which watches the descriptor of its [`Completions`]. Nothing here waits for
//! the controller: calls go by the targets that were last heard of.

mod answer;
mod arguments;
mod call;
mod carry;
mod completions;
mod content;
mod conversation;
mod metrics;
mod order;
mod orders;
mod reservation;
mod router;
mod targets;

pub use arguments::{Arguments, Segment};
pub use call::{Call, Failed, Outcome, Refusal};
pub use completions::Completions;
pub use content::Content;
pub use conversation::{Asking, Conversation, SLICE};
pub use orders::Orders;
pub use reservation::{Dispatched, Reservation};
pub use router::{Order, Router, Sent};
