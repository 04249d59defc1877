//! The reaper's role: what [`eagleray_supervisor::reaper`] does, in a process of its own.

use std::io;

use eagleray_supervisor::reaper;

use crate::{
    roles,
    settings::{self, ReaperOptions},
    telemetry,
};

pub(crate) fn main() -> Result<(), String> {
    roles::leave_signals_to_the_node()?;
    let options: ReaperOptions = settings::own_options()?;
    if reaper::node_ends_in_order(io::stdin()) {
        return Ok(());
    }
    // Without a thread for its log it still does its work.
    let logs = telemetry::start("reaper", "node", &options.logs).ok();
    tracing::warn!("the node is gone; its processes are ended");
    reaper::end_processes(&options.node_id);
    tracing::info!("nothing of it is left");
    if let Some(logs) = logs {
        telemetry::finish(&logs);
    }
    if options.remove {
        reaper::remove_directories(&options.run_directory, &options.state_directory)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}
