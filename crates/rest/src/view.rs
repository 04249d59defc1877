//! Messages as JSON: the one place that knows both. A field has the name that it has in the message; what is empty because
//! there is none is null or left out; JSON within a message is JSON here, with the values of `env_vars` masked.

mod application;
mod autoscaling;
mod declared;
mod deployment;
mod history;
mod masked;
mod node;
mod options;
mod resources;
mod why;

pub(crate) use application::Application;
pub(crate) use autoscaling::{Autoscaling, Supposed, detail as autoscaling_detail};
pub(crate) use declared::{Applied, Failure, Planned, PlannedDeployment};
pub(crate) use deployment::{Deployment, Replica};
pub(crate) use history::{Events, Receipt, Revision, Revisions};
pub(crate) use masked::{MASK, json, masked};
pub(crate) use node::Status;
pub(crate) use options::config_keys;
pub(crate) use resources::Resources;
pub(crate) use why::Why;

/// None for what a message leaves empty.
fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// None for a time that is not known.
fn time(seconds: f64) -> Option<f64> {
    Some(seconds).filter(|seconds| *seconds > 0.0)
}

/// None for a number that counts from 1.
fn number(number: u64) -> Option<u64> {
    Some(number).filter(|number| *number > 0)
}
