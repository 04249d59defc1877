//! What is not fine.

use eagleray_types::control::Why as WhyMessage;
use serde::Serialize;
use utoipa::ToSchema;

use super::{some, time};

/// Why something is not fine, in one sentence.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Why {
    /// A stable word, such as `constructor_failed`.
    pub(crate) code: String,
    pub(crate) sentence: String,
    /// Wall clock, seconds.
    pub(crate) since_s: Option<f64>,
    /// What to do next.
    pub(crate) help: String,
    /// The replica that it is about.
    pub(crate) replica_id: Option<String>,
}

impl From<WhyMessage> for Why {
    fn from(why: WhyMessage) -> Self {
        Self {
            code: why.code,
            sentence: why.sentence,
            since_s: time(why.since_s),
            help: why.help,
            replica_id: some(why.replica_id),
        }
    }
}
