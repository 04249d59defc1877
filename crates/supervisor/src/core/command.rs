//! What a node's core commands.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use eagleray_types::control::{NodeCounters, NodeEvent, Spawn};
use rustix::process::Signal;

use crate::ready::Failure;

/// A native process of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Controller,
    Proxy,
    Reaper,
}

impl Role {
    /// As people and the environment call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Proxy => "proxy",
            Self::Reaper => "reaper",
        }
    }

    /// File of the log that it writes: the reaper is quiet, and writes where the node does.
    pub fn log_name(self) -> &'static str {
        match self {
            Self::Controller => "controller.log",
            Self::Proxy => "proxy.log",
            Self::Reaper => "node.log",
        }
    }
}

/// What is to be done. Those of one event are carried out in their order, before the next event is taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Service(Role, ServiceCommand),
    Replica(String, ReplicaCommand),
    /// What replicas with these imports are forked from ends.
    ForgetImports(String),
    /// For the controller that runs now.
    Report(NodeEvent),
    /// Look whether all is there; answered by [`Event::Looked`](super::Event::Looked).
    Look,
    /// Say whether the node is up; answered by [`Event::Announced`](super::Event::Announced) when it is. Once.
    Announce(Result<(), Failure>),
    /// Read the end of the log of a process; answered by [`Event::LogRead`](super::Event::LogRead).
    ReadLog(Role),
    /// What the proxy has counted, for all who asked; `None`: there is none that could say.
    Counted(Option<NodeCounters>),
    /// The status that people see has changed.
    Show(Status),
    Log {
        level: Level,
        message: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceCommand {
    /// Answered by `Started` or `NotStarted`.
    Start,
    /// A message that must not be missed: one that cannot be queued is answered by `DoesNotRead`.
    Tell(Bytes),
    /// A message that may be missed.
    Ask(Bytes),
    Signal(Signal),
    /// New connections are refused once the process has closed its copies.
    CloseListeners,
    /// The reaper hears that nothing is left to be done, and ends.
    SayAllIsWell,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ReplicaCommand {
    /// Answered by `Started` or `NotStarted`.
    Start(Box<Spawn>),
    /// As of a service.
    Tell(Bytes),
    Ask(Bytes),
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// What people are told of the node's own processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `HEALTHY`, `STARTING` while the proxy is away, `UNHEALTHY` while it keeps dying.
    pub proxy: &'static str,
    /// By process: what is wrong with it.
    pub troubles: BTreeMap<String, Trouble>,
}

/// What is wrong with a process of the node, or with something that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A stable word, such as `proxy_crash_loop`.
    pub code: String,
    pub sentence: String,
    pub help: String,
    /// When it began.
    pub since: Duration,
}
