//! The state machine and what belongs to it: requests with their payloads, connections with their buffers.
//!
//! No method here waits or calls out; wakers only queue tasks. So the one `RefCell` around it is never borrowed
//! twice.

use std::{
    borrow::Cow,
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    task::Context,
    time::Instant,
};

use eagleray_types::{
    DeploymentKey, ErrorCode,
    control::{DeploymentTarget, TargetUpdate, Unreachable},
};
use eagleray_wire::{ClaimPage, region::Held};
use tokio::sync::mpsc;

use super::{
    Applied, Failure, Options, Outgoing,
    body::Body,
    connection::Connect,
    entry::{Entries, Entry, EntryKey},
    incoming::Incoming,
    links::{Flushed, Links},
    releases::Releases,
};
use crate::core::{self, Core, Event, Refused, RequestKey, Submit, Transmit};

mod connections;
mod exchanges;
mod loads;

pub use loads::view_of;

#[derive(Debug)]
pub(super) struct State {
    core: Core<ClaimPage>,
    entries: Entries,
    /// By [`RequestKey::index`]: whose it is now.
    owners: Vec<Option<(RequestKey, EntryKey)>>,
    links: Links,
    /// Results that came in regions; `None`: there are no calls.
    regions: Option<Arc<Held>>,
    unreachable: Option<mpsc::Sender<Unreachable>>,
    releases: Arc<Releases>,
    connects: VecDeque<Connect>,
    /// When the driver will wake by itself.
    armed: Option<Instant>,
    version: Option<(u64, u64)>,
    /// Deployments that no update speaks of.
    views: BTreeSet<DeploymentKey>,
    news: loads::News,
}

impl State {
    pub(super) fn new(options: Options) -> Self {
        Self {
            core: Core::new(core::Options {
                seed: options.seed,
                limits: options.limits,
            }),
            entries: Entries::default(),
            owners: Vec::new(),
            links: Links::default(),
            regions: options.regions,
            unreachable: options.unreachable,
            releases: Arc::default(),
            connects: VecDeque::new(),
            armed: None,
            version: None,
            views: BTreeSet::new(),
            news: loads::News::default(),
        }
    }

    /// A replica has not let us connect for a while.
    pub(super) fn cannot_reach(&self, replica_id: &str, error: &str) {
        if let Some(reports) = &self.unreachable {
            let report = Unreachable {
                replica_id: replica_id.to_owned(),
                error: error.to_owned(),
            };
            // Full, or nobody is there: it is said again while it is so.
            drop(reports.try_send(report));
        }
    }

    pub(super) fn apply(&mut self, now: Instant, update: &TargetUpdate) -> Applied {
        let next = (update.epoch, update.number);
        match self.version {
            Some((epoch, _)) if update.epoch < epoch => return Applied::Stale,
            Some(known) if update.snapshot && next < known => return Applied::Stale,
            Some((epoch, number)) if !update.snapshot && update.epoch == epoch => {
                if update.number <= number {
                    return Applied::Stale;
                }
                if update.number != number + 1 {
                    return Applied::Gap;
                }
            }
            _ if !update.snapshot => return Applied::Gap,
            _ => {}
        }
        self.version = Some(next);
        if update.snapshot {
            let mut named: Vec<_> = update
                .deployments
                .iter()
                .map(|target| &target.key)
                .collect();
            named.sort_unstable();
            for key in self.core.deployments() {
                if named.binary_search(&&key).is_err() && !self.views.contains(&key) {
                    self.core.remove(now, &key);
                }
            }
        }
        for key in &update.removed {
            self.core.remove(now, key);
        }
        for target in &update.deployments {
            self.core.apply(now, target);
        }
        Applied::Applied
    }

    pub(super) fn add_view(&mut self, now: Instant, target: &DeploymentTarget) {
        self.views.insert(target.key.clone());
        self.core.apply(now, target);
    }

    pub(super) fn remove_view(&mut self, now: Instant, key: &DeploymentKey) {
        if self.views.remove(key) {
            self.core.remove(now, key);
        }
    }

    pub(super) fn unavailable(&self, key: &DeploymentKey) -> Cow<'static, str> {
        self.core
            .unavailable(key)
            .map_or(Cow::Borrowed(""), |text| {
                Cow::Owned(text.as_ref().to_owned())
            })
    }

    pub(super) fn drain(&mut self, now: Instant) {
        self.core.drain(now);
    }

    pub(super) fn submit(
        &mut self,
        now: Instant,
        key: &DeploymentKey,
        submit: Submit,
        request: Outgoing,
    ) -> Result<EntryKey, Refused> {
        let request_key = self.core.submit(now, key, submit)?;
        let entry = Entry {
            request: Some(request_key),
            body: Body::new(request),
            answer: Incoming::default(),
            waker: None,
        };
        let entry = self.entries.insert(entry);
        let at = request_key.index();
        if self.owners.len() <= at {
            self.owners.resize(at + 1, None);
        }
        self.owners[at] = Some((request_key, entry));
        Ok(entry)
    }

    fn owner(&self, request: RequestKey) -> Option<EntryKey> {
        let (key, entry) = (*self.owners.get(request.index())?)?;
        (key == request).then_some(entry)
    }

    fn disown(&mut self, request: RequestKey) -> Option<EntryKey> {
        let entry = self.owner(request)?;
        self.owners[request.index()] = None;
        Some(entry)
    }

    /// Carries out what the state machine wants.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(transmit) = self.core.poll_transmit(now) {
            self.transmit(now, transmit);
        }
        while let Some(event) = self.core.poll_event() {
            self.on_event(event);
        }
        self.tell_news();
        // A timer that rings early is cheaper than one that is set for every request.
        if let Some(timeout) = self.core.poll_timeout()
            && self.armed.is_none_or(|armed| timeout < armed)
        {
            self.armed = Some(timeout);
            self.links.wake_driver();
        }
    }

    fn transmit(&mut self, now: Instant, transmit: Transmit) {
        let Transmit {
            connection: key,
            header,
            request,
        } = transmit;
        let owner = request.and_then(|request| self.owner(request));
        let Some(link) = self.links.known(key) else {
            return;
        };
        match (request, owner) {
            (None, _) => header.encode(&mut link.out),
            (Some(_), Some(owner)) => {
                let entry = &mut self.entries[owner];
                entry
                    .body
                    .lend(link.regions.as_ref().map(|regions| &regions.channel));
                if entry.body.write_request(header, &mut link.out) {
                    self.resume_body(owner);
                } else {
                    entry.fail(Failure::new(ErrorCode::ReplicaDied));
                    if let Some(request) = request {
                        self.owners[request.index()] = None;
                        self.core.cancel(now, request);
                    }
                }
            }
            // Whoever drops an exchange takes its request back, before anything more is sent.
            (Some(request), None) => debug_assert!(false, "{request:?} is sent and has no owner"),
        }
        self.links.list(key);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connect {
                connection,
                replica_id,
                socket_path,
            } => {
                self.connects.push_back(Connect {
                    connection,
                    replica_id,
                    socket_path,
                });
            }
            Event::Disconnect { connection } => {
                self.connects
                    .retain(|connect| connect.connection != connection);
                self.links.close(connection);
            }
            Event::Finished { request } => {
                if let Some(owner) = self.disown(request) {
                    let entry = &mut self.entries[owner];
                    entry.request = None;
                    if !entry.answer.ended {
                        entry.fail(Failure::new(ErrorCode::Internal));
                    }
                }
            }
            Event::Failed {
                request,
                code,
                reason,
                begun: _,
            } => {
                if let Some(owner) = self.disown(request) {
                    let message = Cow::Owned(reason.as_ref().to_owned());
                    self.entries[owner].fail(Failure { code, message });
                }
            }
            Event::Cancelled { request } => {
                if let Some(owner) = self.disown(request) {
                    self.entries[owner].fail(Failure::new(ErrorCode::Cancelled));
                }
            }
        }
    }

    pub(super) fn armed(&self) -> Option<Instant> {
        self.armed
    }

    pub(super) fn on_timeout(&mut self, now: Instant) {
        self.armed = None;
        self.core.on_timeout(now);
    }

    /// Writes what waits. True if a connection was given up, so that the state machine must be settled.
    pub(super) fn flush(&mut self, context: &mut Context<'_>) -> bool {
        let mut given_up = false;
        loop {
            let mut flushed = Flushed::default();
            self.links.flush(context, &mut flushed);
            for key in flushed.given_up {
                self.disconnected(key);
                given_up = true;
            }
            if flushed.bodies.is_empty() {
                return given_up;
            }
            for owner in flushed.bodies {
                if self.entries.contains(owner) {
                    self.resume_body(owner);
                }
            }
        }
    }
}
