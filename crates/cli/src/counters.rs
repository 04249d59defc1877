//! `eagleray status --counters`: what each proxy has counted since it started.

use eagleray_supervisor::run_directory;
use eagleray_types::control::{
    Empty, NodeCounters, NodeRequest, NodeResponse, node_request, node_response,
};

use crate::{
    exit::Exit,
    output::say,
    socket,
    tree::Tree,
    trouble::{Outcome, Trouble},
};

pub(crate) fn run(node: Option<&str>, json: bool) -> Outcome {
    let node = socket::find(node)?;
    let socket = run_directory::root().join(&node.name).join("node.sock");
    let request = NodeRequest {
        body: Some(node_request::Body::Count(Empty {})),
    };
    let counters = match socket::call::<NodeResponse>(&socket, &request)?.body {
        Some(node_response::Body::Counters(counters)) => counters,
        Some(node_response::Body::Error(error)) => return Err(error.message.into()),
        other => {
            return Err(Trouble::from(format!(
                "the node gave an answer of another kind: {other:?}"
            )));
        }
    };
    let tree = whole(&counters);
    let text = if json { tree.json() } else { tree.yaml(false) };
    say(text.trim_end());
    Ok(Exit::Done)
}

fn whole(counters: &NodeCounters) -> Tree {
    let proxies = counters.proxies.iter().map(|proxy| {
        let counted = proxy.counters.iter();
        let counted = counted.map(|(name, number)| (name.clone(), Tree::Count(*number)));
        (proxy.pid.to_string(), Tree::Map(counted.collect()))
    });
    Tree::map([("proxies", Tree::Map(proxies.collect()))])
}

#[cfg(test)]
mod tests {
    use eagleray_types::control::ProxyCounters;

    use super::*;

    #[test]
    fn each_proxy_is_named_by_its_process() {
        let proxy = ProxyCounters {
            pid: 42,
            counters: [("panics".to_owned(), 0), ("slow_readers".to_owned(), 7)].into(),
        };
        let counters = NodeCounters {
            proxies: vec![proxy],
        };
        assert_eq!(
            whole(&counters).yaml(false),
            "proxies:\n  '42':\n    panics: 0\n    slow_readers: 7\n"
        );
    }
}
