//! The state directory while the node lives. Its disk may stand still for as long as it likes, so whatever asks it runs on
//! a thread beside the node's loop, one question at a time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    task::spawn_blocking,
    time,
};

use crate::{
    directory::Error,
    state_directory::{Logs, StateDirectory},
};

/// What is left of a script's node when the disk does not answer in time is removed by a later start.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct StateWatch {
    state: Arc<Mutex<StateDirectory>>,
    looking: Option<oneshot::Receiver<Result<bool, Error>>>,
}

impl StateWatch {
    pub(crate) fn new(state: StateDirectory) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            looking: None,
        }
    }

    /// Begins to look, unless it looks still, and says what it found before: whether the directory was gone, and is made
    /// again.
    pub(crate) fn look(&mut self) -> Result<bool, Error> {
        let found = match self.looking.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return Ok(false),
            Some(Ok(found)) => found,
            Some(Err(TryRecvError::Closed)) | None => Ok(false),
        };
        let (sender, receiver) = oneshot::channel();
        let state = Arc::clone(&self.state);
        spawn_blocking(move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let found = if state.is_whole() {
                Ok(false)
            } else {
                state.restore().map(|()| true)
            };
            // The node may have ended.
            drop(sender.send(found));
        });
        self.looking = Some(receiver);
        found
    }

    /// The node ends: removes what is of no use without it.
    pub(crate) async fn leave(&self, logs: Logs) -> Result<(), Error> {
        let state = Arc::clone(&self.state);
        let left = spawn_blocking(move || {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.leave(logs)
        });
        match time::timeout(LEAVE_WITHIN, left).await {
            Ok(Ok(left)) => left,
            Ok(Err(_)) | Err(_) => Err(Error::Unsafe(
                "the disk of the state directory does not answer".to_owned(),
            )),
        }
    }
}
