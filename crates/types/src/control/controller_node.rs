//! Controller and node: [`NodeCommand`], [`NodeEvent`], and what they carry.

use super::{
    AppliedUpdate, ConfigureProxy, Empty, Loads, NodeResources, ProxyConfigured, Tallies,
    Unreachable,
};
use crate::DeploymentKey;

/// Controller to node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeCommand {
    #[prost(oneof = "node_command::Body", tags = "1, 2, 3, 4, 5, 7, 8")]
    pub body: Option<node_command::Body>,
    /// [`NodeId`](crate::NodeId) of the node that it is for. A node ignores a command for another one; empty: for whoever
    /// reads it.
    #[prost(string, tag = "6")]
    pub node: String,
}

pub mod node_command {
    #[expect(
        clippy::large_enum_variant,
        reason = "one is made for each process that is started, and encoded at once"
    )]
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "1")]
        Spawn(super::Spawn),
        #[prost(message, tag = "2")]
        Stop(super::Stop),
        #[prost(message, tag = "3")]
        List(super::Empty),
        #[prost(message, tag = "4")]
        Relay(super::Relay),
        #[prost(message, tag = "5")]
        Publish(super::Publish),
        /// For every proxy. The node keeps the last one, and hands it to a restarted proxy.
        #[prost(message, tag = "7")]
        ConfigureProxy(super::ConfigureProxy),
        #[prost(message, tag = "8")]
        ForgetImports(super::ForgetImports),
    }
}

/// No replica with these [`Spawn::imports`] will be started any more. One that is started all the same starts as the first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ForgetImports {
    #[prost(string, tag = "1")]
    pub imports: String,
}

/// Starts a replica process. A second `Spawn` with a known id does nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Spawn {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Shown as `eagleray: replica APP/DEPLOYMENT ID`.
    #[prost(message, required, tag = "3")]
    pub deployment: DeploymentKey,
    /// The interpreter that runs `bootstrap`.
    #[prost(string, tag = "4")]
    pub python: String,
    #[prost(string, tag = "5")]
    pub working_directory: String,
    /// Set over the node's own environment.
    #[prost(btree_map = "string, string", tag = "6")]
    pub environment: std::collections::BTreeMap<String, String>,
    /// An encoded [`ReplicaCommand`] that the node sends as the first on the new control connection.
    #[prost(bytes = "vec", tag = "7")]
    pub first_command: Vec<u8>,
    /// Opaque to the node, handed back by `List`: what the controller needs to adopt the replica.
    #[prost(bytes = "vec", tag = "8")]
    pub label: Vec<u8>,
    /// Path of `eagleray/_bootstrap.py` of the package that is meant, which keeps the user's directories off the path
    /// until our own modules are imported. Empty in a revision of an older release: `-m eagleray._replica`.
    #[prost(string, tag = "9")]
    pub bootstrap: String,
    /// Not empty: no replica but a build of the application in `deployment`, and what it is asked to do, as JSON, which it
    /// reads from its standard input. It listens nowhere, says its result to the controller as any client ([`Built`](super::Built)), and is killed when it
    /// is told to stop. Of what it prints, `Exited` has the end of both streams.
    #[prost(string, tag = "10")]
    pub build: String,
    /// What its process imports before it does anything of its own: replicas for which this, the interpreter, the working
    /// directory and the environment are the same may be forked from one process that has imported it. Empty: this one is
    /// not forked.
    #[prost(string, tag = "11")]
    pub imports: String,
    /// Beside `build`: it runs the autoscaling policies of the application, until it is told to stop.
    #[prost(bool, tag = "20")]
    pub policies: bool,
}

/// Ends a replica. Graceful: the node sends `ReplicaCommand::Stop` and kills what is left after the time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stop {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Milliseconds until SIGKILL; 0 kills at once.
    #[prost(uint64, tag = "3")]
    pub grace_milliseconds: u64,
}

/// Bytes for one replica (an encoded [`ReplicaCommand`]) or from one ([`ReplicaEvent`]); the node does not look.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Relay {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// An encoded [`TargetUpdate`] for every proxy. The node keeps the last snapshot and what followed it, opaque,
/// and hands them to a restarted proxy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Publish {
    #[prost(bool, tag = "1")]
    pub snapshot: bool,
    #[prost(bytes = "vec", tag = "2")]
    pub update: Vec<u8>,
    /// The life of the controller that sends it.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
}

/// Node to controller.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeEvent {
    #[prost(
        oneof = "node_event::Body",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14"
    )]
    pub body: Option<node_event::Body>,
    /// [`NodeId`](crate::NodeId) of the node where it happened; empty: at the other end of the connection.
    #[prost(string, tag = "11")]
    pub node: String,
}

pub mod node_event {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "1")]
        Listed(super::Listed),
        #[prost(message, tag = "2")]
        Exited(super::Exited),
        #[prost(message, tag = "3")]
        SpawnFailed(super::SpawnFailed),
        #[prost(message, tag = "4")]
        Relay(super::Relay),
        #[prost(message, tag = "5")]
        SnapshotWanted(super::Empty),
        /// The live proxy has applied this update, and with it every earlier one. With the proxy away it is sent
        /// when its successor has applied what the node kept.
        #[prost(message, tag = "6")]
        Published(super::AppliedUpdate),
        /// Somebody removed a replica's socket: who is connected stays so, and nobody else can connect. Repeated
        /// while it is so.
        #[prost(message, tag = "7")]
        SocketLost(super::SocketLost),
        /// Somebody removed `controller.sock`, or the one that is there is no more listened to: the controller binds
        /// a new one.
        #[prost(message, tag = "8")]
        ControllerSocketLost(super::Empty),
        /// Somebody removed the state directory, and with it the checkpoint: it shall be written again.
        #[prost(message, tag = "9")]
        StateLost(super::Empty),
        /// The proxy cannot connect to a replica.
        #[prost(message, tag = "10")]
        Unreachable(super::Unreachable),
        /// As the proxy says it, in its order among `Published`.
        #[prost(message, tag = "12")]
        Tallied(super::Tallies),
        /// As the proxy says it, in its order among `Published`.
        #[prost(message, tag = "13")]
        Loads(super::Loads),
        /// As the proxy says it, without what is secret.
        #[prost(message, tag = "14")]
        ProxyConfigured(super::ProxyConfigured),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SocketLost {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
}

/// Every replica process that lives, the answer to `List`: the truth after any restart.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Listed {
    #[prost(message, repeated, tag = "1")]
    pub replicas: Vec<ListedReplica>,
    /// The highest epoch that has published or started anything here.
    #[prost(uint64, tag = "2")]
    pub newest_epoch: u64,
    /// [`Spawn::imports`] of all that was started here and was not told to be forgotten: there may be a process for them.
    #[prost(string, repeated, tag = "3")]
    pub imports: Vec<String>,
    /// What the node has to give; none: it does not say, and whatever is asked fits.
    #[prost(message, optional, tag = "4")]
    pub resources: Option<NodeResources>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ListedReplica {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(string, tag = "3")]
    pub socket_path: String,
    #[prost(uint32, tag = "4")]
    pub pid: u32,
    #[prost(bytes = "vec", tag = "5")]
    pub label: Vec<u8>,
    /// The encoded [`ReplicaEvent`] with `Ready`, once the replica has sent it; else empty.
    #[prost(bytes = "vec", tag = "6")]
    pub ready: Vec<u8>,
    /// A `Stop` was accepted.
    #[prost(bool, tag = "7")]
    pub stopping: bool,
}

/// Proof of death: the process and all its children are gone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exited {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// `exit status 1`, `signal 9 (SIGKILL)`: for people.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// The last lines it wrote to stderr, for the error message of a replica that died while starting.
    #[prost(string, tag = "4")]
    pub stderr_tail: String,
    /// The signal that ended it. 0: none, or one that answered what the replica did itself.
    #[prost(uint32, tag = "5")]
    pub signal: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SpawnFailed {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(string, tag = "3")]
    pub message: String,
}
