//! Which request of a router is in which slot, from its acceptance to DONE.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Request;
use crate::connection::Connection;

/// The slots of one connection.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) connection: Arc<Connection>,
    requests: Mutex<Vec<Option<Arc<Request>>>>,
}

impl Slots {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            requests: Mutex::default(),
        }
    }

    pub(crate) fn find(&self, slot: u32, sequence: u64) -> Option<Arc<Request>> {
        let requests = self.requests.lock();
        let request = requests.get(slot as usize)?.as_ref()?;
        (request.sequence() == sequence).then(|| Arc::clone(request))
    }

    /// False: the slot is taken by a request that is not over, or outside the page.
    pub(crate) fn insert(&self, slot: u32, request: &Arc<Request>) -> bool {
        if slot >= self.connection.page.slots() {
            return false;
        }
        let mut requests = self.requests.lock();
        let slot = slot as usize;
        if requests.len() <= slot {
            requests.resize(slot + 1, None);
        }
        if requests[slot].is_some() {
            return false;
        }
        requests[slot] = Some(Arc::clone(request));
        true
    }

    pub(crate) fn remove(&self, slot: u32) {
        if let Some(entry) = self.requests.lock().get_mut(slot as usize) {
            *entry = None;
        }
    }

    /// Empties all of them: the router is gone.
    pub(crate) fn take_all(&self) -> Vec<Arc<Request>> {
        std::mem::take(&mut *self.requests.lock())
            .into_iter()
            .flatten()
            .collect()
    }
}
