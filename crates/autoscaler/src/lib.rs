//! How many replicas a load asks for, and why: a pure function without clock, I/O or randomness.
//!
//! [`decide`] is given the configuration of one deployment, what was measured of it, the time, and the state that it
//! keeps between two looks, and says how many replicas shall run. The same inputs give the same answer, so a whole day
//! of load runs in a test in a second, and "what if the target were 4" is the same function on a copy of the state.
//!
//! The rules, whose numbers are those of `autoscaling_config`:
//!
//! - A load asks for `ongoing / target_ongoing_requests` replicas, rounded up. Ongoing is what runs or waits, as routers
//!   report it. The factors multiply the distance from what runs.
//! - **More** replicas start when the wish for more has lasted `upscale_delay_s`: as many as the load asks for then. The
//!   wish follows the present load, which is the mean of the last tenth of the delay, 3 s at most: a request that ends a
//!   moment before the next one comes is no reason to begin the delay anew. Where `look_back_period_s` is stated, the
//!   wish follows the load over that period.
//! - **Fewer** run when they have sufficed for all of `downscale_delay_s`: the highest wish of that time counts, each
//!   smoothed over `look_back_period_s`. So one number is left for a lower one only if the lower one was enough all the
//!   while, and a load that comes back within the delay finds its replicas still there.
//! - **None** run only after one has been the last for `downscale_to_zero_delay_s` without any request. From none, the
//!   first request starts one without delay.
//! - Where a **policy** says how many are needed, that takes the place of what the load asks for, and all else holds of it
//!   too: factors, delays, bounds. While it says nothing that can be meant, the number stays, within its bounds.
//! - While some routers have not said what they have, the load is known from below only: more may start, and fewer never
//!   run.
//!
//! Delays are of a monotonic clock. What is kept is bounded: two windows of 64 sums, and for each number
//! of replicas at most one note of when it was wished for last.

pub mod config;
mod decide;
mod decision;
mod window;
mod wishes;

pub use config::{Aggregation, Bounds, Capacity, Config, ConfigError, Direction};
pub use decide::{Measured, State, Wish, decide};
pub use decision::{Decision, Hold, Reason};
