//! The core against a simulated node, store and router: [`world`] plays all three and checks what must always hold.

mod adoption;
mod builds;
mod clients;
mod configure;
mod crash_loops;
mod deletes;
mod departure;
mod deploys;
mod events;
mod failures;
mod history;
mod options;
mod parts;
mod plans;
mod random;
mod reaching;
mod receipts;
mod recycling;
mod routes;
mod saving;
mod scaling;
mod sickness;
mod specs;
mod status_details;
mod why;
mod world;
