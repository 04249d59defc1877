//! What the controller counts and shows for `/metrics`: in a sheet of its own, which the node reads.
//!
//! After something has happened the numbers are written again, a moment later, so that a busy time costs [`EVERY`] one look.
//! What is gone is taken out of what is read; its place is used again when it comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use eagleray_metrics::{Count, Family, Gauge, Level, Sheet, registry};
use eagleray_types::{DeploymentKey, control::EventRecord};
use tokio::time::{Instant, sleep_until};

use crate::core::{ApplicationSummary, DeploymentSummary, Span};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

pub(super) struct Metrics {
    application_status: Family,
    deployment_status: Family,
    wanted: Family,
    replicas: Family,
    autoscaling: [Family; 3],
    target_ongoing_requests: Family,
    starts: Family,
    stops: Family,
    events: Family,
    checkpoint_failures: Count,
    /// All gauges that were ever shown, by family and labels.
    gauges: BTreeMap<(Of, Vec<String>), Cell>,
    /// When the next look is due; `None`: nothing has happened.
    due: Option<Instant>,
    last: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    ApplicationStatus,
    DeploymentStatus,
    Wanted,
    Replicas,
    AutoscalingTarget,
    AutoscalingDesired,
    AutoscalingRequests,
    TargetOngoingRequests,
}

/// What shows a number.
enum Cell {
    Whole(Level),
    Number(Gauge),
}

impl Cell {
    fn set(&self, number: f64) {
        match self {
            Self::Whole(level) => level.set(number as i64),
            Self::Number(gauge) => gauge.set(number),
        }
    }

    fn hide(&self, hidden: bool) {
        match self {
            Self::Whole(level) => level.hide(hidden),
            Self::Number(gauge) => gauge.hide(hidden),
        }
    }
}

impl Metrics {
    pub(super) fn new(run_directory: &Path) -> Self {
        let directory = run_directory.join(eagleray_metrics::DIRECTORY);
        let sheet = Sheet::create(&directory, "controller").unwrap_or_else(|error| {
            tracing::warn!(%error, "the controller shows nothing in /metrics: its file cannot be made");
            Sheet::of_nobody()
        });
        Self {
            application_status: registry::APPLICATION_STATUS.family(&sheet),
            deployment_status: registry::DEPLOYMENT_STATUS.family(&sheet),
            wanted: registry::REPLICAS_WANTED.family(&sheet),
            replicas: registry::REPLICAS.family(&sheet),
            autoscaling: [
                registry::AUTOSCALING_TARGET.family(&sheet),
                registry::AUTOSCALING_DESIRED.family(&sheet),
                registry::AUTOSCALING_REQUESTS.family(&sheet),
            ],
            target_ongoing_requests: registry::AUTOSCALING_PER_REPLICA.family(&sheet),
            starts: registry::REPLICA_STARTUP.family(&sheet),
            stops: registry::REPLICA_SHUTDOWN.family(&sheet),
            events: registry::EVENTS.family(&sheet),
            checkpoint_failures: registry::CHECKPOINT_FAILURES.family(&sheet).count(&[]),
            gauges: BTreeMap::new(),
            due: None,
            last: Instant::now(),
        }
    }

    pub(super) fn count_event(&self, event: &EventRecord) {
        self.events.count(&[&event.kind, &event.level]).add_alone(1);
    }

    pub(super) fn count_time(&self, deployment: &DeploymentKey, span: Span, took: Duration) {
        let family = match span {
            Span::Start => &self.starts,
            Span::Stop => &self.stops,
        };
        let labels = [&*deployment.deployment, &*deployment.application];
        family.histogram(&labels).observe_time_alone(took);
    }

    pub(super) fn count_checkpoint_failure(&self) {
        self.checkpoint_failures.add_alone(1);
    }

    /// Something has happened.
    pub(super) fn touch(&mut self) {
        self.due.get_or_insert(self.last + EVERY);
    }

    /// Waits until a look is due. Cancel safe.
    pub(super) fn due(&self) -> impl Future<Output = ()> + use<> {
        let due = self.due;
        async move {
            match due {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Writes everything as it is now.
    pub(super) fn show(&mut self, applications: &[ApplicationSummary<'_>]) {
        self.due = None;
        self.last = Instant::now();
        let mut shown = BTreeSet::new();
        for application in applications {
            let labels = vec![application.name.to_owned()];
            let number = application_number(application.status) as f64;
            self.set(&mut shown, Of::ApplicationStatus, labels, number);
            for deployment in &application.deployments {
                self.show_deployment(&mut shown, application.name, deployment);
            }
        }
        for (key, gauge) in &self.gauges {
            gauge.hide(!shown.contains(key));
        }
    }

    fn show_deployment(
        &mut self,
        shown: &mut BTreeSet<(Of, Vec<String>)>,
        application: &str,
        deployment: &DeploymentSummary<'_>,
    ) {
        let labels = vec![deployment.name.to_owned(), application.to_owned()];
        let number = deployment_number(deployment.status) as f64;
        self.set(shown, Of::DeploymentStatus, labels.clone(), number);
        let wanted = deployment.wanted.into();
        self.set(shown, Of::Wanted, labels.clone(), wanted);
        if let Some(autoscaling) = &deployment.autoscaling {
            for (of, number) in [
                (Of::AutoscalingTarget, deployment.wanted.into()),
                (Of::AutoscalingDesired, autoscaling.desired.into()),
                (Of::AutoscalingRequests, autoscaling.requests as f64),
                (
                    Of::TargetOngoingRequests,
                    autoscaling.target_ongoing_requests,
                ),
            ] {
                self.set(shown, of, labels.clone(), number);
            }
        }
        for (state, count) in &deployment.states {
            let mut labels = labels.clone();
            labels.push((*state).to_owned());
            self.set(shown, Of::Replicas, labels, (*count).into());
        }
    }

    fn set(
        &mut self,
        shown: &mut BTreeSet<(Of, Vec<String>)>,
        of: Of,
        labels: Vec<String>,
        number: f64,
    ) {
        let key = (of, labels);
        if let Some(gauge) = self.gauges.get(&key) {
            gauge.set(number);
        } else {
            let family = match of {
                Of::ApplicationStatus => &self.application_status,
                Of::DeploymentStatus => &self.deployment_status,
                Of::Wanted => &self.wanted,
                Of::Replicas => &self.replicas,
                Of::AutoscalingTarget => &self.autoscaling[0],
                Of::AutoscalingDesired => &self.autoscaling[1],
                Of::AutoscalingRequests => &self.autoscaling[2],
                Of::TargetOngoingRequests => &self.target_ongoing_requests,
            };
            let values: Vec<&str> = key.1.iter().map(String::as_str).collect();
            let gauge = match of {
                Of::TargetOngoingRequests => Cell::Number(family.gauge(&values)),
                _ => Cell::Whole(family.level(&values)),
            };
            gauge.set(number);
            self.gauges.insert(key.clone(), gauge);
        }
        shown.insert(key);
    }
}

/// As Ray Serve numbers them.
fn application_number(status: &str) -> i64 {
    match status {
        "DEPLOY_FAILED" => 1,
        "UNHEALTHY" => 2,
        "NOT_STARTED" => 3,
        "DELETING" => 4,
        "DEPLOYING" => 5,
        "RUNNING" => 6,
        _ => 0,
    }
}

/// As Ray Serve numbers them.
fn deployment_number(status: &str) -> i64 {
    match status {
        "DEPLOY_FAILED" => 1,
        "UNHEALTHY" => 2,
        "UPDATING" => 3,
        "UPSCALING" => 4,
        "DOWNSCALING" => 5,
        "HEALTHY" => 6,
        _ => 0,
    }
}
