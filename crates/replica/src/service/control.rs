//! Commands of the controller, which come through the node.

use std::time::Instant;

use eagleray_types::control::{
    Ask, ReplicaCommand, ReplicaEvent, StacksAre, replica_command, replica_event,
};
use eagleray_wire::Decoder;
use prost::Message;
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

use super::Service;
use crate::event::Event;

impl Service {
    /// Here and now, whatever user code is doing.
    fn show_stacks(&self, id: u64) {
        let stacks = self.shared.handler.stacks();
        let body = Some(replica_event::Body::Stacks(StacksAre { id, stacks }));
        self.shared.tell(Instant::now(), &ReplicaEvent { body });
    }

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
                    Ok(ReplicaCommand {
                        body: Some(replica_command::Body::ShowStacks(Ask { id })),
                    }) => self.show_stacks(id),
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
