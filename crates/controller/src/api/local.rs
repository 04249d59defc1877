//! Calls from within this process: what a connection to `controller.sock` can ask, without the socket.
//!
//! Each call is a connection of its own to the loop, which ends with the call. So one that is dropped is forgotten there, as
//! that of a client that hung up, and none can hold up another. Bounds: [`CALLS`] at once that are answered as soon as the loop
//! has them (further ones wait), [`PATIENT_CALLS`] that wait for something to end or to be built (further ones are refused,
//! so that they never take the place of those that ask how it goes), and the queue of events before the loop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use eagleray_types::control::{ApiResponse, api_request, api_response};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};

use self::NoAnswer::Ended;
use super::{Client, ClientEvent};
use crate::core::CallId;

/// At once.
const CALLS: usize = 96;
/// Of those that wait.
const PATIENT_CALLS: usize = 32;
/// The first answer is all that is waited for.
const ANSWERS: usize = 1;
/// Connections to the socket count up from 1.
const FIRST_CONNECTION: u64 = 1 << 63;
/// The one call of its connection.
const SEQUENCE: u64 = 1;

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The loop has ended, and the process is about to.
    #[error("the controller ends; the node starts another")]
    Ended,
    /// The loop has not heard of it.
    #[error(
        "{PATIENT_CALLS} calls wait for something to end or to be built, which is as many as may; nothing was changed"
    )]
    TooMany,
}

/// Asks the controller's loop. May be cloned, and used from any thread and runtime.
#[derive(Clone, Debug)]
pub struct LocalCalls {
    events: mpsc::Sender<ClientEvent>,
    next: Arc<AtomicU64>,
    room: Arc<Semaphore>,
    patient_room: Arc<Semaphore>,
}

impl LocalCalls {
    pub(super) fn new(events: mpsc::Sender<ClientEvent>) -> Self {
        Self {
            events,
            next: Arc::new(AtomicU64::new(FIRST_CONNECTION)),
            room: Arc::new(Semaphore::new(CALLS)),
            patient_room: Arc::new(Semaphore::new(PATIENT_CALLS)),
        }
    }

    /// Sends `body` and returns the first answer. Dropped, it is taken back.
    ///
    /// # Errors
    /// When the loop has ended, or has cut the call off, or too many wait.
    pub async fn call(&self, body: api_request::Body) -> Result<api_response::Body, NoAnswer> {
        let _place = if is_patient(&body) {
            let place = self.patient_room.try_acquire();
            place.map_err(|_| NoAnswer::TooMany)?
        } else {
            self.room.acquire().await.map_err(|_| Ended)?
        };
        let connection = self.next.fetch_add(1, Ordering::Relaxed);
        let (answers, mut queue) = mpsc::channel(ANSWERS);
        let client = Client {
            answers,
            behind: Arc::new(AtomicBool::new(false)),
            watches: Vec::new(),
        };
        let connected = ClientEvent::Connected { connection, client };
        self.events.send(connected).await.map_err(|_| Ended)?;
        let hang_up = HangUp {
            events: self.events.clone(),
            connection,
        };
        let call = CallId {
            connection,
            sequence: SEQUENCE,
        };
        let asked = ClientEvent::Call { call, body };
        self.events.send(asked).await.map_err(|_| Ended)?;
        let frame = queue.recv().await.ok_or(Ended)?;
        drop(hang_up);
        let response = ApiResponse::decode(frame.payload).map_err(|_| Ended)?;
        response.body.ok_or(Ended)
    }
}

/// Whether it is answered only when something has ended or is built, which may take as long as it likes.
fn is_patient(body: &api_request::Body) -> bool {
    let waits_for_builds =
        matches!(body, api_request::Body::Apply(apply) if !apply.plan.is_empty());
    let waits_for_more = matches!(
        body,
        api_request::Body::AwaitApplication(_)
            | api_request::Body::AwaitDeleted(_)
            | api_request::Body::Delete(_)
            | api_request::Body::DeleteAll(_)
            | api_request::Body::Plan(_)
            | api_request::Body::Stacks(_)
    );
    waits_for_builds || waits_for_more
}

/// Tells the loop that a call is over, however it ends.
struct HangUp {
    events: mpsc::Sender<ClientEvent>,
    connection: u64,
}

impl Drop for HangUp {
    fn drop(&mut self) {
        let gone = ClientEvent::Gone {
            connection: self.connection,
        };
        if let Err(mpsc::error::TrySendError::Full(gone)) = self.events.try_send(gone) {
            // The loop is behind, and catches up: within a runtime there is somebody who can wait for that.
            let events = self.events.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { drop(events.send(gone).await) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future as _, pin::pin, task::Context};

    use eagleray_types::control::Empty;

    use super::*;

    /// Calls that nobody answers yet, each sent.
    #[test]
    fn those_that_wait_leave_room_for_those_that_ask_how_it_goes() {
        let (events, mut heard) = mpsc::channel(1024);
        let calls = LocalCalls::new(events);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let delete = || Box::pin(calls.call(api_request::Body::DeleteAll(Empty {})));
        let mut waiting: Vec<_> = (0..PATIENT_CALLS).map(|_| delete()).collect();
        for call in &mut waiting {
            assert!(call.as_mut().poll(&mut context).is_pending());
        }
        let refused = pin!(delete()).poll(&mut context);
        assert_eq!(refused, std::task::Poll::Ready(Err(NoAnswer::TooMany)));
        let mut status = pin!(calls.call(api_request::Body::Status(Empty {})));
        assert!(status.as_mut().poll(&mut context).is_pending());
        let mut asked = 0;
        while let Ok(event) = heard.try_recv() {
            let is_status = matches!(
                &event,
                ClientEvent::Call {
                    body: api_request::Body::Status(_),
                    ..
                }
            );
            asked += usize::from(is_status);
        }
        assert_eq!(asked, 1, "the loop has heard of it");
        drop(waiting.pop());
        assert!(
            pin!(delete()).poll(&mut context).is_pending(),
            "a place is free again"
        );
    }
}
