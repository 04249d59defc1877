//! Each rule of the state machine by itself. What routers and replicas do together is tested in `eagleray-testkit`.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use eagleray_types::{
    ErrorCode,
    control::{DeploymentTarget, ReplicaTarget, VersionTarget},
};
use eagleray_wire::{Flags, Header, Kind, NO_DEADLINE, SlotState};

use super::*;

mod loads;
mod losses;
mod models;
mod queues;
mod sessions;
mod suspects;

/// A page whose other end is the test.
#[derive(Clone, Debug, Default)]
struct Page(Rc<(Words, Cell<u64>, Cell<bool>)>);

type Words = RefCell<Vec<(u64, SlotState)>>;

impl Page {
    fn new(slots: usize) -> Self {
        let page = Self::default();
        page.0.0.borrow_mut().resize(slots, (0, SlotState::Free));
        page
    }

    fn swap(&self, slot: u32, from: (u64, SlotState), to: SlotState) -> bool {
        let mut words = self.0.0.borrow_mut();
        let same = words[slot as usize] == from;
        if same {
            words[slot as usize].1 = to;
        }
        same
    }

    fn turn(&self) {
        self.0.1.set(self.0.1.get() + 1);
    }
}

impl Claims for Page {
    fn queue(&self, slot: u32, sequence: u64) {
        self.0.0.borrow_mut()[slot as usize] = (sequence, SlotState::Queued);
    }

    fn start(&self, slot: u32, sequence: u64) -> bool {
        self.swap(slot, (sequence, SlotState::Queued), SlotState::Started)
    }

    fn take(&self, slot: u32, sequence: u64) -> bool {
        self.swap(slot, (sequence, SlotState::Queued), SlotState::Taken)
    }

    fn read(&self, slot: u32) -> (u64, SlotState) {
        self.0.0.borrow()[slot as usize]
    }

    fn turns(&self) -> u64 {
        self.0.1.get()
    }

    fn exempt(&self) -> bool {
        self.0.2.get()
    }
}

const ONCE: Submit = Submit {
    repeatable: false,
    deadline: None,
    buffered_bytes: 100,
    model: None,
    session: None,
};
const SAFE: Submit = Submit {
    repeatable: true,
    ..ONCE
};

/// A router whose replicas are the test.
struct Bench {
    core: Core<Page>,
    now: Instant,
    key: DeploymentKey,
    /// By connection, in the order in which they were asked for.
    connections: Vec<(ConnectionKey, Page)>,
    closed: Vec<ConnectionKey>,
    outcomes: Vec<Event>,
}

impl Bench {
    /// `replicas` connected ones of `limit` slots each.
    fn new(replicas: usize, limit: u32) -> Self {
        let mut bench = Self::unconnected(Arc::default());
        let ids: Vec<_> = (0..replicas).map(|number| format!("r{number}")).collect();
        bench.target(
            limit,
            &ids.iter().map(String::as_str).collect::<Vec<_>>(),
            |_| (),
        );
        bench.connect_all(limit);
        bench
    }

    fn unconnected(limits: Arc<Limits>) -> Self {
        Self {
            core: Core::new(Options { seed: 1, limits }),
            now: Instant::now(),
            key: DeploymentKey::new("a", "d"),
            connections: Vec::new(),
            closed: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    fn target(&mut self, limit: u32, ids: &[&str], edit: impl FnOnce(&mut DeploymentTarget)) {
        let replica = |id: &&str| ReplicaTarget {
            replica_id: (*id).to_owned(),
            socket_path: format!("/{id}"),
            epoch: 1,
        };
        let version = VersionTarget {
            weight: 1,
            max_ongoing_requests: limit,
            replicas: ids.iter().map(replica).collect(),
            ..VersionTarget::default()
        };
        let mut target = DeploymentTarget {
            key: self.key.clone(),
            max_queued_requests: -1,
            versions: vec![version],
            ..DeploymentTarget::default()
        };
        edit(&mut target);
        self.core.apply(self.now, &target);
        self.events();
    }

    fn connect_all(&mut self, limit: u32) {
        for index in 0..self.connections.len() {
            self.connect(index, limit);
        }
    }

    fn connect(&mut self, index: usize, limit: u32) {
        let (key, page) = self.connections[index].clone();
        self.core.connected(self.now, key, page, 64, limit);
    }

    fn events(&mut self) {
        while let Some(event) = self.core.poll_event() {
            match event {
                Event::Connect { connection, .. } => {
                    self.connections.push((connection, Page::new(64)));
                }
                Event::Disconnect { connection } => self.closed.push(connection),
                outcome => self.outcomes.push(outcome),
            }
        }
    }

    fn submit(&mut self, submit: Submit) -> RequestKey {
        self.core
            .submit(self.now, &self.key, submit)
            .expect("the deployment takes it")
    }

    /// What is to be written: the position of the connection, the header, the request.
    fn sent(&mut self) -> Vec<(usize, Header, Option<RequestKey>)> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            let at = self
                .connections
                .iter()
                .position(|(key, _)| *key == transmit.connection);
            sent.push((
                at.expect("a known connection"),
                transmit.header,
                transmit.request,
            ));
        }
        sent
    }

    fn kinds(&mut self) -> Vec<(usize, Kind)> {
        self.sent()
            .into_iter()
            .map(|(at, header, _)| (at, header.kind))
            .collect()
    }

    /// The only frame: a REQUEST.
    fn one(&mut self) -> (usize, Header) {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(sent[0].1.kind, Kind::Request);
        (sent[0].0, sent[0].1)
    }

    fn frame(&mut self, at: usize, header: Header) -> Option<RequestKey> {
        let found = self
            .core
            .on_frame(self.now, self.connections[at].0, &header);
        self.events();
        found
    }

    fn response(
        &mut self,
        at: usize,
        to: Header,
        flags: Flags,
        occupied: u32,
    ) -> Option<RequestKey> {
        let mut header = Header::new(Kind::Response, to.slot, to.sequence);
        header.flags = flags;
        header.b = occupied;
        self.frame(at, header)
    }

    fn answer(&mut self, at: usize, to: Header) {
        self.response(at, to, Flags::HEAD.with(Flags::END).with(Flags::DONE), 0);
    }

    fn reject(&mut self, at: usize, to: Header, occupied: u32) {
        let mut header = Header::new(Kind::Reject, to.slot, to.sequence);
        header.b = occupied;
        self.frame(at, header);
    }

    fn grant(&mut self, at: usize, occupied: u32) {
        let mut header = Header::new(Kind::Grant, 0, 0);
        header.b = occupied;
        self.frame(at, header);
    }

    fn start(&self, at: usize, header: Header) -> bool {
        self.connections[at].1.start(header.slot, header.sequence)
    }

    fn die(&mut self, at: usize) {
        self.core.disconnected(self.now, self.connections[at].0);
        self.events();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.core.on_timeout(self.now);
        self.events();
    }

    fn outcomes(&mut self) -> Vec<Event> {
        self.events();
        std::mem::take(&mut self.outcomes)
    }
}

fn failed(request: RequestKey, code: ErrorCode) -> Event {
    Event::Failed {
        request,
        code,
        reason: Arc::default(),
        begun: false,
    }
}

/// The outcome of one whose deployment is not available.
fn unavailable(request: RequestKey, reason: &str) -> Event {
    Event::Failed {
        request,
        code: ErrorCode::Unavailable,
        reason: reason.into(),
        begun: false,
    }
}
