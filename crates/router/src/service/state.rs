//! The state machine and what belongs to it: requests with their payloads, connections with their buffers.
//!
//! No method here waits or calls out; wakers only queue tasks. So the one `RefCell` around it is never borrowed
//! twice.

use std::{
    borrow::Cow,
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    task::{Context, Waker},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use eagleray_types::{
    DeploymentKey, ErrorCode,
    control::{DeploymentTarget, TargetUpdate, Unreachable},
};
use eagleray_wire::{
    Attachments, ClaimPage, DecodeError, Decoder, Frame, HeadError, Header, Kind, ModelKey,
    region::{self, Arrival, Channel, ChannelError, Held},
};
use slab::Slab;
use tokio::sync::mpsc;

use super::{
    Applied, Failure, Options, Outgoing,
    body::Body,
    connection::Connect,
    entry::Entry,
    incoming::Incoming,
    links::{Flushed, Links, Regions},
    releases::{Releaser, Releases},
    socket::Writer,
};
use crate::core::{self, ConnectionKey, Core, Event, Refused, RequestKey, Submit, Transmit};

/// A read that cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("more of an answer than there was credit for")]
    Overrun,
    #[error("a list of models that cannot be read")]
    Models,
    #[error(transparent)]
    Table(#[from] HeadError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("a {0:?} frame, which only a router sends")]
    Unexpected(Kind),
}

#[derive(Debug)]
pub(super) struct State {
    core: Core<ClaimPage>,
    entries: Slab<Entry>,
    /// By [`RequestKey::index`]: whose it is now.
    owners: Vec<Option<(RequestKey, usize)>>,
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
}

impl State {
    pub(super) fn new(options: Options) -> Self {
        Self {
            core: Core::new(core::Options {
                seed: options.seed,
                limits: options.limits,
            }),
            entries: Slab::new(),
            owners: Vec::new(),
            links: Links::default(),
            regions: options.regions,
            unreachable: options.unreachable,
            releases: Arc::default(),
            connects: VecDeque::new(),
            armed: None,
            version: None,
            views: BTreeSet::new(),
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
            .map_or(Cow::Borrowed(""), |text| Cow::Owned(text.to_owned()))
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
    ) -> Result<usize, Refused> {
        let request_key = self.core.submit(now, key, submit)?;
        let entry = Entry {
            request: Some(request_key),
            body: Body::new(request),
            answer: Incoming::default(),
            waker: None,
        };
        let index = self.entries.insert(entry);
        let at = request_key.index();
        if self.owners.len() <= at {
            self.owners.resize(at + 1, None);
        }
        self.owners[at] = Some((request_key, index));
        Ok(index)
    }

    fn owner(&self, request: RequestKey) -> Option<usize> {
        let (key, index) = (*self.owners.get(request.index())?)?;
        (key == request).then_some(index)
    }

    fn disown(&mut self, request: RequestKey) -> Option<usize> {
        let index = self.owner(request)?;
        self.owners[request.index()] = None;
        Some(index)
    }

    // --- what exchanges call ----------------------------------------------------------------------------------

    /// The entry of a live exchange.
    pub(super) fn entry(&mut self, index: usize) -> &mut Entry {
        &mut self.entries[index]
    }

    pub(super) fn wait(&mut self, index: usize, context: &Context<'_>) {
        let waker = &mut self.entries[index].waker;
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
    }

    /// The owner took bytes of the answer: gives the replica credit for more.
    pub(super) fn taken(&mut self, index: usize, bytes: usize) {
        let entry = &mut self.entries[index];
        let Some(credit) = entry.answer.take(bytes) else {
            return;
        };
        let Some((connection, slot, sequence)) = entry
            .request
            .and_then(|request| self.core.location(request))
        else {
            return;
        };
        let mut header = Header::new(Kind::Credit, slot, sequence);
        header.a = credit;
        if let Some(link) = self.links.link(connection) {
            header.encode(&mut link.out);
            self.links.list(connection);
        }
    }

    pub(super) fn push_body(&mut self, index: usize, chunk: Bytes) {
        let entry = &mut self.entries[index];
        if entry.body.push(chunk)
            && let Some(request) = entry.request
        {
            self.core.forbid_repeat(request);
        }
        self.write_body(index);
    }

    pub(super) fn push_message(
        &mut self,
        index: usize,
        data: &[u8],
        is_text: bool,
        is_complete: bool,
    ) {
        self.entries[index]
            .body
            .push_message(data, is_text, is_complete);
        self.write_body(index);
    }

    pub(super) fn end_messages(&mut self, index: usize, last: bytes::Bytes) {
        self.entries[index].body.end_messages(last);
        self.write_body(index);
    }

    pub(super) fn defer(&mut self, index: usize) {
        if let Some(request) = self.entries[index].request {
            self.core.defer(request);
        }
    }

    pub(super) fn lift_deadline(&mut self, index: usize) {
        if let Some(request) = self.entries[index].request {
            self.core.lift_deadline(request);
        }
    }

    pub(super) fn end_body(&mut self, index: usize) {
        self.entries[index].body.end();
        self.write_body(index);
    }

    /// The exchange is dropped. True if the state machine must be settled.
    pub(super) fn forget(&mut self, index: usize) -> bool {
        let entry = self.entries.remove(index);
        let Some(request) = entry.request else {
            return false;
        };
        self.owners[request.index()] = None;
        if entry.answer.ended {
            // Only DONE is missing; `Finished` will find no owner.
            return false;
        }
        self.core.cancel(Instant::now(), request);
        true
    }

    pub(super) fn break_peer(&mut self, index: usize) {
        let request = self.entries[index].request;
        if let Some((connection, ..)) = request.and_then(|request| self.core.location(request)) {
            self.disconnected(connection);
        }
    }

    // --- connections ------------------------------------------------------------------------------------------

    pub(super) fn next_connect(&mut self) -> Option<Connect> {
        self.connects.pop_front()
    }

    pub(super) fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    pub(super) fn connected(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        write: Writer,
        (page, channel): (ClaimPage, Option<Channel>),
        hello: &Header,
    ) {
        let regions = channel.map(|channel| Regions {
            channel,
            release: Arc::new(Releaser {
                releases: Arc::clone(&self.releases),
                connection: key,
            }),
        });
        if self.links.open(key, write, regions) {
            self.core.connected(now, key, page, hello.b, hello.c);
        }
    }

    /// The connection is of no more use. Its requests move or fail.
    pub(super) fn disconnected(&mut self, key: ConnectionKey) {
        if self.links.close(key) {
            self.core.disconnected(Instant::now(), key);
        }
    }

    /// Takes whole frames out of `buffer`. After an error the connection cannot be used.
    pub(super) fn received(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        buffer: &mut BytesMut,
    ) -> Result<(), ReadError> {
        while let Some(frame) = Decoder::data().decode(buffer)? {
            self.on_frame(now, key, frame)?;
        }
        Ok(())
    }

    fn on_frame(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        frame: Frame,
    ) -> Result<(), ReadError> {
        let header = frame.header;
        let request = self.core.on_frame(now, key, &header);
        match header.kind {
            Kind::Response => {
                let mut payload = frame.payload;
                // Before it is known whether anybody wants them: dropped, they are released.
                let arrivals = if header.a > 0 {
                    self.arrivals(key, header.a, &mut payload)?
                } else {
                    Vec::new()
                };
                let Some(index) = request.and_then(|request| self.owner(request)) else {
                    return Ok(());
                };
                let entry = &mut self.entries[index];
                if !entry.answer.begun {
                    entry.body.release();
                }
                entry
                    .answer
                    .receive(header.flags, payload, arrivals)
                    .map_err(|_| ReadError::Overrun)?;
                if entry.answer.ended {
                    entry.body.wanted = false;
                }
                entry.wake();
            }
            Kind::Credit => {
                let Some(index) = request.and_then(|request| self.owner(request)) else {
                    return Ok(());
                };
                let entry = &mut self.entries[index];
                entry.body.credit(header.a);
                if std::mem::take(&mut entry.body.awaits_asking) {
                    entry.wake();
                }
                self.resume_body(index);
            }
            Kind::Models => {
                let models = ModelKey::decode(&frame.payload).ok_or(ReadError::Models)?;
                self.core.on_models(now, key, models);
            }
            Kind::Release => {
                if let Some(regions) = self.links.link(key).and_then(|link| link.regions.as_ref()) {
                    regions.channel.released(header.sequence, header.a == 1);
                }
            }
            Kind::Grant | Kind::Reject | Kind::Gone | Kind::Hung => {}
            kind => return Err(ReadError::Unexpected(kind)),
        }
        Ok(())
    }

    /// Takes the table of attachments off the front of an answer, and the regions that it names.
    fn arrivals(
        &mut self,
        key: ConnectionKey,
        count: u32,
        payload: &mut Bytes,
    ) -> Result<Vec<Arrival>, ReadError> {
        let front = payload.clone();
        let (table, data) = Attachments::split(count as usize, &front)?;
        *payload = front.slice_ref(data);
        let regions = self.links.link(key).and_then(|link| link.regions.as_ref());
        Ok(match (regions, &self.regions) {
            (Some(Regions { channel, release }), Some(held)) => {
                channel.take(table.iter(), release, held)?
            }
            _ => region::without_channel(table.iter())?,
        })
    }

    pub(super) const fn wants_regions(&self) -> bool {
        self.regions.is_some()
    }

    /// Who writes what is released on other threads.
    pub(super) fn set_releaser(&self, waker: &Waker) {
        self.releases.set_driver(waker);
    }

    /// Appends what other threads have released.
    pub(super) fn write_releases(&mut self) {
        for released in self.releases.take() {
            if let Some(link) = self.links.link(released.connection) {
                let mut header = Header::new(Kind::Release, 0, released.number);
                header.a = u32::from(released.reusable);
                header.encode(&mut link.out);
                self.links.list(released.connection);
            }
        }
    }

    /// Writes what may be written of a request's body.
    fn write_body(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        if !entry.body.has_frame() {
            return;
        }
        let place = entry
            .request
            .and_then(|request| self.core.location(request));
        let Some((key, slot, sequence)) = place else {
            return;
        };
        let Some(link) = self.links.link(key) else {
            return;
        };
        while entry.body.has_frame() && link.takes_body(index) {
            entry.body.write_body(slot, sequence, &mut link.out);
        }
        self.links.list(key);
    }

    /// The same, not by the owner's own call: it is woken if there is room for more.
    fn resume_body(&mut self, index: usize) {
        self.write_body(index);
        let entry = &mut self.entries[index];
        if entry.body.has_room() || entry.body.has_ended_messages() {
            entry.wake();
        }
    }

    // --- the driver -------------------------------------------------------------------------------------------

    /// Carries out what the state machine wants.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(transmit) = self.core.poll_transmit(now) {
            self.transmit(now, transmit);
        }
        while let Some(event) = self.core.poll_event() {
            self.on_event(event);
        }
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
        let Some(link) = self.links.link(key) else {
            return;
        };
        match (request, owner) {
            (None, _) => header.encode(&mut link.out),
            (Some(_), Some(index)) => {
                let entry = &mut self.entries[index];
                entry
                    .body
                    .lend(link.regions.as_ref().map(|regions| &regions.channel));
                if entry.body.write_request(header, &mut link.out) {
                    self.resume_body(index);
                } else {
                    entry.fail(Failure::new(ErrorCode::ReplicaDied));
                    if let Some(request) = request {
                        self.owners[request.index()] = None;
                        self.core.cancel(now, request);
                    }
                }
            }
            (Some(_), None) => tracing::error!("a request without an owner was to be sent"),
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
                if let Some(index) = self.disown(request) {
                    let entry = &mut self.entries[index];
                    entry.request = None;
                    if !entry.answer.ended {
                        entry.fail(Failure::new(ErrorCode::Internal));
                    }
                }
            }
            Event::Failed {
                request,
                code,
                begun: _,
            } => {
                if let Some(index) = self.disown(request) {
                    self.entries[index].fail(Failure::new(code));
                }
            }
            Event::Cancelled { request } => {
                if let Some(index) = self.disown(request) {
                    self.entries[index].fail(Failure::new(ErrorCode::Cancelled));
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
            for index in flushed.bodies {
                if self.entries.contains(index) {
                    self.resume_body(index);
                }
            }
        }
    }
}
