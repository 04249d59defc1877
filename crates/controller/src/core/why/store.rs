//! What is not fine of the controller itself: that what it knows cannot be kept.

use eagleray_types::control::Why;

use super::{Moment, gist};
use crate::core::requests::Unsaved;

pub(in crate::core) fn of_store(unsaved: Option<&Unsaved>, moment: Moment<'_>) -> Option<Why> {
    let Unsaved { since, error } = unsaved?;
    let sentence = format!(
        "The state cannot be saved, for {}: {}. What runs goes on; deploys are refused, and what changed since is lost \
         if the controller ends.",
        moment.seconds(*since),
        gist(error).trim_end_matches('.')
    );
    let help =
        "Make room on that disk, or make it writable; it is tried again every second.".to_owned();
    Some(moment.why("state_not_saved", Some(*since), sentence, help))
}
