//! The connection to one router, as every thread may use it.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Weak, atomic::AtomicBool},
    time::Instant,
};

use eagleray_wire::{
    ClaimPage, Header, Kind,
    fork::Listed,
    region::{Channel, Release},
};

use crate::{admission::ConnectionKey, out::Outgoing};

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) key: ConnectionKey,
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) out: Outgoing,
    pub(crate) page: ClaimPage,
    /// Where descriptors of regions go, for a router that calls.
    pub(crate) channel: Option<Channel>,
    /// The router reads numbers of routes in answers.
    pub(crate) hears_routes: bool,
    /// The router is gone: its slots are freed without a DONE.
    pub(crate) closed: AtomicBool,
    pub(crate) _listed: Listed,
}

/// How a region that came from a router goes back to it.
#[derive(Debug)]
pub(crate) struct Releaser(pub(crate) Weak<Connection>);

impl Release for Releaser {
    fn release(&self, number: u64, reusable: bool) {
        if let Some(connection) = self.0.upgrade() {
            let mut header = Header::new(Kind::Release, 0, number);
            header.a = u32::from(reusable);
            connection
                .out
                .frame(Instant::now(), false, header, &[], &[]);
        }
    }
}
