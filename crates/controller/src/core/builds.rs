//! Builds: processes that make a revision of what is declared.
//!
//! Which builds should run follows from the declarations, as replicas follow from the plan: what is declared and not yet
//! built has one, and every other is ended. So a newer config, a delete and a restart of the controller need nothing of
//! their own. A build says its result as any client; its end without one is its failure. It may take
//! [`BUILD_TIMEOUT`], from the start of its process or from when this controller has found it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use eagleray_types::{
    DeploymentKey, build_log_name,
    control::{Failure, ListedReplica, Spawn, Stop, node_command},
};
use prost::Message as _;
use serde_json::json;

use super::{
    command::Level,
    label::Label,
    outbox::{About, EventLevel, Outbox},
};
use crate::books::{
    declared::{Declared, Step},
    events::EventKind,
};

/// Imports of the largest models' frameworks take a minute or two on a cold disk.
pub(super) const BUILD_TIMEOUT: Duration = Duration::from_secs(300);
/// One that has said its result has only to keep what it has read for the next one.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Builds at a time; others wait. Each is a Python that imports what it likes.
const MOST_AT_ONCE: usize = 4;
/// Applications of which it is kept what a build printed.
const MOST_PRINTED: usize = 1000;
/// Lines of what a build printed last that are shown.
const PRINTED_LINES: usize = 20;

#[derive(Debug)]
struct Process {
    build: u64,
    application: String,
    epoch: u64,
    ends_at: Duration,
    /// It has said its result, and ends by itself.
    said: bool,
    /// It was told to end.
    stopped: bool,
    /// Its time is over.
    timed_out: bool,
}

/// Those that run, and what is known of them beside what is declared.
#[derive(Debug, Default)]
pub(super) struct Builds {
    running: BTreeMap<String, Process>,
    /// By application: the last lines of the build that ended last.
    printed: BTreeMap<String, Vec<String>>,
}

impl Builds {
    /// Starts and ends what follows from what is wanted: builds, and whether each may be deployed.
    pub(super) fn follow(
        &mut self,
        wanted: Vec<(&Declared, bool)>,
        now: Duration,
        out: &mut Outbox,
    ) {
        let builds: BTreeSet<u64> = wanted.iter().map(|(one, _)| one.build).collect();
        for (id, process) in &mut self.running {
            if !process.said && !builds.contains(&process.build) {
                process.stop(id, out);
            }
        }
        let running: BTreeSet<u64> = self.running.values().map(|one| one.build).collect();
        let room = MOST_AT_ONCE.saturating_sub(self.running.len());
        let missing = wanted
            .into_iter()
            .filter(|(one, _)| !running.contains(&one.build));
        for (one, stores) in missing.take(room) {
            self.start(one, stores, now, out);
        }
    }

    fn start(&mut self, declared: &Declared, stores: bool, now: Duration, out: &mut Outbox) {
        let id = loop {
            let id = out.draw_id();
            if !self.running.contains_key(&id) {
                break id;
            }
        };
        let process = Process {
            build: declared.build,
            application: declared.application.clone(),
            epoch: out.options.epoch,
            ends_at: now + BUILD_TIMEOUT,
            said: false,
            stopped: false,
            timed_out: false,
        };
        let message = format!(
            "application '{}' is being built; what that prints is in {}",
            process.application,
            log_path(&process.application, &id, out)
        );
        out.log(Level::Info, message);
        if stores {
            let about = About::application(&process.application);
            out.event(EventKind::Build, EventLevel::Info, about, "build begins");
        }
        let node = out.options.node.clone();
        let spawn = command(declared, stores, &id, out);
        out.node(&node, node_command::Body::Spawn(spawn));
        self.running.insert(id, process);
    }

    /// One that an earlier controller has started.
    pub(super) fn adopt(&mut self, listed: &ListedReplica, label: &Label, now: Duration) {
        let process = Process {
            build: label.build,
            application: label.deployment.application.clone(),
            epoch: listed.epoch,
            ends_at: now + BUILD_TIMEOUT,
            said: false,
            stopped: listed.stopping,
            timed_out: false,
        };
        self.running.insert(listed.replica_id.clone(), process);
    }

    /// A build has said its result. It says it again until it is taken.
    pub(super) fn said(&mut self, build: u64, now: Duration) {
        for process in self.running.values_mut() {
            if process.build == build {
                process.said = true;
                process.ends_at = now + END_WITHIN;
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let waiting = self.running.values().filter(|one| !one.stopped);
        waiting.map(|one| one.ends_at).min()
    }

    /// Ends those whose time is over.
    pub(super) fn on_timeout(&mut self, now: Duration, out: &mut Outbox) {
        for (id, process) in &mut self.running {
            if process.ends_at <= now && !process.stopped {
                process.timed_out = true;
                process.stop(id, out);
            }
        }
    }

    /// A process has ended: what comes of that, if it has said nothing else. `None`: it was no build.
    pub(super) fn on_exited(
        &mut self,
        id: &str,
        reason: &str,
        tail: &str,
        out: &Outbox,
    ) -> Option<Step> {
        let process = self.running.remove(id)?;
        let lines: Vec<String> = tail.lines().map(str::to_owned).collect();
        let shown = lines[lines.len().saturating_sub(PRINTED_LINES)..].to_vec();
        let log = log_path(&process.application, id, out);
        let failure = process.failure(reason, &shown, &log);
        if self.printed.len() >= MOST_PRINTED {
            self.printed.pop_first();
        }
        self.printed.insert(process.application.clone(), shown);
        Some(Step::Failed {
            application: process.application,
            build: process.build,
            failure,
        })
    }

    /// A process could not be made: what comes of that. `None`: it was no build.
    pub(super) fn on_not_started(&mut self, id: &str, message: &str) -> Option<Step> {
        let process = self.running.remove(id)?;
        let failure = Failure {
            code: "build_not_started".to_owned(),
            message: format!("the build's process could not be started: {message}"),
            place: String::new(),
            help: "correct the directory or the interpreter, and deploy again".to_owned(),
        };
        Some(Step::Failed {
            application: process.application,
            build: process.build,
            failure,
        })
    }

    pub(super) fn printed(&self, application: &str) -> Vec<String> {
        self.printed.get(application).cloned().unwrap_or_default()
    }
}

impl Process {
    fn stop(&mut self, id: &str, out: &mut Outbox) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let stop = Stop {
            replica_id: id.to_owned(),
            epoch: self.epoch,
            grace_milliseconds: 0,
        };
        let node = out.options.node.clone();
        out.node(&node, node_command::Body::Stop(stop));
    }

    /// What its end means, where it has said nothing else.
    fn failure(&self, reason: &str, printed: &[String], log: &str) -> Failure {
        let printed = match printed {
            [] => String::new(),
            lines => format!("; it printed last:\n{}", lines.join("\n")),
        };
        let (code, message, help) = if self.timed_out {
            let limit = BUILD_TIMEOUT.as_secs();
            (
                "build_timeout",
                format!("the build was ended after {limit} s{printed}"),
                "look for what the import waits for: move downloads and model loading into the constructor of a \
                 deployment",
            )
        } else {
            (
                "build_died",
                format!("the build's process ended before it had a result: {reason}{printed}"),
                "look for what ends the process while the module is imported, such as sys.exit or os._exit",
            )
        };
        Failure {
            code: code.to_owned(),
            message,
            place: String::new(),
            help: format!("{help}; all that it printed is in {log}"),
        }
    }
}

fn log_path(application: &str, id: &str, out: &Outbox) -> String {
    let name = build_log_name(application, id);
    out.options.log_directory.join(name).display().to_string()
}

fn command(declared: &Declared, stores: bool, id: &str, out: &Outbox) -> Spawn {
    let place = &declared.place;
    let mut environment = place.environment.clone();
    if !place.python_path.is_empty() {
        environment.insert("PYTHONPATH".to_owned(), place.python_path.join(":"));
    }
    let asked = json!({
        "build": declared.build,
        "application": declared.application,
        "config": declared.config,
        "app_directory": place.app_directory,
        "environment": place.environment,
        "rebuild": declared.rebuild,
        "stores": stores,
        "limit_s": BUILD_TIMEOUT.as_secs(),
        "controller": out.options.run_directory.join("controller.sock"),
        "blobs": out.options.blob_directory,
    });
    let deployment = DeploymentKey::new(declared.application.as_str(), "");
    Spawn {
        replica_id: id.to_owned(),
        epoch: out.options.epoch,
        label: Label {
            build: declared.build,
            deployment: deployment.clone(),
            ..Label::default()
        }
        .encode_to_vec(),
        deployment,
        python: match place.python.as_str() {
            "" => out.options.python.clone(),
            python => python.to_owned(),
        },
        working_directory: place.app_directory.clone(),
        environment,
        build: asked.to_string(),
        ..Spawn::default()
    }
}
