//! Numbers that processes share with their node, and the text that Prometheus reads of them.
//!
//! Each process that counts has a file of its own ([`Sheet`]) in the node's run directory, mapped into its memory. To count is
//! one store into that mapping: no lock, no allocation and no text on the path of a request, and nothing is sent. The node
//! reads the files when it is asked ([`Collector`]), so it answers without anybody's help, and what a process had counted
//! when it was killed is there still: its totals are added to those of the dead and its file goes. So a sum over processes never
//! goes backwards while the node lives.
//!
//! Every metric of ours is declared once, in [`registry`]: name, help, labels, buckets, and what boards and alerts make of it.
//! Metrics of user code are declared by that. A file describes itself, so the reader needs to know neither.
//!
//! What may vary is bounded: a family takes so many sets of label values in a process, and further ones count together
//! under `overflow="true"`.

mod cell;
mod collector;
mod dead;
mod exemplar;
mod labels;
mod layout;
mod liveness;
mod map;
mod merged;
mod reader;
mod reading;
pub mod registry;
mod sheet;
mod text;

#[cfg(test)]
mod tests;

pub use cell::{Amount, Count, Gauge, Histogram, Level};
pub use collector::Collector;
pub use exemplar::{Clock, ExemplarId, Slot};
pub use labels::ProcessLabels;
pub use layout::Kind;
pub use liveness::Usage;
pub use reading::{FamilyReading, Reading, SeriesReading};
pub use sheet::{Family, FamilySpec, Sheet};
pub use text::{Format, Options as TextOptions};

/// Directory of the sheets, inside the run directory of a node.
pub const DIRECTORY: &str = "metrics";
