//! Every key that a config knows: the one table for files, REST, the command line and Python.
//!
//! What an option of deployments may be is in the table of [`eagleray_types::options`]; a row here without a range or a
//! help takes them from there.

mod deployment;
mod node;

pub use deployment::{AUTOSCALING, DEPLOYMENT, LOGGING, RAY_ACTOR_OPTIONS, RUNTIME_ENV};
pub use node::{APPLICATION, CONFIG, GRPC_OPTIONS, HTTP_OPTIONS};

use crate::shape::{Default, Key, Standing, Takes};

const fn key(name: &'static str, takes: Takes, default: Default, help: &'static str) -> Key {
    Key {
        name,
        takes,
        default,
        standing: Standing::Obeyed,
        help,
    }
}

/// The row of the same name among the options of deployments.
const fn option(name: &'static str) -> Key {
    option_as(
        name,
        Takes::Option {
            zero: true,
            as_text: true,
        },
    )
}

const fn option_as(name: &'static str, takes: Takes) -> Key {
    key(name, takes, Default::Options, "")
}

const fn kept(row: Key, instead: &'static str) -> Key {
    Key {
        standing: Standing::Kept(instead),
        ..row
    }
}

const fn later(row: Key, instead: &'static str) -> Key {
    later_unless(row, &[], instead)
}

const fn later_unless(row: Key, unless: &'static [&'static str], instead: &'static str) -> Key {
    Key {
        standing: Standing::Later { instead, unless },
        ..row
    }
}

const NULL: Default = Default::Is("null");
const EMPTY_MAP: Default = Default::Is("{}");
const EMPTY_LIST: Default = Default::Is("[]");
