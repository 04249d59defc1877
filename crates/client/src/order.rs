//! A call on its way to the router's thread.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use eagleray_types::DeploymentKey;
use eagleray_wire::{ModelKey, SessionKey};
use tokio::sync::oneshot;

use crate::{
    arguments::Arguments,
    call::{Call, Failed, Outcome},
    reservation::Dispatched,
};

/// What kind of answer is wanted.
#[derive(Debug)]
pub(crate) enum Answer {
    Value,
    Items,
    /// The call names its method and arguments later, and reserves a slot until then.
    Reservation(oneshot::Receiver<Dispatched>),
}

/// A call on its way to the router's thread.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) request: Request,
    pub(crate) call: Unfinished,
}

/// What is asked of whom.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) key: DeploymentKey,
    /// The only replica that the call may go to; empty: any.
    pub(crate) replica_id: String,
    pub(crate) head: Bytes,
    /// By which the request entered that makes the call; empty: none does.
    pub(crate) route: String,
    pub(crate) arguments: Arguments,
    pub(crate) answer: Answer,
    /// The multiplexed model that it asks for.
    pub(crate) model: Option<ModelKey>,
    /// The session that it belongs to.
    pub(crate) session: Option<SessionKey>,
    pub(crate) deadline: Option<Instant>,
}

/// Ends the call when whatever held it is dropped, at whichever step: a caller never waits for nothing.
#[derive(Debug)]
pub(crate) struct Unfinished(pub(crate) Arc<Call>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.finish(Outcome::Failure(Failed::new(
            "Unavailable",
            "the router of this process has ended",
        )));
    }
}
