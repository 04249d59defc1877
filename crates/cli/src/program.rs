//! What the executable knows and this crate does not.

use eagleray_config::{Config, Problems};

/// Given by the executable to each verb.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// What the proxy says of a config's `http_options`: it alone knows its limits.
    pub judge: fn(&Config) -> Problems,
    /// The whole command line.
    pub command: fn() -> clap::Command,
}
