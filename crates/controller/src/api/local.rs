//! Calls from within this process: what a connection to `controller.sock` can ask, without the socket.
//!
//! Each call is a connection of its own to the loop, which ends with the call. So one that is dropped is forgotten there, as
//! that of a client that hung up, and none can hold up another. Bounds: [`CALLS`] at once (further ones wait), and the queue
//! of events before the loop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use eagleray_types::control::{ApiResponse, api_request, api_response};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};

use super::{Client, ClientEvent};
use crate::core::CallId;

/// At once.
const CALLS: usize = 128;
/// The first answer is all that is waited for.
const ANSWERS: usize = 1;
/// Connections to the socket count up from 1.
const FIRST_CONNECTION: u64 = 1 << 63;
/// The one call of its connection.
const SEQUENCE: u64 = 1;

/// The loop has ended, and the process is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller ends")]
pub struct Ended;

/// Asks the controller's loop. May be cloned, and used from any thread and runtime.
#[derive(Clone, Debug)]
pub struct LocalCalls {
    events: mpsc::Sender<ClientEvent>,
    next: Arc<AtomicU64>,
    room: Arc<Semaphore>,
}

impl LocalCalls {
    pub(super) fn new(events: mpsc::Sender<ClientEvent>) -> Self {
        Self {
            events,
            next: Arc::new(AtomicU64::new(FIRST_CONNECTION)),
            room: Arc::new(Semaphore::new(CALLS)),
        }
    }

    /// Sends `body` and returns the first answer. Dropped, it is taken back.
    ///
    /// # Errors
    /// When the loop has ended, or has cut the call off.
    pub async fn call(&self, body: api_request::Body) -> Result<api_response::Body, Ended> {
        let _place = self.room.acquire().await.map_err(|_| Ended)?;
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
