//! The router: chooses a replica for each request, and keeps it safe until it has an answer. Sans-I/O.

mod limits;
mod types;

use std::{marker::PhantomData, time::Instant};

use eagleray_types::{DeploymentKey, control::DeploymentTarget};
use eagleray_wire::{Claims, Header};

pub use limits::Limits;
pub use types::{ConnectionKey, Event, Options, Refused, RequestKey, Submit, Transmit};

/// One router. After any call: poll transmits and events until `None`, then sleep until `poll_timeout`.
#[derive(Debug)]
pub struct Core<C> {
    claims: PhantomData<C>,
}

#[expect(clippy::needless_pass_by_value, clippy::unused_self, reason = "bodies follow")]
impl<C: Claims> Core<C> {
    pub fn new(_options: Options) -> Self {
        Self { claims: PhantomData }
    }

    /// Takes the full new state of one deployment.
    pub fn apply(&mut self, _now: Instant, _target: &DeploymentTarget) {}

    /// The deployment is gone: what waits fails with `Unavailable`, what runs may end.
    pub fn remove(&mut self, _now: Instant, _key: &DeploymentKey) {}

    /// Keys of all deployments known, sorted; for a snapshot, whose receiver removes what it does not name.
    pub fn deployments(&self) -> Vec<DeploymentKey> {
        Vec::new()
    }

    /// The text of a deployment that failed, for the answer to its requests.
    pub fn unavailable(&self, _key: &DeploymentKey) -> Option<&str> {
        None
    }

    /// HELLO has come: `slots` and `max_ongoing` are its `b` and `c`, `claims` the page that came with it.
    pub fn connected(
        &mut self,
        _now: Instant,
        _connection: ConnectionKey,
        _claims: C,
        _slots: u32,
        _max_ongoing: u32,
    ) {
    }

    /// The connection ended, or could not be made. Every frame read from it must have been given to `on_frame`.
    pub fn disconnected(&mut self, _now: Instant, _connection: ConnectionKey) {}

    pub fn submit(&mut self, _now: Instant, _key: &DeploymentKey, _request: Submit) -> Result<RequestKey, Refused> {
        Err(Refused::UnknownDeployment)
    }

    /// Nobody wants the answer. `Event::Cancelled` follows at once, unless the outcome is already known, or the
    /// whole answer has come (END) and only DONE is missing: background tasks run on, `Finished` follows DONE.
    pub fn cancel(&mut self, _now: Instant, _request: RequestKey) {}

    /// The owner has dropped body bytes that it would need to send the request again.
    pub fn forbid_repeat(&mut self, _request: RequestKey) {}

    /// A frame from a replica (any kind but HELLO). Returns the request that a RESPONSE or CREDIT is for, if
    /// anybody still wants it; give it the payload before polling events, where its `Finished` may be.
    pub fn on_frame(&mut self, _now: Instant, _connection: ConnectionKey, _header: &Header) -> Option<RequestKey> {
        None
    }

    /// Where a request was sent to, with slot and sequence for its BODY, CREDIT frames; `None` while it waits.
    pub fn location(&self, _request: RequestKey) -> Option<(ConnectionKey, u32, u64)> {
        None
    }

    pub fn poll_transmit(&mut self, _now: Instant) -> Option<Transmit> {
        None
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// When `on_timeout` must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    pub fn on_timeout(&mut self, _now: Instant) {}
}
