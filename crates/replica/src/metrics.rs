//! What a replica counts of the requests that user code ran, for `/metrics`.
//!
//! A request is counted from its claim, when user code is about to run, to DONE. Where it counts is found on the I/O thread,
//! by the route that it entered by, and travels with it; at its end, on whichever thread that is, it costs a few atomic steps.
//! Routes are those that proxies know, a prefix for each application: bounded here, since they come from peers. Behind the
//! prefix goes the route of user code that took the request, as it is declared, where that is known.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use eagleray_metrics::{Clock, Count, Family, Histogram, Level, Sheet, Slot, registry};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// Requests of further routes count under an empty one.
const MOST_ROUTES: usize = 256;
/// Errors of further types count under `_OTHER`.
const MOST_TYPES: usize = 256;
const OTHER: &str = "_OTHER";

/// The metrics of one replica.
#[derive(Debug)]
pub struct Metrics {
    clock: Clock,
    labels: [Box<str>; 3],
    requests: Family,
    errors: Family,
    latency: Family,
    processing: Level,
    starts: Count,
    healthy: Level,
    health_failures: Count,
    initialization: Histogram,
}

impl Metrics {
    /// Declares them in a sheet of this process.
    pub fn new(sheet: &Sheet, deployment: &str, replica: &str, application: &str) -> Arc<Self> {
        let labels = [deployment, replica, application];
        Arc::new(Self {
            clock: Clock::new(),
            requests: registry::REPLICA_REQUESTS.family(sheet),
            errors: registry::REPLICA_ERRORS.family(sheet),
            latency: registry::REPLICA_LATENCY.family(sheet),
            processing: registry::REPLICA_PROCESSING.family(sheet).level(&labels),
            starts: registry::REPLICA_STARTS.family(sheet).count(&labels),
            healthy: registry::REPLICA_HEALTHY.family(sheet).level(&labels),
            health_failures: registry::HEALTH_CHECK_FAILURES.family(sheet).count(&labels),
            initialization: registry::REPLICA_INITIALIZATION
                .family(sheet)
                .histogram(&[deployment, application]),
            labels: labels.map(Into::into),
        })
    }

    /// The replica serves.
    pub fn count_start(&self) {
        self.starts.add(1);
        self.healthy.set(1);
    }

    /// How long it took until it could.
    pub fn count_initialization(&self, took: Duration) {
        self.initialization.observe_time(took);
    }

    /// What a health check has found.
    pub fn count_health(&self, is_healthy: bool) {
        self.healthy.set(is_healthy.into());
        if !is_healthy {
            self.health_failures.add(1);
        }
    }

    fn route(self: &Arc<Self>, route: &str) -> RouteMetrics {
        let [deployment, replica, application] = self.labels.each_ref().map(|label| &**label);
        RouteMetrics {
            requests: self
                .requests
                .count(&[deployment, replica, application, route]),
            latency: self
                .latency
                .histogram(&[deployment, replica, application, route]),
            route: route.into(),
            errors: Mutex::default(),
            inside: OnceLock::new(),
            of: Arc::clone(self),
        }
    }
}

/// Where the requests of one route count.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    of: Arc<Metrics>,
    route: Box<str>,
    requests: Count,
    latency: Histogram,
    errors: Mutex<FxHashMap<Box<str>, Count>>,
    /// Routes of user code inside this one, which is then a prefix; each is made for its first request.
    inside: OnceLock<Box<[OnceLock<RouteMetrics>]>>,
}

impl RouteMetrics {
    /// Where requests count that the route at this place of `routes` takes: by its name as it is declared, behind the prefix.
    pub(crate) fn inside(&self, at: usize, routes: &[Box<str>]) -> &Self {
        let make = || routes.iter().map(|_| OnceLock::new()).collect();
        let Some((place, route)) = self.inside.get_or_init(make).get(at).zip(routes.get(at)) else {
            return self;
        };
        let prefix = self.route.trim_end_matches('/');
        place.get_or_init(|| self.of.route(&format!("{prefix}{route}")))
    }

    pub(crate) fn begin(&self) {
        self.of.processing.add(1);
    }

    /// `failure`: the type of what user code raised; `None`: it succeeded. If the time has come for it, the request is to
    /// name itself in the place that is returned.
    pub(crate) fn end(
        &self,
        began: Instant,
        now: Instant,
        failure: Option<&str>,
    ) -> Option<Slot<'_>> {
        self.of.processing.add(-1);
        let time = now.saturating_duration_since(began);
        let slot = self.latency.observe_traced(time, self.of.clock.at(now));
        match failure {
            None => self.requests.add(1),
            Some(name) => self.count_error(name),
        }
        slot
    }

    fn count_error(&self, name: &str) {
        let mut errors = self.errors.lock();
        let is_known = errors.contains_key(name);
        let name = if is_known || errors.len() < MOST_TYPES {
            name
        } else {
            OTHER
        };
        if !errors.contains_key(name) {
            let [deployment, replica, application] = self.of.labels.each_ref().map(|one| &**one);
            let labels = [deployment, replica, application, &self.route, name];
            errors.insert(name.into(), self.of.errors.count(&labels));
        }
        if let Some(count) = errors.get(name) {
            count.add(1);
        }
    }
}

/// The routes that have come to a replica. The I/O thread's own.
#[derive(Debug, Default)]
pub(crate) struct Routes(FxHashMap<Box<[u8]>, Arc<RouteMetrics>>);

impl Routes {
    pub(crate) fn find(&mut self, metrics: &Arc<Metrics>, route: &[u8]) -> Arc<RouteMetrics> {
        let has_room = self.0.len() < MOST_ROUTES;
        let route = if has_room || self.0.contains_key(route) {
            route
        } else {
            b""
        };
        if let Some(known) = self.0.get(route) {
            return Arc::clone(known);
        }
        let made = Arc::new(metrics.route(&String::from_utf8_lossy(route)));
        self.0.insert(route.into(), Arc::clone(&made));
        made
    }
}
