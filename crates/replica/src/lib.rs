//! Being built.

pub mod admission;
