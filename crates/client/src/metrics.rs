//! What the router of a process with handles counts for `/metrics`: in a sheet of its own, on the router's thread.
//!
//! A call costs two looks into small tables and a few stores. What waits and runs is looked at once a second, for as long as
//! there is something, so that a process that makes no calls does nothing.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::Path,
    rc::Rc,
    time::Duration,
};

use eagleray_metrics::{Count, Family, Histogram, Level, Sheet, registry};
use eagleray_router::{core::Seen, service::Handle};
use eagleray_types::DeploymentKey;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

/// Between two looks at what waits and runs.
const EVERY: Duration = Duration::from_secs(1);
/// Deployments that are kept by name; who calls more looks for the place of each call anew.
const MOST_DEPLOYMENTS: usize = 4096;
/// Routes of one deployment; calls of further ones count under an empty one.
const MOST_ROUTES: usize = 256;

/// Of a router's thread.
#[derive(Debug)]
pub(crate) struct Metrics {
    families: Families,
    /// The replica that this process is, or `DRIVER`.
    actor: Box<str>,
    known: RefCell<FxHashMap<DeploymentKey, Rc<OfDeployment>>>,
    /// Somebody looks once a second.
    is_watched: Cell<bool>,
    begins: Notify,
}

#[derive(Debug)]
struct Families {
    calls: Family,
    requests: Family,
    queued: Family,
    running: Family,
    reserved: Family,
    resolution: Family,
    waits: Family,
}

/// Of the calls of one deployment.
#[derive(Debug)]
pub(crate) struct OfDeployment {
    key: DeploymentKey,
    by_route: RefCell<FxHashMap<Box<str>, Rc<OfRoute>>>,
    pub(crate) reserved: Level,
    pub(crate) resolution: Histogram,
    queued: Level,
    running: Level,
    waits: Histogram,
}

#[derive(Debug)]
pub(crate) struct OfRoute {
    /// What handles were asked for.
    pub(crate) calls: Count,
    /// What the router was given.
    pub(crate) requests: Count,
}

impl Metrics {
    /// `controller_socket_path` lies in the run directory of the node. Where there is no place for a sheet, nobody counts.
    pub(crate) fn new(controller_socket_path: &str, actor: &str) -> Self {
        let run_directory = Path::new(controller_socket_path).parent();
        let directory = run_directory.map(|path| path.join(eagleray_metrics::DIRECTORY));
        let made = directory.and_then(|directory| Sheet::create(&directory, "handles").ok());
        let sheet = made.unwrap_or_else(Sheet::of_nobody);
        Self {
            families: Families {
                calls: registry::HANDLE_REQUESTS.family(&sheet),
                requests: registry::ROUTER_REQUESTS.family(&sheet),
                queued: registry::QUEUED.family(&sheet),
                running: registry::RUNNING.family(&sheet),
                reserved: registry::RESERVED.family(&sheet),
                resolution: registry::RESOLUTION.family(&sheet),
                waits: registry::FULFILLMENT.family(&sheet),
            },
            actor: actor.into(),
            known: RefCell::default(),
            is_watched: Cell::new(false),
            begins: Notify::new(),
        }
    }

    /// Who calls, in metrics of routers.
    fn handle(&self) -> &'static str {
        if self.is_replica() {
            "replica"
        } else {
            "driver"
        }
    }

    /// The same in Ray Serve's words.
    fn source(&self) -> &'static str {
        if self.is_replica() {
            "REPLICA"
        } else {
            "UNKNOWN"
        }
    }

    fn is_replica(&self) -> bool {
        &*self.actor != "DRIVER"
    }

    /// A handle was asked for a call.
    pub(crate) fn begin(
        &self,
        key: &DeploymentKey,
        route: &str,
    ) -> (Rc<OfDeployment>, Rc<OfRoute>) {
        if !self.is_watched.replace(true) {
            self.begins.notify_one();
        }
        let of_deployment = self.of(key);
        let of_route = self.of_route(&of_deployment, route);
        of_route.calls.add_alone(1);
        (of_deployment, of_route)
    }

    fn of(&self, key: &DeploymentKey) -> Rc<OfDeployment> {
        if let Some(known) = self.known.borrow().get(key) {
            return Rc::clone(known);
        }
        let (deployment, application) = (&*key.deployment, &*key.application);
        let labels = [deployment, application, self.handle(), &self.actor];
        let of_waits = [deployment, &*self.actor, application, self.source()];
        let made = Rc::new(OfDeployment {
            key: key.clone(),
            by_route: RefCell::default(),
            reserved: self.families.reserved.level(&labels),
            resolution: self.families.resolution.histogram(&labels),
            queued: self.families.queued.level(&labels),
            running: self.families.running.level(&labels),
            waits: self.families.waits.histogram(&of_waits),
        });
        let mut known = self.known.borrow_mut();
        if known.len() < MOST_DEPLOYMENTS {
            known.insert(key.clone(), Rc::clone(&made));
        }
        made
    }

    fn of_route(&self, of: &OfDeployment, route: &str) -> Rc<OfRoute> {
        let mut by_route = of.by_route.borrow_mut();
        if let Some(known) = by_route.get(route) {
            return Rc::clone(known);
        }
        let route = if by_route.len() < MOST_ROUTES {
            route
        } else {
            ""
        };
        let (deployment, application) = (&*of.key.deployment, &*of.key.application);
        let handle = self.handle();
        let requests = [deployment, route, application, handle, &self.actor];
        let made = Rc::new(OfRoute {
            calls: self
                .families
                .calls
                .count(&[handle, deployment, route, application]),
            requests: self.families.requests.count(&requests),
        });
        by_route.insert(route.into(), Rc::clone(&made));
        made
    }

    /// Looks at what the router has to do, once a second while there is something. Never ends.
    pub(crate) async fn watch(&self, router: &Handle) {
        loop {
            self.begins.notified().await;
            loop {
                tokio::time::sleep(EVERY).await;
                if !self.look_at(router) {
                    break;
                }
            }
        }
    }

    /// Whether there was anything. From an empty look on, the next call begins the watch anew.
    pub(crate) fn look_at(&self, router: &Handle) -> bool {
        let mut all: BTreeMap<DeploymentKey, Seen> = BTreeMap::new();
        router.each_load(|key, seen| {
            let sum = all.entry(key.clone()).or_default();
            sum.queued += seen.queued;
            sum.running += seen.running;
            sum.waits.add(&seen.waits);
        });
        let mut is_busy = false;
        #[expect(clippy::iter_over_hash_type, reason = "each by itself")]
        for (key, of) in self.known.borrow().iter() {
            let seen = all.remove(key).unwrap_or_default();
            is_busy |= seen.queued > 0 || seen.running > 0 || !seen.waits.is_empty();
            of.queued.set(seen.queued.into());
            of.running.set(seen.running.into());
            if !seen.waits.is_empty() {
                let milliseconds = seen.waits.sum.as_secs_f64() * 1e3;
                of.waits
                    .add_counted_alone(&seen.waits.buckets, milliseconds);
            }
        }
        self.is_watched.set(is_busy);
        is_busy
    }

    /// The thread ends and its process lives on: what waits and runs is nobody's any more.
    pub(crate) fn end(&self, router: &Handle) {
        self.look_at(router);
        #[expect(clippy::iter_over_hash_type, reason = "each by itself")]
        for of in self.known.borrow().values() {
            for level in [&of.queued, &of.running, &of.reserved] {
                level.hide(true);
            }
        }
    }
}
