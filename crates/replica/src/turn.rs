//! What the event loop takes in one turn: every event, and requests for as long as the loop's other work can wait.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use eagleray_wire::fork::{self, Listed};
use rustix::event::{EventfdFlags, eventfd};

use crate::{Handle, Request, event::Event};

/// One turn hands over so many requests, or takes so long; then the loop gets its turn.
const MOST_REQUESTS: usize = 64;
const MOST_TIME: Duration = Duration::from_millis(1);
/// The clock is read once for so many.
const BETWEEN_LOOKS: usize = 16;

/// A descriptor that an event loop watches: readable when [`Handle::turn`] has something for it.
#[derive(Debug)]
pub struct Wake {
    _listed: Option<Listed>,
    descriptor: OwnedFd,
}

impl Wake {
    /// One that is not readable.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            _listed: fork::list(&descriptor),
            descriptor,
        })
    }

    /// Makes it readable: for [`Handler::wake`](crate::Handler::wake).
    pub fn wake(&self) {
        // A full counter is readable, which is all that is asked.
        rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes()).ok();
    }

    fn clear(&self) {
        rustix::io::read(&self.descriptor, &mut [0; 8]).ok();
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Something for the event loop.
#[derive(Debug)]
pub enum Work {
    Event(Event),
    /// A new request.
    Request(Arc<Request>),
}

impl Handle {
    /// The loop turns: hands over what there is, events first, and requests up to a number and a time. If there may be
    /// more, `wake` stays readable, so the loop comes back. Returns how many requests: of more than one a
    /// batch has begun, and [`Handle::end_batch`] must follow once all of them go on.
    ///
    /// # Errors
    /// The first of `take`, which is not called again; what is left stays in the queues.
    pub fn turn<E>(
        &self,
        wake: &Wake,
        mut take: impl FnMut(Work) -> Result<(), E>,
    ) -> Result<usize, E> {
        self.turned();
        let began = Instant::now();
        let mut taken = 0;
        let mut cleared = false;
        loop {
            while let Some(event) = self.next_event() {
                take(Work::Event(event))?;
            }
            let mut full = false;
            while !full && let Some(request) = self.next_request() {
                take(Work::Request(request))?;
                taken += 1;
                full = taken >= MOST_REQUESTS
                    || (taken.is_multiple_of(BETWEEN_LOOKS) && began.elapsed() > MOST_TIME);
            }
            if full {
                if cleared {
                    wake.wake();
                }
                break;
            }
            wake.clear();
            cleared = true;
            if !self.rest() {
                break;
            }
        }
        if taken > 1 {
            self.begin_batch(taken);
        } else if self.in_batch() {
            // The last batch was not flushed, for company that is not there.
            self.flush();
        }
        Ok(taken)
    }
}
