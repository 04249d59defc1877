//! The event queue: routers, replicas, links between them, and what goes wrong.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use eagleray_replica::admission::ConnectionKey as ReplicaKey;
use eagleray_router::core::{ConnectionKey, Core, Limits, Options, RequestKey};
use eagleray_types::{
    DeploymentKey,
    control::{DeploymentTarget, ReplicaTarget, VersionTarget},
};
use eagleray_wire::Header;

use crate::{
    ledger::{Ledger, Report},
    mock::{JobKey, Mock},
    page::SimulatedPage,
    plan::Plan,
};

mod faults;
mod replicas;
mod routers;
mod sleep;

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
    /// A hung replica says so.
    SayHung {
        replica: usize,
    },
    /// Its loop turns again.
    Turn {
        replica: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    Hang,
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
    /// What it said last of its load: how many wait, and how many run.
    said: (u32, u32),
    /// Counts up with every look at its load.
    looks: u64,
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
            said: (0, 0),
            looks: 0,
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
        report.ahead = self.replicas.iter().map(|replica| replica.ahead).sum();
        report.sent_back = self.replicas.iter().map(|replica| replica.sent_back).sum();
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
            (Fault::Hang, plan.hangs),
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
            scales: true,
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
            let of_loop = matches!(
                action,
                Action::Start(_) | Action::Finish(_) | Action::Done(_)
            );
            if self.replicas[replica].stopped || (self.replicas[replica].hung && of_loop) {
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
                self.with_core(router, |core| core.cancel(now, request));
            }
            // The replica died before the attempt reached it.
            Action::Connect { router, key, .. } | Action::Refuse { router, key } => {
                self.with_core(router, |core| core.disconnected(now, key));
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
                    core.connected(now, key, page, (2 * limit).max(64), limit);
                });
            }
            Action::ToRouter {
                link,
                header,
                offers,
            } => self.arrive(now, link, &header, offers),
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
                self.catch_up(replica);
            }
            Action::SayHung { replica } => self.say_hung(replica, 1_000),
            Action::Turn { replica } => {
                self.replicas[replica].hung = false;
                self.say_hung(replica, 0);
                self.catch_up(replica);
            }
            other => unreachable!("{other:?} is a replica's"),
        }
    }

    /// What a replica could not do while it stood still happens now.
    fn catch_up(&mut self, replica: usize) {
        for action in self.deferred.remove(&replica).unwrap_or_default() {
            self.at(self.now, action);
        }
    }
}
