//! `eagleray stop`: ends a node in order and returns when nothing of it is left.

use eagleray_types::control::{Empty, NodeRequest, NodeResponse, node_request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{client, say};
use crate::{processes, run_directory, settings};

/// Longer than a node takes that has to kill what it runs.
const END_WITHIN_SECONDS: i64 = 40;

pub(super) fn run(name: Option<&str>) -> Result<(), String> {
    let name = name.map_or_else(settings::default_node_name, str::to_owned);
    let root = run_directory::root();
    let Some(node) = run_directory::records(&root)
        .into_iter()
        .find(|record| record.name == name)
    else {
        say(&format!("no node {name:?} runs"));
        return Ok(());
    };
    let Ok(process) = processes::open(node.pid) else {
        say(&format!("no node {name:?} runs"));
        return Ok(());
    };
    let request = NodeRequest {
        body: Some(node_request::Body::Shutdown(Empty {})),
    };
    let _: NodeResponse = client::call(&root.join(&name).join("node.sock"), &request)?;
    let limit = Timespec {
        tv_sec: END_WITHIN_SECONDS,
        tv_nsec: 0,
    };
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    if ended.map_err(|error| error.to_string())? == 0 {
        return Err(format!(
            "node {name} (process {}) has not ended within {END_WITHIN_SECONDS} s",
            node.pid
        ));
    }
    say(&format!("node {name} has ended"));
    Ok(())
}
