//! A timer that an event loop can watch. The loops' own are as coarse as a millisecond.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use pyo3::prelude::*;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

const OFF: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Its descriptor is readable once the time is over.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Timer {
    descriptor: OwnedFd,
}

impl Timer {
    fn set_to(&self, it_value: Timespec) -> PyResult<()> {
        let once = Itimerspec {
            it_interval: OFF,
            it_value,
        };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)
            .map_err(std::io::Error::from)?;
        Ok(())
    }
}

#[pymethods]
impl Timer {
    #[new]
    fn new() -> PyResult<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let descriptor =
            timerfd_create(TimerfdClockId::Monotonic, flags).map_err(std::io::Error::from)?;
        Ok(Self { descriptor })
    }

    fn fileno(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Readable in so many seconds; what it was set to before is forgotten.
    fn set(&self, seconds: f64) -> PyResult<()> {
        // Zero would be off.
        let after = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        let after = after.max(Duration::from_nanos(1));
        self.set_to(Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: after.subsec_nanos().into(),
        })
    }

    /// Not readable any more, until it is set again.
    fn stop(&self) -> PyResult<()> {
        self.set_to(OFF)
    }
}
