//! From a path to the deployment that answers it: the longest prefix that ends where a segment ends.
//!
//! The raw path is compared, nothing is decoded, so `%2f` is no segment border. Only as many borders are looked at
//! as the deepest known prefix has, each with one hash look-up: the number of routes does not matter, and neither
//! does the length of a hostile path.

use std::rc::Rc;

use bytes::Bytes;
use eagleray_types::{
    DeploymentKey,
    control::{DeploymentTarget, RouteTable, TargetUpdate, VersionTarget},
};
use rustc_hash::FxHashMap;

use crate::{
    access_log::Whose,
    metrics::{Metrics, RouteMetrics},
    tally::{Marks, Tallies, Tally},
};

/// What the proxy knows of the deployment behind a route.
#[derive(Debug)]
pub(crate) struct Ingress {
    pub(crate) key: DeploymentKey,
    /// The ASGI `root_path`: options' root path and the prefix; empty for `/`.
    pub(crate) root_path: Bytes,
    pub(crate) access_log: bool,
    /// Whose its lines there are.
    pub(crate) whose: Whose,
    /// Bodies are complete before user code is called, and no longer than this.
    pub(crate) sync_body_limit: Option<u64>,
    pub(crate) backpressure_status: u16,
    pub(crate) retry_after_seconds: u32,
    /// Where requests count that begin now; `None`: nowhere.
    pub(crate) tally: Option<Rc<Tally>>,
    pub(crate) metrics: Rc<RouteMetrics>,
}

/// Targets and routes of one thread.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    by_prefix: FxHashMap<Box<str>, Rc<Ingress>>,
    catch_all: Option<Rc<Ingress>>,
    /// Segments of the deepest prefix.
    depth: usize,
    root_path: String,
    table: RouteTable,
    deployments: FxHashMap<DeploymentKey, DeploymentTarget>,
    marks: Marks,
    json: Bytes,
}

impl Routes {
    pub(crate) fn new(root_path: &str) -> Self {
        let root_path = root_path.trim_end_matches('/').to_owned();
        Self {
            root_path,
            json: Bytes::from_static(b"{}"),
            ..Self::default()
        }
    }

    /// Takes another root path.
    pub(crate) fn set_root_path(&mut self, root_path: &str, metrics: &Metrics) {
        let root_path = root_path.trim_end_matches('/');
        if self.root_path != root_path {
            root_path.clone_into(&mut self.root_path);
            self.rebuild(metrics);
        }
    }

    /// The deployment for a raw path.
    pub(crate) fn find(&self, path: &str) -> Option<&Rc<Ingress>> {
        let path = self.strip_root(path)?;
        let mut found = self.catch_all.as_ref();
        let bytes = path.as_bytes();
        let mut end = 0;
        for _ in 0..self.depth {
            if end >= bytes.len() {
                break;
            }
            end += 1;
            while bytes.get(end).is_some_and(|byte| *byte != b'/') {
                end += 1;
            }
            if let Some(ingress) = path
                .get(..end)
                .and_then(|prefix| self.by_prefix.get(prefix))
            {
                found = Some(ingress);
            }
        }
        found
    }

    /// The path of a special route (`/-/healthz`), without the root path.
    pub(crate) fn strip_root<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.root_path.is_empty() {
            return Some(path);
        }
        match path.strip_prefix(self.root_path.as_str())? {
            "" => Some("/"),
            rest => rest.starts_with('/').then_some(rest),
        }
    }

    /// `{"/prefix": "application"}`.
    pub(crate) fn json(&self) -> Bytes {
        self.json.clone()
    }

    /// Takes an update that the router has accepted.
    pub(crate) fn apply(&mut self, update: &TargetUpdate, tallies: &Tallies, metrics: &Metrics) {
        if update.snapshot {
            self.deployments.clear();
            self.table = RouteTable::default();
        }
        for key in &update.removed {
            self.deployments.remove(key);
        }
        for target in &update.deployments {
            let mut target = target.clone();
            // The router knows the replicas; here they would only cost memory.
            for version in &mut target.versions {
                version.replicas = Vec::new();
            }
            self.deployments.insert(target.key.clone(), target);
        }
        if let Some(table) = &update.routes {
            self.table = table.clone();
        }
        self.marks.apply(update, tallies);
        self.rebuild(metrics);
    }

    fn rebuild(&mut self, metrics: &Metrics) {
        let before = std::mem::take(&mut self.by_prefix);
        let catch_all = self.catch_all.take();
        self.depth = 0;
        let mut json = String::from("{");
        for route in &self.table.routes {
            if json.len() > 1 {
                json.push_str(", ");
            }
            push_json_string(&mut json, &route.prefix);
            json.push_str(": ");
            push_json_string(&mut json, &route.ingress.application);
            let target = self.deployments.get(&route.ingress);
            let known = match route.prefix.as_str() {
                "/" => catch_all.as_ref(),
                prefix => before.get(prefix),
            };
            // It goes on where it counted, unless another deployment has the route now.
            let metrics = known
                .filter(|known| known.key == route.ingress)
                .map_or_else(
                    || metrics.route(&route.prefix, &route.ingress),
                    |known| Rc::clone(&known.metrics),
                );
            let ingress = Rc::new(ingress(
                &self.root_path,
                &route.prefix,
                &route.ingress,
                target,
                self.marks.of(&route.ingress.application),
                metrics,
            ));
            if route.prefix == "/" {
                self.catch_all = Some(ingress);
            } else {
                let depth = route.prefix.bytes().filter(|byte| *byte == b'/').count();
                self.depth = self.depth.max(depth);
                self.by_prefix.insert(route.prefix.as_str().into(), ingress);
            }
        }
        json.push('}');
        self.json = Bytes::from(json);
    }
}

fn ingress(
    root_path: &str,
    prefix: &str,
    key: &DeploymentKey,
    target: Option<&DeploymentTarget>,
    tally: Option<Rc<Tally>>,
    metrics: Rc<RouteMetrics>,
) -> Ingress {
    let root = if prefix == "/" {
        root_path.to_owned()
    } else {
        format!("{root_path}{prefix}")
    };
    let versions = target.map_or(&[][..], |target| &target.versions);
    // A deployment in the middle of a rollout may have a sync and an async version: the stricter rule fits both.
    let sync_body_limit = versions
        .iter()
        .filter(|version| version.sync_bodies)
        .map(|version| version.max_body_bytes)
        .min();
    Ingress {
        key: key.clone(),
        root_path: Bytes::from(root),
        access_log: target.is_some_and(|target| target.access_log),
        whose: Whose::new(key, only_revision(versions)),
        sync_body_limit,
        backpressure_status: if target.is_some_and(|target| target.backpressure_status == 429) {
            429
        } else {
            503
        },
        retry_after_seconds: target.map_or(0, |target| target.retry_after_seconds),
        tally,
        metrics,
    }
}

/// The revision that requests go to; `None`: none yet, or one of several.
fn only_revision(versions: &[VersionTarget]) -> Option<&str> {
    let mut taking = versions.iter().filter(|version| version.weight > 0);
    let revision = taking.next()?.revision.as_str();
    taking
        .all(|other| other.revision == revision)
        .then_some(revision)
}

fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if (control as u32) < 0x20 => {
                out.push_str("\\u00");
                for shift in [4, 0] {
                    out.push(char::from_digit(control as u32 >> shift & 15, 16).unwrap_or('0'));
                }
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use eagleray_types::control::Route;

    use super::*;

    fn routes(root_path: &str, prefixes: &[&str]) -> Routes {
        let mut routes = Routes::new(root_path);
        let table = prefixes
            .iter()
            .map(|prefix| Route {
                prefix: (*prefix).to_owned(),
                ingress: DeploymentKey::new(*prefix, "D"),
            })
            .collect();
        let update = TargetUpdate {
            snapshot: true,
            routes: Some(RouteTable { routes: table }),
            ..Default::default()
        };
        routes.apply(&update, &Tallies::default(), &Metrics::new(None));
        routes
    }

    fn found<'a>(routes: &'a Routes, path: &str) -> Option<&'a str> {
        routes.find(path).map(|ingress| ingress.metrics.label())
    }

    #[test]
    fn the_longest_prefix_at_a_segment_border_wins() {
        let routes = routes("", &["/", "/a", "/a/b"]);
        for (path, expected) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("/ab", "/"),
            ("/a/x/y", "/a"),
            ("/a/b", "/a/b"),
            ("/a/b/c", "/a/b"),
            ("/a/bc", "/a"),
            ("/a%2fb", "/"),
        ] {
            assert_eq!(found(&routes, path), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_path_that_no_prefix_covers_has_no_deployment() {
        let routes = routes("", &["/a"]);
        for path in ["/", "/b", "/ab", "", "*"] {
            assert_eq!(found(&routes, path), None, "{path}");
        }
    }

    #[test]
    fn the_root_path_stands_before_every_prefix() {
        let routes = routes("/root", &["/", "/a"]);
        assert_eq!(found(&routes, "/root/a"), Some("/a"));
        assert_eq!(found(&routes, "/root"), Some("/"));
        assert_eq!(found(&routes, "/a"), None);
        assert_eq!(routes.find("/root/a").unwrap().root_path, "/root/a");
    }

    #[test]
    fn routes_are_listed_as_json() {
        assert_eq!(routes("", &["/a"]).json(), "{\"/a\": \"/a\"}");
        let mut text = String::new();
        push_json_string(&mut text, "a\"\\\n");
        assert_eq!(text, "\"a\\\"\\\\\\u000a\"");
    }
}
