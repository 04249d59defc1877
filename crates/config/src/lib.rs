//! The config of Eagleray: one model for a file, a REST call, the command line and Python.
//!
//! ```
//! use eagleray_config::{Config, Format};
//!
//! let text = "applications: [{import_path: shop:app, deployments: [{name: Rank, num_replica: 3}]}]";
//! let problems = Config::parse(text, Format::Yaml).unwrap_err();
//! assert_eq!(
//!     problems.render("shop.yaml"),
//!     "shop.yaml:1:67: applications[0].deployments[0].num_replica: unknown key \"num_replica\" in a deployment\n  \
//!      help: did you mean \"num_replicas\"?\n"
//! );
//! ```
//!
//! The way of a text: [`read`] takes it from a file, `yaml` and `json` make [`node`]s with places of it, `check` holds
//! them to the tables of [`table`], and the [`Config`] that comes out is right in all that can be known without the code.
//! [`Application::over`] puts it over what the code states, and [`Merged::options`] is what a running system obeys.
//!
//! What a table of keys is made of is in [`shape`]. An option of deployments that a running system obeys is a row of
//! [`eagleray_types::options`], and only its name stands here. [`schema`] is the table for editors.
//!
//! Nothing here waits, and all is bounded: the bytes of a text, its values with aliases counted as often as they are
//! used, how deep they nest, how many problems are kept.

mod check;
mod format;
mod json;
mod mask;
mod merge;
mod model;
mod nearest;
pub mod node;
mod problem;
mod read;
mod rules;
mod scalar;
mod schema;
pub mod shape;
pub mod table;
mod text;
mod together;
mod yaml;

pub use format::Format;
pub use mask::{MASK, masked};
pub use merge::{Merged, Options, merge};
pub use model::{Application, Config, Deployment};
pub use problem::{MOST_PROBLEMS, Problem, Problems, Stage};
pub use read::{MOST_BYTES, read, text, unreadable};
pub use schema::schema;

/// The values of a text, unchecked.
///
/// # Errors
/// The text is not of this format, or has what a config cannot hold.
pub fn values(text: &str, format: Format) -> Result<node::Node, Problems> {
    match format {
        Format::Yaml => yaml::parse(text),
        Format::Json => json::parse(text),
    }
}
