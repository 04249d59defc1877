//! What the core's commands are carried out with.

use std::{
    cell::RefCell,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
};

use eagleray_logs::Writer;
use eagleray_types::{
    NodeId,
    control::{NodeInfo, NodeResources},
};

use crate::{core::Role, presence::Presence, replicas::Replicas, service::Service};

#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) reaper: Service,
    pub(crate) controller: Service,
    pub(crate) proxy: Service,
}

impl Services {
    pub(super) fn of(&mut self, role: Role) -> &mut Service {
        match role {
            Role::Controller => &mut self.controller,
            Role::Proxy => &mut self.proxy,
            Role::Reaper => &mut self.reaper,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) node_id: NodeId,
    pub(crate) services: Services,
    pub(crate) replicas: Replicas,
    /// What there is for them.
    pub(crate) resources: NodeResources,
    pub(crate) presence: Presence,
    pub(crate) info: Rc<RefCell<NodeInfo>>,
    pub(crate) log_directory: PathBuf,
    pub(crate) logs: Writer,
    /// For who asks from another thread.
    pub(crate) ending: Arc<AtomicBool>,
}
