//! The queues before the node's loop.

use tokio::sync::mpsc;

use crate::{
    api::{CountersWanted, ShutdownWanted},
    core::Event,
};

/// Messages of children that may wait for the loop; then the reading of their connections waits.
const QUEUE: usize = 1024;

/// Where the tasks of a node tell its loop what happened.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) service_sender: mpsc::Sender<Event>,
    pub(crate) replica_sender: mpsc::Sender<Event>,
    pub(crate) shutdown_sender: mpsc::Sender<ShutdownWanted>,
    pub(crate) counters_sender: mpsc::Sender<CountersWanted>,
    pub(super) services: mpsc::Receiver<Event>,
    pub(super) replicas: mpsc::Receiver<Event>,
    pub(super) shutdown: mpsc::Receiver<ShutdownWanted>,
    pub(super) counters: mpsc::Receiver<CountersWanted>,
}

impl Channels {
    pub(crate) fn new() -> Self {
        let (service_sender, services) = mpsc::channel(QUEUE);
        let (replica_sender, replicas) = mpsc::channel(QUEUE);
        let (shutdown_sender, shutdown) = mpsc::channel(QUEUE);
        let (counters_sender, counters) = mpsc::channel(QUEUE);
        Self {
            service_sender,
            replica_sender,
            shutdown_sender,
            counters_sender,
            services,
            replicas,
            shutdown,
            counters,
        }
    }
}
