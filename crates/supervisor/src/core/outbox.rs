//! The commands of one event, in their order.

use bytes::Bytes;
use eagleray_types::{
    NodeId,
    control::{NodeEvent, ProxyCommand, node_event::Body, proxy_command},
};
use prost::Message;

use super::{Command, Level, ReplicaCommand, Role, ServiceCommand};

#[derive(Debug)]
pub(super) struct Outbox {
    node: NodeId,
    commands: Vec<Command>,
}

impl Outbox {
    /// Of this node.
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            node,
            commands: Vec::new(),
        }
    }

    pub(super) fn node(&self) -> &NodeId {
        &self.node
    }

    pub(super) fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    pub(super) fn log(&mut self, level: Level, message: impl Into<String>) {
        let message = message.into();
        self.push(Command::Log { level, message });
    }

    /// For the controller, if there is one that is listened to.
    pub(super) fn report(&mut self, event: Body) {
        self.push(Command::Report(NodeEvent {
            body: Some(event),
            node: self.node.to_string(),
        }));
    }

    pub(super) fn service(&mut self, role: Role, command: ServiceCommand) {
        self.push(Command::Service(role, command));
    }

    pub(super) fn replica(&mut self, replica_id: &str, command: ReplicaCommand) {
        self.push(Command::Replica(replica_id.to_owned(), command));
    }

    /// What the proxy must not miss.
    pub(super) fn tell_proxy(&mut self, body: proxy_command::Body) {
        self.service(Role::Proxy, ServiceCommand::Tell(encode(body)));
    }

    /// What the proxy may miss.
    pub(super) fn ask_proxy(&mut self, body: proxy_command::Body) {
        self.service(Role::Proxy, ServiceCommand::Ask(encode(body)));
    }

    /// All of them, without the reports if nobody `hears` them.
    pub(super) fn take(&mut self, hears: bool) -> Vec<Command> {
        let mut commands = std::mem::take(&mut self.commands);
        if !hears {
            commands.retain(|command| !matches!(command, Command::Report(_)));
        }
        commands
    }
}

fn encode(body: proxy_command::Body) -> Bytes {
    ProxyCommand { body: Some(body) }.encode_to_vec().into()
}
