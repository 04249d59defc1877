//! Shared pieces of Eagleray's tests: a simulator that drives the real routers and the real replica admission over
//! simulated links and claim pages, in simulated time.
//!
//! It has its own event queue and one seed: a failure is repeated by its seed, in any build. [`World::run`] checks
//! what must hold at every step and at the end (`ledger.rs` says what), and returns what it counted.

mod ledger;
mod mock;
mod page;
mod plan;
mod world;

pub use ledger::Report;
pub use page::SimulatedPage;
pub use plan::Plan;
pub use world::World;
