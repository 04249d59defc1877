//! What a thread counts of its requests, for `/metrics`: in a sheet of its own, with plain loads and stores.
//!
//! A route keeps the places in which its requests count, by method and status, from the first request that ended so. So a
//! request costs one look into a small table and a few stores. The labels are the route, one of the known methods, and the
//! status: none of them is a client's to make up. The route is what the replica says took the request, as it is declared
//! (`/items/{item_id}`), where it knows that; else the application's prefix; never the path. Where there is no directory for a
//! sheet, nothing is counted.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use eagleray_metrics::{Clock, Count, ExemplarId, Family, Histogram, Level, Sheet, Slot, registry};
use eagleray_router::service::Handle;
use eagleray_types::DeploymentKey;
use eagleray_wire::MOST_ROUTES;
use http::{HeaderValue, Method};
use rustc_hash::FxHashMap;

use crate::{access_log, options::MetricsOptions, tally::Outcome};

/// Who calls, in metrics of routers.
const HANDLE: &str = "http";
const SOURCE: &str = "PROXY";
/// Proxies are not told apart: what a dead one has counted stays in the totals.
const ACTOR: &str = "";
/// Close codes of a WebSocket that ended as it should.
const CLOSED_WELL: &[u16] = &[1000, 1001];
/// Close codes begin here, and no status of HTTP is as high.
const FIRST_CLOSE_CODE: u16 = 1000;

/// The metrics of one thread.
#[derive(Debug)]
pub(crate) struct Metrics {
    families: Rc<Families>,
    ongoing: Level,
    clock: Clock,
    /// Of each deployment that has had something to do here.
    loads: RefCell<FxHashMap<DeploymentKey, Load>>,
    /// Of requests that no route covers; made for the first.
    unrouted: OnceCell<Rc<RouteMetrics>>,
}

/// What the router of the thread has of one deployment.
#[derive(Debug)]
struct Load {
    queued: Level,
    running: Level,
    waits: Histogram,
    is_there: bool,
}

#[derive(Debug)]
struct Families {
    /// Somebody may read it.
    are_read: bool,
    requests: Family,
    errors: Family,
    deployment_errors: Family,
    latency: Family,
    queued: Family,
    running: Family,
    waits: Family,
    router_requests: Family,
}

impl Metrics {
    pub(crate) fn new(options: Option<&MetricsOptions>) -> Self {
        let made = options.and_then(|options| {
            let made = Sheet::create(&options.directory, "proxy");
            made.inspect_err(|error| {
                let directory = options.directory.display();
                tracing::warn!(%error, %directory, "requests are not counted for /metrics: the file for it cannot be made");
            })
            .ok()
        });
        let are_read = made.is_some();
        let sheet = made.unwrap_or_else(Sheet::of_nobody);
        let node_id = options.map_or("", |options| &options.node_id);
        let address = options.map_or("", |options| &options.node_address);
        Self {
            families: Rc::new(Families {
                are_read,
                requests: registry::HTTP_REQUESTS.family(&sheet),
                errors: registry::HTTP_ERROR_REQUESTS.family(&sheet),
                deployment_errors: registry::HTTP_DEPLOYMENT_ERROR_REQUESTS.family(&sheet),
                latency: registry::HTTP_LATENCY.family(&sheet),
                queued: registry::QUEUED.family(&sheet),
                running: registry::RUNNING.family(&sheet),
                waits: registry::FULFILLMENT.family(&sheet),
                router_requests: registry::ROUTER_REQUESTS.family(&sheet),
            }),
            ongoing: registry::HTTP_ONGOING
                .family(&sheet)
                .level(&[node_id, address]),
            clock: Clock::new(),
            loads: RefCell::default(),
            unrouted: OnceCell::new(),
        }
    }

    /// Says what the router has to do; called now and again, so that no request pays for it.
    pub(crate) fn look_at(&self, router: &Handle) {
        let mut loads = self.loads.borrow_mut();
        #[expect(clippy::iter_over_hash_type, reason = "each by itself")]
        for load in loads.values_mut() {
            load.is_there = false;
        }
        router.each_load(|key, seen| {
            if !loads.contains_key(key) {
                if seen.queued == 0 && seen.running == 0 && seen.waits.is_empty() {
                    return;
                }
                loads.insert(key.clone(), self.load(key));
            }
            if let Some(load) = loads.get_mut(key) {
                load.is_there = true;
                load.queued.set(seen.queued.into());
                load.running.set(seen.running.into());
                if !seen.waits.is_empty() {
                    let milliseconds = seen.waits.sum.as_secs_f64() * 1e3;
                    load.waits
                        .add_counted_alone(&seen.waits.buckets, milliseconds);
                }
            }
        });
        loads.retain(|_, load| {
            load.queued.hide(!load.is_there);
            load.running.hide(!load.is_there);
            load.is_there
        });
    }

    fn load(&self, key: &DeploymentKey) -> Load {
        let labels = [&*key.deployment, &*key.application, HANDLE, ACTOR];
        let of_waits = [&*key.deployment, ACTOR, &*key.application, SOURCE];
        Load {
            queued: self.families.queued.level(&labels),
            running: self.families.running.level(&labels),
            waits: self.families.waits.histogram(&of_waits),
            is_there: true,
        }
    }

    /// What counts for a route.
    pub(crate) fn route(&self, prefix: &str, key: &DeploymentKey) -> Rc<RouteMetrics> {
        Rc::new(RouteMetrics {
            families: Rc::clone(&self.families),
            route: prefix.into(),
            application: key.application.as_str().into(),
            deployment: key.deployment.as_str().into(),
            routed: OnceCell::new(),
            by_end: RefCell::default(),
            inside: RefCell::default(),
        })
    }

    pub(crate) fn begin(&self) {
        self.ongoing.add_alone(1);
    }

    /// A request has ended, after so long, at this moment.
    pub(crate) fn end(
        &self,
        route: Option<&RouteMetrics>,
        end: End<'_>,
        latency: Duration,
        now: Instant,
    ) {
        if !self.families.are_read {
            return;
        }
        self.ongoing.add_alone(-1);
        let route = route.unwrap_or_else(|| {
            let make = || self.route("", &DeploymentKey::default());
            self.unrouted.get_or_init(make)
        });
        route.count(end, latency, self.clock.at(now));
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) method: &'a Method,
    pub(crate) is_websocket: bool,
    /// Of HTTP, or the close code of a WebSocket.
    pub(crate) status: u16,
    pub(crate) outcome: Outcome,
    pub(crate) request_id: &'a [u8],
    pub(crate) traceparent: Option<&'a HeaderValue>,
}

impl End<'_> {
    fn is_error(self) -> bool {
        if self.status >= FIRST_CLOSE_CODE {
            !CLOSED_WELL.contains(&self.status)
        } else {
            self.status >= 400 || self.outcome == Outcome::Failed
        }
    }

    /// Names the request as an exemplar.
    fn say(self, slot: Slot<'_>) {
        let traceparent = self.traceparent.map(HeaderValue::as_bytes);
        slot.write(match traceparent.and_then(access_log::trace_id) {
            Some(trace) => ExemplarId::Trace(trace),
            None => ExemplarId::Request(self.request_id),
        });
    }

    fn method(self) -> &'static str {
        if self.is_websocket {
            return "WS";
        }
        match *self.method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            Method::HEAD => "HEAD",
            Method::OPTIONS => "OPTIONS",
            Method::PATCH => "PATCH",
            Method::TRACE => "TRACE",
            // A client may make up as many as it likes.
            _ => "_OTHER",
        }
    }
}

/// Method, status, and whether that is an error.
type Ended = (&'static str, u16, bool);

/// Where the requests of one route count.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    families: Rc<Families>,
    route: Box<str>,
    application: Box<str>,
    deployment: Box<str>,
    /// Requests that the router was given; made for the first.
    routed: OnceCell<Count>,
    by_end: RefCell<FxHashMap<Ended, Rc<Places>>>,
    /// Routes of user code inside this one, which is then a prefix.
    inside: RefCell<FxHashMap<Arc<str>, Rc<RouteMetrics>>>,
}

#[derive(Debug)]
struct Places {
    requests: Count,
    latency: Histogram,
    /// Of all, and of the deployment if there is one.
    errors: Option<(Count, Option<Count>)>,
}

impl RouteMetrics {
    /// The route as metrics and log lines name it.
    pub(crate) fn label(&self) -> &str {
        &self.route
    }

    /// Where requests count that a route of user code takes, inside the application. `None`: there are too many.
    pub(crate) fn inside(&self, route: &Arc<str>) -> Option<Rc<Self>> {
        let mut inside = self.inside.borrow_mut();
        if let Some(known) = inside.get(route) {
            return Some(Rc::clone(known));
        }
        // A replica names no more, and the next revision of it mostly the same.
        if inside.len() >= MOST_ROUTES {
            return None;
        }
        let prefix = self.route.trim_end_matches('/');
        let made = Rc::new(Self {
            families: Rc::clone(&self.families),
            route: format!("{prefix}{route}").into(),
            application: self.application.clone(),
            deployment: self.deployment.clone(),
            routed: OnceCell::new(),
            by_end: RefCell::default(),
            inside: RefCell::default(),
        });
        inside.insert(Arc::clone(route), Rc::clone(&made));
        Some(made)
    }

    /// The router is given a request.
    pub(crate) fn count_routed(&self) {
        if !self.families.are_read {
            return;
        }
        let make = || {
            let (deployment, route) = (&*self.deployment, &*self.route);
            let labels = [deployment, route, &*self.application, HANDLE, ACTOR];
            self.families.router_requests.count(&labels)
        };
        self.routed.get_or_init(make).add_alone(1);
    }

    fn count(&self, end: End<'_>, latency: Duration, at_ms: u64) {
        let key = (end.method(), end.status, end.is_error());
        let known = self.by_end.borrow().get(&key).map(Rc::clone);
        let places = known.unwrap_or_else(|| self.places(key));
        places.requests.add_alone(1);
        if let Some(slot) = places.latency.observe_traced_alone(latency, at_ms) {
            end.say(slot);
        }
        if let Some((all, deployment)) = &places.errors {
            all.add_alone(1);
            if let Some(deployment) = deployment {
                deployment.add_alone(1);
            }
        }
    }

    #[cold]
    fn places(&self, key: Ended) -> Rc<Places> {
        let (method, status, is_error) = key;
        let mut digits = itoa::Buffer::new();
        let status = digits.format(status);
        let (route, application) = (&*self.route, &*self.application);
        let errors = is_error.then(|| {
            let all = self
                .families
                .errors
                .count(&[route, status, method, application]);
            let deployment = &*self.deployment;
            let labels = [deployment, status, method, route, application];
            let has_deployment = !deployment.is_empty();
            (
                all,
                has_deployment.then(|| self.families.deployment_errors.count(&labels)),
            )
        });
        let places = Rc::new(Places {
            requests: self
                .families
                .requests
                .count(&[route, method, application, status]),
            latency: self
                .families
                .latency
                .histogram(&[method, route, application, status]),
            errors,
        });
        self.by_end.borrow_mut().insert(key, Rc::clone(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use eagleray_router::core::WAIT_BOUNDS_MS;

    use super::*;

    #[test]
    fn routers_count_waits_in_the_buckets_of_the_metric() {
        let bounds = WAIT_BOUNDS_MS.map(|bound| bound as f64);
        assert_eq!(registry::FULFILLMENT.bounds, bounds);
    }
}
