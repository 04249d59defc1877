//! The verbs of the command line that look after a node: what they ask, and how the answers look.
//!
//! What starts a node or is one stays in the executable (`crates/node`), which gives this crate what only it knows
//! ([`Program`]). Answers go to standard output, and everything said about them to standard error, so that a program can
//! read the one and a person both. Each verb ends in an [`Exit`], which tells up, failed, refused and cannot-tell apart.

mod answers;
mod api;
mod ask;
mod completions;
mod config;
mod counters;
mod deploy;
mod diff;
mod doctor;
mod events;
mod exit;
mod explain;
mod find;
mod history;
mod interrupt;
mod live;
mod logs;
#[cfg(test)]
mod mock;
mod output;
mod plan;
mod program;
mod python;
mod receipt;
mod reference;
mod resources;
mod rollback;
mod scale;
mod screen;
mod shutdown;
pub mod socket;
mod stack;
mod status;
mod submission;
mod table;
mod tree;
mod trouble;
mod verb;
mod wait;
mod words;

pub use exit::Exit;
pub use output::{complain, place, remark, say};
pub use program::Program;
pub use python::interpreter;
pub use verb::Verb;
