//! The supervisor of a node: it takes the node's directories and sockets, starts its processes, speaks to them, starts
//! again what dies, and ends all of them in order.
//!
//! It decides nothing about applications and knows neither the controller's rules nor HTTP: what its processes are told
//! comes from whoever runs it ([`Programs`]), as text that it passes on. The executable (`crates/node`) is one such; a
//! test is another.
//!
//! [`core`] decides and does nothing else; the rest is the machine around it. A reader begins there.

mod api;
pub mod core;
mod descriptor;
pub mod directory;
pub mod environment;
pub mod http_listener;
mod link;
pub mod listeners;
mod loads;
mod memory;
mod node;
mod output;
mod owner;
pub mod package;
mod pidfd;
pub mod places;
mod presence;
pub mod processes;
pub mod ready;
pub mod reaper;
mod replicas;
pub mod resources;
pub mod run_directory;
mod service;
mod spawn;
pub mod state_directory;
mod state_watch;
mod supervisor;

pub use descriptor::pipe;
pub use node::{Identity, Node, Owner, Programs};
pub use owner::Gone;
pub use spawn::describe;
