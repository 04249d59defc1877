//! What a node has measured over the last day, without a Prometheus: rates, latencies, queues and replicas of every deployment, in
//! one file of bounded length.
//!
//! The node samples the sheets of all its processes ([`Sampler`], [`eagleray_metrics`]) and adds each sample to three **tiers**:
//! short slots for minutes, longer ones for hours, the longest for a day ([`layout`]). A tier is a ring of slots of fixed size
//! in the file ([`Ring`]), and the time says which slot is whose, so the file has no index that could be wrong, never grows
//! beyond its layout, and goes on after a restart where its clock stands.
//!
//! The rule: **a slot stands for itself.** It has the names of its rows, the time that it covers and a checksum over all of it,
//! and is written by one write. A slot that does not check out (torn, overwritten, of a clock that was wrong) is as if
//! nothing had been measured then, and nothing else is lost with it. So a kill at any moment, a damaged file or a disk that is
//! full costs slots, and never the node.
//!
//! Latencies are kept as counts by bucket and not as percentiles: counts can be added up, so a percentile over any window is
//! exact to its bucket.
//!
//! Samples are placed by the monotonic clock from an anchor on the wall clock ([`clock`]): how long a slot covers is never
//! wrong, whatever somebody does to the wall clock.

mod clock;
mod layout;
mod marks;
mod record;
mod ring;
mod row;
mod sampler;
mod tally;
mod window;

#[cfg(test)]
mod tests;

pub use clock::Moment;
pub use layout::{FILE_BYTES, TIERS, Tier};
pub use marks::Mark;
pub use ring::Ring;
pub use row::{BOUNDS_MS, BUCKETS, Row, Subject};
pub use sampler::{SAMPLE_EVERY_MS, Sampler};
pub use window::{MOST_CELLS, MOST_POINTS, OneSeries, Query, Window};

/// Name of the file, in the state directory of a node.
pub const FILE: &str = "series.ring";
