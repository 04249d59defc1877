//! What a config says of HTTP: what a node that runs takes anew, and what only one that starts can.
//!
//! What holds is what the node was started with, and over it, key by key and limit by limit, what the last config states.
//! So a key that is taken out of the file is as the node was started again, and nothing of it depends on what was deployed
//! before. It is made durable with the deploy, told to the node, which tells its proxy and each after it, and gone back
//! to with a rollback. Host, port and whether there is TLS at all are where clients connect: a config that states others is
//! told so, with the command that has it.

use eagleray_config::table::HTTP_OPTIONS;
use eagleray_types::control::{ConfigureProxy, ProxyConfigured, node_command};
use serde_json::{Map, Value};

use super::outbox::{About, EventLevel, Outbox};
use crate::books::{Books, events::EventKind, history::History};

/// Names of files.
const FILES: [&str; 3] = ["ssl_certfile", "ssl_keyfile", "ssl_ca_certs"];

/// What the node was told last.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// As text; `None`: nothing yet, by this controller.
    told: Option<String>,
    /// Of what it was told; what is stated since may be the same.
    stated: String,
    number: u64,
    say_again: bool,
}

impl Settings {
    /// Files may be others by the same names.
    pub(super) fn say_again(&mut self) {
        self.say_again = true;
    }

    /// Tells the node what holds, if that is something else than it was told. `all`: what is stated beside applications.
    pub(super) fn tell(&mut self, all: &str, out: &mut Outbox) {
        let is_known = self.told.is_some() && self.stated == all;
        if is_known && !std::mem::take(&mut self.say_again) {
            return;
        }
        self.say_again = false;
        let before = self.told.is_some().then(|| in_force(&self.stated, out));
        let now = in_force(all, out);
        all.clone_into(&mut self.stated);
        if let Some(before) = before {
            let changed = changes(&before, &now);
            if !changed.is_empty() {
                let message = format!("http_options: {}", changed.join(", "));
                let about = About::default();
                out.event(EventKind::Config, EventLevel::Info, about, &message);
            }
        }
        self.number += 1;
        let text = Value::Object(now).to_string();
        self.told = Some(text.clone());
        let node = out.options.node.clone();
        let told = ConfigureProxy {
            settings: text,
            number: self.number,
            kept: Vec::new(),
        };
        out.node(&node, node_command::Body::ConfigureProxy(told));
    }
}

/// What the proxy says of what it was told.
pub(super) fn on_configured(said: &ProxyConfigured, out: &mut Outbox) {
    let kind = EventKind::Config;
    if !said.problem.is_empty() {
        let message = format!("what was in force stays: {}", said.problem);
        out.event(kind, EventLevel::Warning, About::default(), &message);
    }
    if !said.renewed.is_empty() {
        out.event(kind, EventLevel::Info, About::default(), &said.renewed);
    }
}

/// The `http_options` that a config states.
pub(super) fn stated(config: &Map<String, Value>) -> Map<String, Value> {
    let stated = config.get("http_options").and_then(Value::as_object);
    stated.cloned().unwrap_or_default()
}

/// Whether what is stated beside an application is something else than with its last revision.
pub(super) fn are_new(books: &Books, application: &str, all: &str) -> bool {
    let of = |all: &str| stated(&serde_json::from_str(all).unwrap_or_default());
    let last = books.desired.history(application).and_then(History::last);
    last.is_some_and(|last| last.http_options() != of(all))
}

/// What holds where this is stated beside applications, as JSON.
fn in_force(all: &str, out: &Outbox) -> Map<String, Value> {
    let all: Map<String, Value> = serde_json::from_str(all).unwrap_or_default();
    over(&out.options.http, &stated(&all))
}

/// What would hold anew if this were stated instead, for people.
pub(super) fn planned(books: &Books, stated: &str, out: &Outbox) -> Vec<String> {
    let before = in_force(books.desired.declared.node_options(), out);
    changes(&before, &in_force(stated, out))
}

/// What holds, for people: with the defaults, and of the limits those that were set.
pub(super) fn shown(books: &Books, out: &Outbox) -> String {
    let held = in_force(books.desired.declared.node_options(), out);
    Value::Object(HTTP_OPTIONS.with_defaults(&held)).to_string()
}

/// What is stated, as far as it can be taken, over what the node was started with.
fn over(runs: &Map<String, Value>, stated: &Map<String, Value>) -> Map<String, Value> {
    let mut all = runs.clone();
    for (key, wanted) in stated {
        match (all.get_mut(key), wanted) {
            (Some(Value::Object(limits)), Value::Object(wanted)) if key == "limits" => {
                limits.extend(wanted.clone());
            }
            _ if is_final(key, wanted, runs) || is_own_file(key, wanted, runs) => {}
            _ => drop(all.insert(key.clone(), wanted.clone())),
        }
    }
    all
}

/// Whether a node that runs cannot have that.
fn is_final(key: &str, wanted: &Value, runs: &Map<String, Value>) -> bool {
    let has_tls = runs.get("ssl_certfile").is_some_and(Value::is_string);
    match key {
        "host" | "port" => true,
        "ssl_certfile" | "ssl_keyfile" => wanted.is_string() != has_tls,
        "ssl_ca_certs" => !has_tls,
        _ => false,
    }
}

/// Whether it is the file that the node was started with, whose whole path the node has.
fn is_own_file(key: &str, wanted: &Value, runs: &Map<String, Value>) -> bool {
    FILES.contains(&key)
        && wanted.is_string()
        && is_same(key, wanted, runs.get(key).unwrap_or(&Value::Null))
}

/// What can never be taken, in words.
pub(super) fn check(stated: &Map<String, Value>, runs: &Map<String, Value>) -> Result<(), String> {
    for key in FILES {
        let Some(wanted @ Value::String(file)) = stated.get(key) else {
            continue;
        };
        let is_taken = !is_final(key, wanted, runs) && !is_own_file(key, wanted, runs);
        if is_taken && !file.starts_with('/') {
            return Err(format!(
                "http_options.{key} {file}: write the whole path, since the node works in another directory"
            ));
        }
    }
    Ok(())
}

/// What differs, for people: `limits.header_count 100 -> 200`.
fn changes(before: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let (before, now) = (
        HTTP_OPTIONS.with_defaults(before),
        HTTP_OPTIONS.with_defaults(now),
    );
    let mut changed = Vec::new();
    let mut compare = |name: String, before: &Value, now: &Value| {
        if before != now {
            let (before, now) = (plainly(before), plainly(now));
            changed.push(format!("{name} {before} -> {now}"));
        }
    };
    for key in HTTP_OPTIONS.keys {
        let of = |all: &Map<String, Value>| all.get(key.name).cloned().unwrap_or_default();
        match (of(&before), of(&now)) {
            (Value::Object(before), Value::Object(now)) => {
                let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
                names.sort_unstable();
                names.dedup();
                for name in names {
                    let of = |all: &Map<String, Value>| all.get(name).cloned().unwrap_or_default();
                    compare(format!("{}.{name}", key.name), &of(&before), &of(&now));
                }
            }
            (before, now) => compare(key.name.to_owned(), &before, &now),
        }
    }
    changed
}

/// A whole number without its fraction, and the rest as JSON.
fn plainly(value: &Value) -> String {
    match value.as_f64() {
        Some(number) => number.to_string(),
        None => value.to_string(),
    }
}

/// What to say of stated `http_options` that a node that runs cannot have; `None`: there are none.
///
/// # Arguments
/// `stated`: as a config has them. `runs`: the same keys, as the node was started with them.
pub(super) fn warning(stated: &Map<String, Value>, runs: &Map<String, Value>) -> Option<String> {
    let complete = HTTP_OPTIONS.with_defaults(runs);
    let (mut differs, mut flags) = (Vec::new(), Vec::new());
    for (key, wanted) in stated {
        let has = complete.get(key).unwrap_or(&Value::Null);
        if is_final(key, wanted, runs) && !is_same(key, wanted, has) {
            differs.push(format!("{key} {wanted} (the node has {has})"));
            flags.extend(flags_of(key, wanted));
        }
    }
    (!differs.is_empty()).then(|| {
        format!(
            "http_options: {} has no effect on a node that runs; to have it, start the node with it: `eagleray stop`, \
             then `eagleray start {}`. Applications that are deployed come back by themselves",
            differs.join(", "),
            flags.join(" ")
        )
    })
}

fn is_same(key: &str, wanted: &Value, has: &Value) -> bool {
    match (key, wanted) {
        // Whichever the node has.
        ("port", wanted) if wanted.as_u64() == Some(0) => true,
        ("port", wanted) => wanted.as_f64() == has.as_f64(),
        // The node has the whole path.
        ("ssl_certfile" | "ssl_keyfile" | "ssl_ca_certs", Value::String(file)) => {
            let has = has.as_str().unwrap_or_default();
            has == file || has.ends_with(&format!("/{}", file.trim_start_matches("./")))
        }
        _ => wanted == has,
    }
}

/// How `eagleray start` is told so.
fn flags_of(key: &str, wanted: &Value) -> Option<String> {
    let flag = format!("--http-{}", key.replace('_', "-"));
    match wanted {
        Value::Null if key == "host" => Some("--no-http".to_owned()),
        Value::Null => None,
        Value::String(text) => Some(format!("{flag} {text}")),
        other => Some(format!("{flag} {other}")),
    }
}

#[cfg(test)]
mod tests;
