//! The event queue: routers, replicas, links between them, and what goes wrong.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use eagleray_replica::admission::ConnectionKey as ReplicaKey;
use eagleray_router::core::{
    ConnectionKey, Core, Event, Limits, Options, Refused, RequestKey, Submit,
};
use eagleray_types::{
    DeploymentKey,
    control::{DeploymentTarget, ReplicaTarget, VersionTarget},
};
use eagleray_wire::{Flags, Header, Kind};

use crate::{
    ledger::{Ledger, Outcome, Report},
    mock::{Effect, JobKey, Mock},
    page::SimulatedPage,
    plan::Plan,
};

const MICROSECOND: u64 = 1_000;

#[derive(Clone, Debug)]
enum Action {
    Submit {
        router: usize,
    },
    Cancel {
        router: usize,
        request: RequestKey,
    },
    Connect {
        router: usize,
        key: ConnectionKey,
        replica: usize,
    },
    Refuse {
        router: usize,
        key: ConnectionKey,
    },
    Hello {
        link: usize,
    },
    ToReplica {
        link: usize,
        header: Header,
    },
    ToRouter {
        link: usize,
        header: Header,
        offers: bool,
    },
    EofToReplica {
        link: usize,
    },
    EofToRouter {
        link: usize,
    },
    Start(JobKey),
    Finish(JobKey),
    Done(JobKey),
    Tick {
        replica: usize,
    },
    RouterTimer {
        router: usize,
    },
    ReplicaTimer {
        replica: usize,
    },
    Fault(Fault),
    Replace {
        replica: usize,
    },
    Unlist {
        replica: usize,
    },
    Continue {
        replica: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    KillRouter,
    Limit,
    Drain,
}

#[derive(Debug)]
struct Router {
    /// `None`: it died.
    core: Option<Core<SimulatedPage>>,
    filled: bool,
    queued: usize,
}

#[derive(Debug)]
struct Link {
    router: usize,
    replica: usize,
    key: ConnectionKey,
    replica_key: ReplicaKey,
    page: SimulatedPage,
    travel: u64,
    /// The router has its HELLO and no EOF.
    open: bool,
    /// Frames on their way to the router that say what room there is.
    offers: u32,
    sleeps_since: Option<u64>,
    idle_since: Option<u64>,
    requests: BTreeMap<(u32, u64), usize>,
}

/// A simulated run.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    base: Instant,
    now: u64,
    random: fastrand::Rng,
    agenda: BTreeMap<(u64, u64), Action>,
    order: u64,
    routers: Vec<Router>,
    replicas: Vec<Mock>,
    deferred: BTreeMap<usize, Vec<Action>>,
    links: Vec<Link>,
    limit: u32,
    key: DeploymentKey,
    ledger: Ledger,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let limits = Arc::new(Limits::new());
        let routers = (0..plan.routers as u64).map(|number| Router {
            core: Some(Core::new(Options {
                seed: plan.seed * 1_000 + number,
                limits: Arc::clone(&limits),
            })),
            filled: false,
            queued: 0,
        });
        let mut world = Self {
            base: Instant::now(),
            now: 0,
            random: fastrand::Rng::with_seed(plan.seed),
            agenda: BTreeMap::new(),
            order: 0,
            routers: routers.collect(),
            replicas: Vec::new(),
            deferred: BTreeMap::new(),
            links: Vec::new(),
            limit: plan.max_ongoing,
            key: DeploymentKey::new("simulation", "deployment"),
            ledger: Ledger::default(),
            plan,
        };
        for (version, count) in world.plan.replicas.clone().into_iter().enumerate() {
            for _ in 0..count {
                world.spawn(version);
            }
        }
        world.publish();
        world.schedule();
        world
    }

    /// Runs to the end, and checks all along.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn run(mut self) -> Report {
        let mut steps: u64 = 0;
        while let Some(((at, _), action)) = self.agenda.pop_first() {
            self.now = at;
            self.step(action);
            steps += 1;
            assert!(steps < 20_000_000, "the run does not end");
        }
        self.ledger.close();
        for router in self
            .routers
            .iter()
            .filter_map(|router| router.core.as_ref())
        {
            assert_eq!(router.live_requests(), 0, "requests leaked");
            assert_eq!(router.words_in_use(), 0, "words leaked");
            assert_eq!(router.queued(&self.key), 0);
        }
        for replica in self.replicas.iter().filter(|replica| replica.alive) {
            assert_eq!(
                replica.admission.occupied(),
                0,
                "{}: slots or grants leaked",
                replica.id
            );
        }
        let mut report = self.ledger.report;
        report.elapsed = self.now / MICROSECOND;
        report
    }

    fn schedule(&mut self) {
        let plan = self.plan.clone();
        for router in 0..plan.routers {
            let mut at = 0;
            for number in 0..plan.requests {
                if number % plan.burst == 0 {
                    at += self.random.u64(0..=2 * plan.gap) * MICROSECOND
                        + self.random.u64(0..MICROSECOND);
                }
                self.at(at, Action::Submit { router });
            }
        }
        let faults = [
            (Fault::Kill, plan.kills),
            (Fault::Stop, plan.stops),
            (Fault::KillRouter, plan.router_kills),
            (Fault::Limit, plan.limit_changes),
            (Fault::Drain, plan.drains),
        ];
        for (fault, count) in faults {
            for _ in 0..count {
                let at = self.random.u64(0..plan.span() * MICROSECOND);
                self.at(at, Action::Fault(fault));
            }
        }
    }

    fn at(&mut self, at: u64, action: Action) {
        self.order += 1;
        self.agenda.insert((at.max(self.now), self.order), action);
    }

    fn after(&mut self, micros: u64, action: Action) {
        self.at(self.now + micros * MICROSECOND, action);
    }

    fn clock(&self) -> Instant {
        self.base + Duration::from_nanos(self.now)
    }

    fn draw(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    fn spawn(&mut self, version: usize) {
        let id = format!("replica{}", self.replicas.len());
        self.replicas.push(Mock::new(id, version, self.limit));
    }

    fn publish(&mut self) {
        let version = |(number, weight): (usize, &u32)| VersionTarget {
            version: number.to_string(),
            weight: *weight,
            max_ongoing_requests: self.limit,
            replicas: self
                .replicas
                .iter()
                .filter(|replica| replica.listed && replica.version == number)
                .map(|replica| ReplicaTarget {
                    replica_id: replica.id.clone(),
                    socket_path: replica.id.clone(),
                    epoch: 1,
                })
                .collect(),
            ..VersionTarget::default()
        };
        let target = DeploymentTarget {
            key: self.key.clone(),
            max_queued_requests: self.plan.max_queued,
            versions: self.plan.weights.iter().enumerate().map(version).collect(),
            ..DeploymentTarget::default()
        };
        let now = self.clock();
        for router in 0..self.routers.len() {
            if let Some(core) = self.routers[router].core.as_mut() {
                core.apply(now, &target);
            }
            self.drive_router(router);
        }
    }

    fn step(&mut self, action: Action) {
        let now = self.clock();
        if let Some(replica) = self.replica_of(&action) {
            if !self.replicas[replica].alive {
                return;
            }
            if self.replicas[replica].stopped {
                self.deferred.entry(replica).or_default().push(action);
                return;
            }
            self.replicas[replica].bump();
            self.replica_step(now, replica, action);
            self.drive_replica(replica);
            return;
        }
        match action {
            Action::Submit { router } => self.submit(now, router),
            Action::Cancel { router, request } => {
                self.with_core(router, |core| core.cancel(now, request))
            }
            // The replica died before the attempt reached it.
            Action::Connect { router, key, .. } | Action::Refuse { router, key } => {
                self.with_core(router, |core| core.disconnected(now, key))
            }
            Action::RouterTimer { router } => self.with_core(router, |core| core.on_timeout(now)),
            Action::Hello { link } => {
                let Link {
                    router,
                    replica,
                    key,
                    ..
                } = self.links[link];
                let page = self.links[link].page.clone();
                let limit = self.replicas[replica].admission.limit();
                self.links[link].open = true;
                self.with_core(router, |core| {
                    core.connected(now, key, page, (2 * limit).max(64), limit)
                });
            }
            Action::ToRouter {
                link,
                header,
                offers,
            } => self.to_router(now, link, &header, offers),
            Action::EofToRouter { link } => {
                let Link {
                    router, key, open, ..
                } = self.links[link];
                self.links[link].open = false;
                if open {
                    self.with_core(router, |core| core.disconnected(now, key));
                }
            }
            Action::Fault(fault) => self.fault(now, fault),
            Action::Replace { replica } => {
                let version = self.replicas[replica].version;
                self.spawn(version);
                self.publish();
            }
            Action::Unlist { replica } => {
                self.replicas[replica].listed = false;
                self.publish();
            }
            Action::Continue { replica } => {
                self.replicas[replica].stopped = false;
                for action in self.deferred.remove(&replica).unwrap_or_default() {
                    self.at(self.now, action);
                }
            }
            other => unreachable!("{other:?} is a replica's"),
        }
    }

    /// The replica that an action happens in, if it needs that replica to run.
    fn replica_of(&self, action: &Action) -> Option<usize> {
        Some(match action {
            Action::ToReplica { link, .. } | Action::EofToReplica { link } => {
                self.links[*link].replica
            }
            Action::Start(job) | Action::Finish(job) | Action::Done(job) => {
                self.links[job.0].replica
            }
            Action::Tick { replica } | Action::ReplicaTimer { replica } => *replica,
            Action::Connect { replica, .. } if self.replicas[*replica].alive => *replica,
            _ => return None,
        })
    }

    fn replica_step(&mut self, now: Instant, index: usize, action: Action) {
        let background = matches!(action, Action::Finish(_)) && self.draw(self.plan.background);
        let replica = &mut self.replicas[index];
        let effects = match action {
            Action::ToReplica { link, header } => {
                replica.frame(now, self.links[link].replica_key, &header)
            }
            Action::EofToReplica { link } => replica.eof(now, self.links[link].replica_key),
            Action::Start(job) => replica.start(job),
            Action::Finish(job) => replica.finish(now, job, background),
            Action::Done(job) => replica.done(now, job),
            Action::ReplicaTimer { .. } => {
                replica.admission.on_timeout(now);
                Vec::new()
            }
            Action::Tick { .. } => {
                replica.tick_armed = false;
                Vec::new()
            }
            Action::Connect { router, key, .. } => {
                self.hello(now, router, key, index);
                Vec::new()
            }
            other => unreachable!("{other:?}"),
        };
        self.carry_out(index, effects);
    }

    fn hello(&mut self, now: Instant, router: usize, key: ConnectionKey, replica: usize) {
        let limit = self.replicas[replica].admission.limit();
        let page = SimulatedPage::new((2 * limit).max(64));
        let link = self.links.len();
        let replica_key = self.replicas[replica].connect(now, link, page.clone());
        let travel = self.random.u64(self.plan.travel.0..=self.plan.travel.1) * MICROSECOND;
        self.links.push(Link {
            router,
            replica,
            key,
            replica_key,
            page,
            travel,
            open: false,
            offers: 0,
            sleeps_since: None,
            idle_since: None,
            requests: BTreeMap::new(),
        });
        self.at(self.now + travel, Action::Hello { link });
    }

    fn carry_out(&mut self, replica: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { link, header } => self.count_to_router(link, header),
                Effect::StartSoon(job) => {
                    let wait = self.random.u64(0..40);
                    self.after(wait, Action::Start(job));
                }
                Effect::FinishSoon { job, cancelled } => {
                    let service = if cancelled {
                        5
                    } else {
                        self.random.u64(0..=self.plan.service)
                    };
                    self.after(service, Action::Finish(job));
                }
                Effect::DoneSoon(job) => {
                    let rest = self.random.u64(0..=self.plan.service);
                    self.after(rest, Action::Done(job));
                }
                Effect::Started((link, slot, sequence)) => {
                    let id = self.links[link].requests[&(slot, sequence)];
                    self.ledger
                        .started(id, self.replicas[replica].version, replica);
                }
            }
        }
    }

    fn count_to_router(&mut self, link: usize, header: Header) {
        let report = &mut self.ledger.report;
        match header.kind {
            Kind::Grant => {
                report.grants += 1;
                report.control += 1;
            }
            Kind::Reject => {
                report.rejects += 1;
                report.control += 1;
                let id = self.links[link].requests[&(header.slot, header.sequence)];
                self.ledger.records[id].extra += 1;
            }
            Kind::Response if header.flags.contains(Flags::GRANT) => report.rides += 1,
            _ => {}
        }
        let offers = self.offers(link, &header);
        self.links[link].offers += u32::from(offers);
        let at = self.now + self.links[link].travel;
        self.at(
            at,
            Action::ToRouter {
                link,
                header,
                offers,
            },
        );
    }

    /// Whether a frame to a router grants a slot, or says that there is one.
    fn offers(&self, link: usize, header: &Header) -> bool {
        let limit = self.replicas[self.links[link].replica].admission.limit();
        let speaks = header.flags.contains(Flags::DONE) || header.kind == Kind::Reject;
        header.kind == Kind::Grant
            || header.flags.contains(Flags::GRANT)
            || (speaks && header.b < limit)
    }

    fn to_router(&mut self, now: Instant, index: usize, header: &Header, offers: bool) {
        let link = &mut self.links[index];
        link.offers -= u32::from(offers);
        let Link {
            router, key, open, ..
        } = *link;
        if open {
            self.with_core(router, |core| {
                core.on_frame(now, key, header);
            });
        }
    }

    fn with_core(&mut self, router: usize, call: impl FnOnce(&mut Core<SimulatedPage>)) {
        if let Some(core) = self.routers[router].core.as_mut() {
            call(core);
            self.drive_router(router);
        }
    }

    fn submit(&mut self, now: Instant, router: usize) {
        let repeatable = self.draw(self.plan.repeatable);
        let has_deadline = self.draw(self.plan.deadlines);
        let cancels = self.draw(self.plan.cancels);
        let soon = self.random.u64(1..=2 * self.plan.service);
        let deadline = has_deadline.then(|| now + Duration::from_micros(soon));
        let Some(core) = self.routers[router].core.as_mut() else {
            return;
        };
        match core.submit(
            now,
            &self.key,
            Submit {
                repeatable,
                deadline,
                buffered_bytes: 100,
            },
        ) {
            Ok(request) => {
                self.ledger.submit(router, request, self.now, repeatable);
                if cancels {
                    self.after(soon, Action::Cancel { router, request });
                }
            }
            Err(Refused::BackPressure) => self.ledger.report.refused += 1,
            Err(refused) => panic!("{refused}"),
        }
        self.drive_router(router);
    }

    fn drive_router(&mut self, router: usize) {
        let now = self.clock();
        while let Some(core) = self.routers[router].core.as_mut() {
            if let Some(transmit) = core.poll_transmit(now) {
                self.transmit(router, transmit);
            } else if let Some(event) = core.poll_event() {
                self.event(router, event);
            } else {
                break;
            }
        }
        let Some(core) = self.routers[router].core.as_ref() else {
            return;
        };
        let queued = core.queued(&self.key);
        let report = &mut self.ledger.report;
        report.max_queued = report.max_queued.max(queued);
        if queued > 0 && !self.routers[router].filled {
            report.fills += 1;
        }
        let timeout = core.poll_timeout();
        self.routers[router].queued = queued;
        let all = self
            .routers
            .iter()
            .filter(|router| router.core.is_some())
            .map(|router| router.queued)
            .sum();
        report.most_queued_in_process = report.most_queued_in_process.max(all);
        self.routers[router].filled = queued > 0;
        if let Some(at) = timeout {
            let at = at.saturating_duration_since(self.base).as_nanos() as u64;
            // A timer that is no longer needed does nothing; one is enough for each time.
            if !self.agenda.range((at, 0)..=(at, u64::MAX)).any(
                |(_, one)| matches!(one, Action::RouterTimer { router: other } if *other == router),
            ) {
                self.at(at, Action::RouterTimer { router });
            }
        }
        self.watch(|link| link.router == router);
    }

    fn transmit(&mut self, router: usize, transmit: eagleray_router::core::Transmit) {
        let header = transmit.header;
        let link = self
            .links
            .iter()
            .rposition(|link| link.router == router && link.key == transmit.connection);
        let link = link.expect("frames go to connections that were announced");
        let report = &mut self.ledger.report;
        match header.kind {
            Kind::Request => {
                let id = self
                    .ledger
                    .id(router, transmit.request.expect("a REQUEST has a request"));
                let record = &mut self.ledger.records[id];
                record.requests += 1;
                if record.requests > 1 {
                    self.ledger.report.control += 1;
                    self.ledger.report.resent += 1;
                }
                if header.a > 0 {
                    let age = (self.now - record.submitted) / MICROSECOND;
                    assert!(
                        age >= u64::from(header.b),
                        "request {id} left before an older one"
                    );
                }
                self.links[link]
                    .requests
                    .insert((header.slot, header.sequence), id);
            }
            Kind::Cancel => {
                report.cancels += 1;
                report.control += 1;
                let id = self.links[link].requests[&(header.slot, header.sequence)];
                self.ledger.records[id].extra += 1;
            }
            Kind::Return => {
                report.returns += 1;
                report.control += 1;
            }
            Kind::Wait => report.waits += 1,
            Kind::Unwait => report.unwaits += 1,
            other => panic!("a router sends no {other:?}"),
        }
        let at = self.now + self.links[link].travel;
        self.at(at, Action::ToReplica { link, header });
    }

    fn event(&mut self, router: usize, event: Event) {
        match event {
            Event::Connect {
                connection,
                replica_id,
                ..
            } => {
                let replica = self
                    .replicas
                    .iter()
                    .position(|replica| replica.id == replica_id);
                let replica = replica.expect("targets name replicas that were spawned");
                let action = if self.replicas[replica].alive {
                    Action::Connect {
                        router,
                        key: connection,
                        replica,
                    }
                } else {
                    Action::Refuse {
                        router,
                        key: connection,
                    }
                };
                self.after(15, action);
            }
            Event::Disconnect { connection } => {
                let found = self
                    .links
                    .iter()
                    .position(|link| link.router == router && link.key == connection);
                if let Some(link) = found {
                    self.links[link].open = false;
                    let at = self.now + self.links[link].travel;
                    self.at(at, Action::EofToReplica { link });
                }
            }
            Event::Finished { request } => self.ledger.outcome(router, request, Outcome::Finished),
            Event::Failed { request, code, .. } => {
                self.ledger.outcome(router, request, Outcome::Failed(code))
            }
            Event::Cancelled { request } => {
                self.ledger.outcome(router, request, Outcome::Cancelled)
            }
        }
    }

    fn drive_replica(&mut self, replica: usize) {
        let effects = self.replicas[replica].notices();
        self.carry_out(replica, effects);
        if let Some(at) = self.replicas[replica].admission.poll_timeout() {
            let at = at.saturating_duration_since(self.base).as_nanos() as u64;
            self.at(at, Action::ReplicaTimer { replica });
        }
        if self.replicas[replica].busy() && !self.replicas[replica].tick_armed {
            self.replicas[replica].tick_armed = true;
            self.after(200_000, Action::Tick { replica });
        }
        self.watch(|link| link.replica == replica);
    }
}

mod faults;
mod sleep;
