//! What the controller says, carried out.

use std::time::Duration;

use bytes::Bytes;
use eagleray_types::control::{Empty, NodeCommand, node_command};
use prost::Message;

use super::{Core, Level, Role};

impl Core {
    pub(super) fn on_controller(&mut self, message: Bytes, now: Duration) {
        if self.phase.is_ending() {
            return;
        }
        self.controller_spoke = true;
        // It has read its checkpoint.
        self.troubles.clear(Role::Controller.name());
        let body = match NodeCommand::decode(message) {
            Ok(NodeCommand { node, .. }) if !self.out.node().is_meant_by(&node) => {
                let message = format!("a command for another node ({node}) is ignored");
                return self.out.log(Level::Warning, message);
            }
            Ok(NodeCommand {
                body: Some(body), ..
            }) => body,
            Ok(NodeCommand { body: None, .. }) => {
                let message = "a command of a newer controller is ignored";
                return self.out.log(Level::Warning, message);
            }
            Err(error) => {
                let message = format!("a command that cannot be read is ignored: {error}");
                return self.out.log(Level::Error, message);
            }
        };
        match body {
            node_command::Body::Spawn(command) => self.replicas.spawn(command, &mut self.out),
            node_command::Body::Stop(command) => self.replicas.stop(&command, now, &mut self.out),
            node_command::Body::List(Empty {}) => self.replicas.list(&mut self.out),
            node_command::Body::Relay(relay) => self.replicas.relay(relay, &mut self.out),
            node_command::Body::Publish(publish) => {
                self.replicas.note_epoch(publish.epoch);
                self.publish(publish.snapshot, &publish.update.into());
            }
            node_command::Body::ConfigureProxy(told) => self.configure_proxy(told),
            node_command::Body::ForgetImports(forget) => {
                self.replicas.forget_imports(forget.imports, &mut self.out);
            }
        }
    }
}
