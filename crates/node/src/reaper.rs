//! The reaper: ends everything that a node started when the node itself could not.
//!
//! Its standard input is a pipe that only the node holds. A node that ends in order writes a line first; end of
//! file without it means that the node was killed. It knows nothing but the node's id, so it works whatever the
//! node was doing.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use crate::{processes, roles, run_directory, settings, state_directory, telemetry};

/// What the node writes when nothing is left to be ended.
pub(crate) const ALL_IS_WELL: &[u8] = b"all is well\n";

pub(crate) fn main() -> Result<(), String> {
    roles::leave_signals_to_the_node()?;
    let options: settings::ReaperOptions = settings::own_options()?;
    let mut said = Vec::new();
    // An error is as good as the end of the pipe: nobody is there any more.
    drop(io::stdin().take(4096).read_to_end(&mut said));
    if said.ends_with(ALL_IS_WELL) {
        return Ok(());
    }
    // Without a thread for its log it still does its work.
    let logs = telemetry::start("reaper", "node", &options.logs).ok();
    tracing::warn!("the node is gone; its processes are ended");
    let belongs = processes::Belongs::to_node(&options.node_id);
    while !processes::end_all(&belongs, Instant::now() + Duration::from_secs(5)) {
        tracing::warn!("some processes cannot be ended yet");
    }
    tracing::info!("nothing of it is left");
    if let Some(logs) = logs {
        telemetry::finish(&logs);
    }
    if options.remove {
        // Directories that another node holds are left alone.
        let state = state_directory::clean(&options.state_directory);
        run_directory::clean(&options.run_directory)
            .and(state)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}
