//! From the I/O thread to Python: how it wakes the event loop, and what that hears.

use std::sync::{Arc, OnceLock};

use eagleray_client::Orders;
use eagleray_replica::{Event, Handler, Stacks, Wake};
use pyo3::{intern, prelude::*, types::PyString};

use super::{Replica, command};

/// What the I/O thread can do to Python without its lock: wake the event loop, which watches the descriptor, and have
/// the stacks written down.
pub(super) struct Outside {
    pub(super) wake: Arc<Wake>,
    pub(super) stacks: Stacks,
    pub(super) orders: Arc<OnceLock<Arc<Orders>>>,
}

impl Handler for Outside {
    fn wake(&self) {
        self.wake.wake();
    }

    fn stacks(&self) -> String {
        self.stacks.text()
    }

    fn flush(&self) {
        if let Some(orders) = self.orders.get() {
            orders.release();
        }
    }
}

impl Replica {
    /// On the loop: an event.
    pub(super) fn on_event(&self, py: Python<'_>, event: Event) -> PyResult<()> {
        let (kind, value) = match event {
            Event::Command(command) => {
                let Some(dict) = command::to_dict(py, &command)? else {
                    return Ok(());
                };
                (intern!(py, "command"), dict.into_any().unbind())
            }
            Event::Problem(text) => {
                let text = PyString::new(py, &text);
                (intern!(py, "problem"), text.into_any().unbind())
            }
            Event::ThreadWanted => (intern!(py, "thread"), py.None()),
            Event::Drained => (intern!(py, "drained"), py.None()),
            Event::Terminate => (intern!(py, "terminate"), py.None()),
            Event::Ready(serial) | Event::Cancelled(serial) => {
                let request = self
                    .of_loop
                    .active
                    .lock()
                    .get(&serial)
                    .map(|request| request.clone_ref(py));
                if let Some(request) = request {
                    request.get().on_event(py)?;
                }
                return Ok(());
            }
        };
        self.on_event.call1(py, (kind, value)).map(drop)
    }
}
