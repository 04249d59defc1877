//! Commands of the controller, which come through the node.

use eagleray_types::control::{ReplicaCommand, replica_command};
use eagleray_wire::Decoder;
use prost::Message;
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

use super::Service;
use crate::event::Event;

impl Service {
    /// False: the node is gone.
    pub(super) fn read_control(&mut self) -> bool {
        match recv(&*self.control, &mut self.scratch[..], RecvFlags::empty()) {
            Ok((0, _)) => return false,
            Ok((length, _)) => self
                .control_input
                .extend_from_slice(&self.scratch[..length]),
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        }
        loop {
            match Decoder::control().decode(&mut self.control_input) {
                Ok(Some(frame)) => match ReplicaCommand::decode(frame.payload) {
                    Ok(command) => {
                        if matches!(command.body, Some(replica_command::Body::Reconfigure(_))) {
                            // A controller that has just met this replica sends one.
                            self.condition.tell_again();
                        }
                        self.shared.event(Event::Command(Box::new(command)));
                    }
                    Err(error) => self
                        .shared
                        .problem(format!("a command cannot be read: {error}")),
                },
                Ok(None) => return true,
                Err(error) => {
                    self.shared
                        .problem(format!("the node broke the protocol: {error}"));
                    return false;
                }
            }
        }
    }
}
