//! Where decisions put what is to be done: commands, in the order in which they are to be carried out.
//!
//! It is passed beside the state that a decision changes and knows nothing of that, so a decision may hold both. With
//! it goes what it takes to write a command: the options of this life of the controller, ids of questions, and numbers
//! drawn from the generator that was seeded at construction.

use std::{mem, time::Duration};

use eagleray_types::{
    DeploymentKey, NodeId,
    control::{
        ApiError, ApiResponse, Empty, EventRecord, Relay, ReplicaCommand, Stop, api_response,
        node_command, replica_command,
    },
    replica_log_name,
};
use prost::Message as _;

use super::{
    CoreOptions,
    clip::{IN_LOG, clip, one_line},
    command::{Command, Level},
    event::CallId,
};
use crate::books::events::EventKind;

/// What an event is about; empty where it is about none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About<'a> {
    pub(super) application: &'a str,
    pub(super) deployment: &'a str,
    pub(super) replica_id: &'a str,
}

impl<'a> About<'a> {
    pub(super) fn application(name: &'a str) -> Self {
        Self {
            application: name,
            ..Self::default()
        }
    }

    pub(super) fn deployment(key: &'a DeploymentKey) -> Self {
        Self::replica(key, "")
    }

    pub(super) fn replica(key: &'a DeploymentKey, replica_id: &'a str) -> Self {
        Self {
            application: &key.application,
            deployment: &key.deployment,
            replica_id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventLevel {
    Info,
    Warning,
    Error,
}

impl EventLevel {
    const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) options: CoreOptions,
    /// Wall clock in seconds, as it was told last: only kept and shown.
    pub(super) wall_now_s: f64,
    /// The time of the event that is being decided about.
    pub(super) now: Duration,
    random: fastrand::Rng,
    question: u64,
    /// A `List` is on its way.
    listing: bool,
    /// Wall-clock seconds at the moment zero.
    wall_time_began_s: f64,
    commands: Vec<Command>,
    /// What has happened, to be numbered.
    happened: Vec<EventRecord>,
    /// What is desired is not what the store was given last, as far as is known.
    save_wanted: bool,
    /// `Stop` goes out after the update that takes the replica from the routers.
    stops: Vec<Command>,
}

impl Outbox {
    pub(super) fn new(options: CoreOptions) -> Self {
        Self {
            random: fastrand::Rng::with_seed(options.seed),
            options,
            wall_now_s: 0.0,
            now: Duration::ZERO,
            question: 0,
            listing: false,
            wall_time_began_s: 0.0,
            save_wanted: false,
            commands: Vec::new(),
            happened: Vec::new(),
            stops: Vec::new(),
        }
    }

    /// What has come together, to be carried out.
    pub(super) fn take(&mut self) -> Vec<Command> {
        mem::take(&mut self.commands)
    }

    pub(super) fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    pub(super) fn node(&mut self, node: &NodeId, body: node_command::Body) {
        let node = node.clone();
        self.push(Command::Node { node, body });
    }

    /// Tells a replica something, through its node.
    pub(super) fn tell(&mut self, node: &NodeId, replica_id: &str, body: replica_command::Body) {
        let relay = Relay {
            replica_id: replica_id.to_owned(),
            payload: ReplicaCommand { body: Some(body) }.encode_to_vec(),
        };
        self.node(node, node_command::Body::Relay(relay));
    }

    /// Ends a replica. The command waits for [`Outbox::release_stops`].
    pub(super) fn stop(
        &mut self,
        node: &NodeId,
        replica_id: &str,
        epoch: u64,
        grace_milliseconds: u64,
    ) {
        let stop = Stop {
            replica_id: replica_id.to_owned(),
            epoch,
            grace_milliseconds,
        };
        self.stops.push(Command::Node {
            node: node.clone(),
            body: node_command::Body::Stop(stop),
        });
    }

    /// Routers know by now who goes.
    pub(super) fn release_stops(&mut self) {
        self.commands.append(&mut self.stops);
    }

    /// Asks the node what lives, unless an answer is on its way already.
    pub(super) fn list(&mut self) {
        if !mem::replace(&mut self.listing, true) {
            let node = self.options.node.clone();
            self.node(&node, node_command::Body::List(Empty {}));
        }
    }

    /// The node has answered [`Outbox::list`].
    pub(super) fn listed(&mut self) {
        self.listing = false;
    }

    /// It is so late by the wall clock.
    pub(super) fn set_wall_time_s(&mut self, wall_time_s: f64, now: Duration) {
        self.wall_now_s = wall_time_s;
        self.wall_time_began_s = wall_time_s - now.as_secs_f64();
    }

    /// The wall-clock seconds of a moment, for people; 0 when nobody has said what time it is.
    pub(super) fn wall_time_s(&self, at: Duration) -> f64 {
        match self.wall_time_began_s {
            0.0 => 0.0,
            began => (began + at.as_secs_f64()).max(0.0),
        }
    }

    /// Has what is desired saved, when the store has nothing else to do.
    pub(super) fn want_save(&mut self) {
        self.save_wanted = true;
    }

    pub(super) fn is_save_wanted(&self) -> bool {
        self.save_wanted
    }

    /// The store is given all that is desired by now.
    pub(super) fn save_is_begun(&mut self) {
        self.save_wanted = false;
    }

    pub(super) fn reply(&mut self, call: CallId, body: api_response::Body) {
        self.push(Command::Reply {
            call,
            response: ApiResponse { body: Some(body) },
        });
    }

    pub(super) fn refuse(&mut self, call: CallId, error: ApiError) {
        self.reply(call, api_response::Body::Error(error));
    }

    pub(super) fn log(&mut self, level: Level, message: String) {
        self.push(Command::Log { level, message });
    }

    /// A warning about a deployment, cut to a length that a crash loop cannot fill the log with.
    pub(super) fn warn_of(&mut self, deployment: &DeploymentKey, message: &str) {
        let message = format!("{deployment}: {}", clip(message, IN_LOG));
        self.log(Level::Warning, message);
    }

    /// Something has happened, for those who watch. `what`: an application, a deployment, or nothing of the kind.
    pub(super) fn event(
        &mut self,
        kind: EventKind,
        level: EventLevel,
        what: About<'_>,
        message: &str,
    ) {
        self.happened.push(EventRecord {
            number: 0,
            at_s: self.wall_now_s,
            kind: kind.word().to_owned(),
            level: level.word().to_owned(),
            application: what.application.to_owned(),
            deployment: what.deployment.to_owned(),
            replica_id: what.replica_id.to_owned(),
            message: one_line(message, what.application),
        });
    }

    pub(super) fn take_happened(&mut self) -> Vec<EventRecord> {
        mem::take(&mut self.happened)
    }

    /// The id of the next question to a replica.
    pub(super) fn next_question(&mut self) -> u64 {
        self.question += 1;
        self.question
    }

    /// Between 0 and 1.
    pub(super) fn draw(&mut self) -> f64 {
        self.random.f64()
    }

    /// Eight characters of `[a-z0-9]`, which may be in use.
    pub(super) fn draw_id(&mut self) -> String {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..8)
            .map(|_| char::from(LETTERS[self.random.usize(..LETTERS.len())]))
            .collect()
    }

    /// Where a replica's output is, for messages that name it.
    pub(super) fn log_path(&self, deployment: &DeploymentKey, replica_id: &str) -> String {
        let name = replica_log_name(deployment, replica_id);
        self.options.log_directory.join(name).display().to_string()
    }

    pub(super) fn socket_path(&self, replica_id: &str) -> String {
        let path = self.options.run_directory.join("r");
        path.join(format!("{replica_id}.sock"))
            .display()
            .to_string()
    }

    /// The file of a blob; empty for none.
    pub(super) fn blob_path(&self, name: &str) -> String {
        match name {
            "" => String::new(),
            name => self.options.blob_directory.join(name).display().to_string(),
        }
    }
}
