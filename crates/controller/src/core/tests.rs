//! The core against a simulated node, store and router: [`world`] plays all three and checks what must always hold.

mod adoption;
mod configure;
mod departure;
mod deploys;
mod failures;
mod parts;
mod random;
mod reaching;
mod recycling;
mod routes;
mod scaling;
mod world;
