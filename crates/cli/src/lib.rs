//! The verbs of the command line that look after a node: what they ask, and how the answers look.
//!
//! What starts a node or is one stays in the executable (`crates/node`), which gives this crate what only it knows
//! ([`Program`]). Answers go to standard output, and everything said about them to standard error, so that a program can
//! read the one and a person both. Each verb ends in an [`Exit`], which tells up, failed, refused and cannot-tell apart.

mod config;
mod counters;
mod exit;
mod output;
mod program;
mod python;
pub mod socket;
mod status;
mod tree;
mod trouble;
mod verb;

pub use exit::Exit;
pub use output::{complain, place, remark, say};
pub use program::Program;
pub use python::interpreter;
pub use verb::Verb;
