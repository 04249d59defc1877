//! `eagleray stop`: ends a node in order and returns when nothing of it is left.

use eagleray_cli::{say, socket};
use eagleray_supervisor::{
    processes,
    run_directory::{self, NodeRecord},
};
use eagleray_types::control::{Empty, NodeRequest, NodeResponse, node_request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longer than a node takes that has to kill what it runs.
const END_WITHIN_SECONDS: i64 = 40;

pub(super) fn run(given: Option<&str>) -> Result<(), String> {
    let name = given.map_or_else(socket::default_node_name, str::to_owned);
    let root = run_directory::root();
    let mut running = run_directory::records(&root);
    let found = running.iter().position(|record| record.name == name);
    let Some((node, process)) = found.and_then(|index| {
        let node = running.swap_remove(index);
        let process = processes::open(node.pid).ok()?;
        Some((node, process))
    }) else {
        return nothing(given, &name, &running);
    };
    let request = NodeRequest {
        body: Some(node_request::Body::Shutdown(Empty {})),
    };
    let _: NodeResponse = socket::call(&root.join(&name).join("node.sock"), &request)?;
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

/// No such node runs. For who only wants that nothing runs this is as asked for; a name that is given is meant.
fn nothing(given: Option<&str>, name: &str, running: &[NodeRecord]) -> Result<(), String> {
    let others: Vec<&str> = running
        .iter()
        .map(|record| record.name.as_str())
        .filter(|other| *other != name)
        .collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!("; running: {}", others.join(", ")),
    };
    let text = format!("no node {name:?} runs{others}");
    if given.is_some() {
        return Err(text);
    }
    say(&text);
    Ok(())
}
