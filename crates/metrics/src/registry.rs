//! Every metric of ours, declared once: name, type, help, labels, buckets.
//!
//! Names, types, labels and buckets are those of Ray Serve where it has the metric, so that boards made for it go on; whether
//! `replica` and `actor_id` are shown is chosen where sheets are read ([`crate::ProcessLabels`]). The text of
//! help is the page of reference. What counts asks here for a family and gets it in its own sheet.
//!
//! The rule for labels: a value comes from a closed set (a status, a method, an exception's class) or is bounded by what
//! is deployed (an application, a route prefix), and never comes from a request.

use crate::{
    layout::Kind,
    sheet::{Family, FamilySpec, Sheet},
};

/// Sets of label values that a metric of ours takes in one process.
const MOST_SETS: usize = 8000;

/// Milliseconds, as Ray Serve has them for requests.
pub const REQUEST_MS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 1000.0, 2000.0, 5000.0,
    10_000.0, 60_000.0, 120_000.0, 300_000.0, 600_000.0,
];

/// Milliseconds, as Ray Serve has them for what happens once in the life of a replica.
pub const STARTUP_MS: &[f64] = &[
    5.0, 20.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 30_000.0,
    60_000.0, 120_000.0, 240_000.0,
];

/// Requests in a batch, as Ray Serve has them.
pub const BATCH_SIZES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// Milliseconds, as Ray Serve has them for event loops.
pub const LOOP_MS: &[f64] = &[
    1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0,
];

/// How full a batch is, as Ray Serve has it.
pub const PERCENT: &[f64] = &[
    5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 100.0,
];

/// One metric.
#[derive(Debug)]
pub struct Definition {
    /// Without `_total`, which counters get.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub bounds: &'static [f64],
    /// For people: one sentence.
    pub help: &'static str,
    /// Which part of Eagleray counts it.
    pub from: Source,
    /// What boards show of it.
    pub panels: &'static [Panel],
    /// When it wakes somebody.
    pub alerts: &'static [Alert],
}

/// Who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Proxy,
    Router,
    Replica,
    Controller,
    Node,
}

/// A graph on a board.
#[derive(Debug)]
pub struct Panel {
    pub board: Board,
    pub title: &'static str,
    /// As Grafana names it.
    pub unit: &'static str,
    /// `PromQL`. Boards of deployments and replicas have the variables `$application` and `$deployment`.
    pub expression: &'static str,
}

/// The boards there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Board {
    Overview,
    Deployment,
    Replica,
}

/// A rule of Prometheus.
#[derive(Debug)]
pub struct Alert {
    pub name: &'static str,
    /// `PromQL`; it fires when this has a result for so long.
    pub expression: &'static str,
    pub for_time: &'static str,
    /// What has happened and what to look at.
    pub summary: &'static str,
}

impl Definition {
    /// Declares it in a sheet.
    pub fn family(&self, sheet: &Sheet) -> Family {
        sheet.family(&FamilySpec {
            name: self.name,
            help: self.help,
            kind: self.kind,
            labels: self.labels,
            bounds: self.bounds,
            most: MOST_SETS,
        })
    }
}

macro_rules! metrics {
    ($(
        $constant:ident: $from:ident $kind:ident $name:literal [$($label:literal),*] $(in $bounds:ident)?, $help:literal
        $(, panel $board:ident $title:literal $unit:literal $shown:literal)*
        $(, alert $alert:literal $for_time:literal $fires:literal $summary:literal)*;
    )*) => {
        $(
            #[doc = $help]
            pub const $constant: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                bounds: metrics!(@bounds $($bounds)?),
                help: $help,
                from: Source::$from,
                panels: &[$(Panel { board: Board::$board, title: $title, unit: $unit, expression: $shown }),*],
                alerts: &[$(Alert { name: $alert, expression: $fires, for_time: $for_time, summary: $summary }),*],
            };
        )*

        /// All of them.
        pub const ALL: &[Definition] = &[$($constant),*];
    };
    (@bounds) => { &[] };
    (@bounds $bounds:ident) => { $bounds };
}

metrics! {
    HTTP_REQUESTS: Proxy Count "serve_num_http_requests" ["route", "method", "application", "status_code"],
        "HTTP requests that have ended, however they did.",
        panel Overview "Requests a second" "reqps"
        "sum by (application) (rate(serve_num_http_requests_total[1m]))",
        panel Overview "Requests a second by status" "reqps"
        "sum by (status_code) (rate(serve_num_http_requests_total[1m]))";
    HTTP_ERROR_REQUESTS: Proxy Count "serve_num_http_error_requests" ["route", "error_code", "method", "application"],
        "HTTP requests that ended with a status from 400 on, and WebSockets that closed with another code than 1000 or 1001.",
        panel Overview "Share of requests that fail (5xx)" "percentunit"
        "sum by (application) (rate(serve_num_http_error_requests_total{error_code=~\"5..\"}[1m])) / sum by (application) (rate(serve_num_http_requests_total[1m]))",
        alert "EaglerayRequestsFail" "5m"
        "sum by (application) (rate(serve_num_http_error_requests_total{error_code=~\"5..\"}[5m])) / sum by (application) (rate(serve_num_http_requests_total[5m])) > 0.01"
        "More than 1 % of the requests of {{ $labels.application }} fail with 5xx; `eagleray logs` of its deployments says why.";
    HTTP_DEPLOYMENT_ERROR_REQUESTS: Proxy Count "serve_num_deployment_http_error_requests"
        ["deployment", "error_code", "method", "route", "application"],
        "The same by the deployment that HTTP reaches.",
        panel Deployment "Errors a second by status" "reqps"
        "sum by (deployment, error_code) (rate(serve_num_deployment_http_error_requests_total{application=~\"$application\",deployment=~\"$deployment\"}[1m]))";
    HTTP_LATENCY: Proxy Traced "serve_http_request_latency_ms" ["method", "route", "application", "status_code"]
        in REQUEST_MS,
        "Milliseconds from the head of an HTTP request to the end of its answer, at the proxy.",
        panel Overview "Latency, 50 % of requests" "ms"
        "histogram_quantile(0.5, sum by (application, le) (rate(serve_http_request_latency_ms_bucket[1m])))",
        panel Overview "Latency, 99 % of requests" "ms"
        "histogram_quantile(0.99, sum by (application, le) (rate(serve_http_request_latency_ms_bucket[1m])))";
    HTTP_ONGOING: Proxy Level "serve_num_ongoing_http_requests" ["node_id", "node_ip_address"],
        "HTTP requests that are under way at the proxies of a node.",
        panel Overview "Requests under way" "short"
        "sum by (node_id) (serve_num_ongoing_http_requests)";
    REPLICA_STARTS: Replica Count "serve_deployment_replica_starts" ["deployment", "replica", "application"],
        "Replicas that have begun to serve.",
        panel Deployment "Replicas started, last hour" "short"
        "sum by (application, deployment) (increase(serve_deployment_replica_starts_total{application=~\"$application\",deployment=~\"$deployment\"}[1h]))";
    REPLICA_REQUESTS: Replica Count "serve_deployment_request_counter" ["deployment", "replica", "application", "route"],
        "Requests and calls that user code has answered without raising.",
        panel Replica "Requests a second" "reqps"
        "sum by (replica) (rate(serve_deployment_request_counter_total{application=~\"$application\",deployment=~\"$deployment\"}[1m]))",
        panel Deployment "Requests a second" "reqps"
        "sum by (application, deployment) (rate(serve_deployment_request_counter_total{application=~\"$application\",deployment=~\"$deployment\"}[1m]))";
    REPLICA_ERRORS: Replica Count "serve_deployment_error_counter"
        ["deployment", "replica", "application", "route", "exception_type"],
        "Requests and calls in which user code has raised, or which nobody waited for any more.",
        panel Deployment "Exceptions a second" "reqps"
        "sum by (deployment, exception_type) (rate(serve_deployment_error_counter_total{application=~\"$application\",deployment=~\"$deployment\"}[1m]))",
        panel Replica "Exceptions a second" "reqps"
        "sum by (replica) (rate(serve_deployment_error_counter_total{application=~\"$application\",deployment=~\"$deployment\"}[1m]))";
    REPLICA_LATENCY: Replica Traced "serve_deployment_processing_latency_ms" ["deployment", "replica", "application", "route"]
        in REQUEST_MS,
        "Milliseconds from when user code is called to the end of its answer, at the replica.",
        panel Deployment "Time in user code, 50 % of requests" "ms"
        "histogram_quantile(0.5, sum by (application, deployment, le) (rate(serve_deployment_processing_latency_ms_bucket{application=~\"$application\",deployment=~\"$deployment\"}[1m])))",
        panel Deployment "Time in user code, 99 % of requests" "ms"
        "histogram_quantile(0.99, sum by (application, deployment, le) (rate(serve_deployment_processing_latency_ms_bucket{application=~\"$application\",deployment=~\"$deployment\"}[1m])))";
    REPLICA_PROCESSING: Replica Level "serve_replica_processing_queries" ["deployment", "replica", "application"],
        "Requests and calls that user code runs now.",
        panel Replica "Requests that run" "short"
        "sum by (replica) (serve_replica_processing_queries{application=~\"$application\",deployment=~\"$deployment\"})",
        panel Deployment "Requests that run" "short"
        "sum by (application, deployment) (serve_replica_processing_queries{application=~\"$application\",deployment=~\"$deployment\"})";
    REPLICA_HEALTHY: Replica Level "serve_deployment_replica_healthy" ["deployment", "replica", "application"],
        "1 for a replica that serves and whose last health check succeeded, 0 after one that failed.",
        panel Replica "Healthy" "bool"
        "max by (replica) (serve_deployment_replica_healthy{application=~\"$application\",deployment=~\"$deployment\"})";
    HEALTH_CHECK_FAILURES: Replica Count "serve_health_check_failures_total" ["deployment", "replica", "application"],
        "Health checks that failed.",
        panel Replica "Failed health checks a minute" "short"
        "sum by (replica) (increase(serve_health_check_failures_total{application=~\"$application\",deployment=~\"$deployment\"}[1m]))";
    REPLICA_INITIALIZATION: Replica Histogram "serve_replica_initialization_latency_ms" ["deployment", "application"]
        in STARTUP_MS,
        "Milliseconds that a replica took to import the code and construct the deployment.",
        panel Deployment "Start of a replica, 90 %" "ms"
        "histogram_quantile(0.9, sum by (application, deployment, le) (increase(serve_replica_initialization_latency_ms_bucket{application=~\"$application\",deployment=~\"$deployment\"}[1h])))";
    HEALTH_CHECK_LATENCY: Replica Histogram "serve_health_check_latency_ms" ["deployment", "application"] in REQUEST_MS,
        "Milliseconds that a health check took.";
    RECONFIGURE_LATENCY: Replica Histogram "serve_replica_reconfigure_latency_ms" ["deployment", "application"]
        in REQUEST_MS,
        "Milliseconds from a new `user_config` to the end of `reconfigure`.";
    LOOP_LATENCY: Replica Histogram "serve_event_loop_scheduling_latency_ms"
        ["component", "loop_type", "actor_id", "deployment", "application"] in LOOP_MS,
        "Milliseconds by which a look at a replica's event loop came too late; one every five seconds.",
        panel Deployment "Event loops come late, 99 %" "ms"
        "histogram_quantile(0.99, sum by (application, deployment, le) (increase(serve_event_loop_scheduling_latency_ms_bucket{application=~\"$application\",deployment=~\"$deployment\"}[10m])))";
    LOOP_ITERATIONS: Replica Amount "serve_event_loop_monitoring_iterations"
        ["component", "loop_type", "actor_id", "deployment", "application"],
        "Looks at a replica's event loop.";
    LOOP_TASKS: Replica Gauge "serve_event_loop_tasks"
        ["component", "loop_type", "actor_id", "deployment", "application"],
        "Tasks on a replica's event loop, as of the last look.",
        panel Replica "Tasks on event loops" "short"
        "sum by (actor_id) (serve_event_loop_tasks{application=~\"$application\",deployment=~\"$deployment\"})";
    BATCH_WAIT: Replica Histogram "serve_batch_wait_time_ms" ["deployment", "replica", "application", "function_name"] in REQUEST_MS,
        "Milliseconds from a batch's first request to its start.",
        panel Deployment "Wait for a batch, 90 %" "ms"
        "histogram_quantile(0.9, sum by (application, deployment, le) (rate(serve_batch_wait_time_ms_bucket{application=~\"$application\",deployment=~\"$deployment\"}[1m])))";
    BATCH_EXECUTION: Replica Histogram "serve_batch_execution_time_ms" ["deployment", "replica", "application", "function_name"]
        in REQUEST_MS,
        "Milliseconds that user code took for a batch.";
    BATCH_UTILIZATION: Replica Histogram "serve_batch_utilization_percent"
        ["deployment", "replica", "application", "function_name"] in PERCENT,
        "Requests in a batch, in percent of the most that it may have.";
    BATCH_SIZE: Replica Histogram "serve_actual_batch_size" ["deployment", "replica", "application", "function_name"] in BATCH_SIZES,
        "Requests in a batch.",
        panel Deployment "Requests in a batch, on average" "short"
        "sum by (application, deployment) (rate(serve_actual_batch_size_sum{application=~\"$application\",deployment=~\"$deployment\"}[1m])) / sum by (application, deployment) (rate(serve_actual_batch_size_count{application=~\"$application\",deployment=~\"$deployment\"}[1m]))";
    BATCHES: Replica Amount "serve_batches_processed" ["deployment", "replica", "application", "function_name"],
        "Batches that user code has run.";
    BATCH_QUEUE: Replica Gauge "serve_batch_queue_length" ["deployment", "replica", "application", "function_name"],
        "Requests that waited for the next batch when the last one began.";
    MODEL_LOAD: Replica Histogram "serve_multiplexed_model_load_latency_ms" ["deployment", "replica", "application"] in REQUEST_MS,
        "Milliseconds that loading a multiplexed model took.";
    MODEL_UNLOAD: Replica Histogram "serve_multiplexed_model_unload_latency_ms" ["deployment", "replica", "application"]
        in REQUEST_MS,
        "Milliseconds that ending a multiplexed model took.";
    MODELS: Replica Gauge "serve_num_multiplexed_models" ["deployment", "replica", "application"],
        "Multiplexed models that a replica holds.";
    MODEL_REQUESTS: Replica Amount "serve_multiplexed_get_model_requests_counter" ["deployment", "replica", "application"],
        "Times that user code has asked for a multiplexed model.";
    MODEL_LOADS: Replica Amount "serve_multiplexed_models_load_counter" ["deployment", "replica", "application"],
        "Multiplexed models that were loaded.";
    MODEL_UNLOADS: Replica Amount "serve_multiplexed_models_unload_counter" ["deployment", "replica", "application"],
        "Multiplexed models that were given up.";
    QUEUED: Router Level "serve_deployment_queued_queries" ["deployment", "application", "handle", "actor_id"],
        "Requests and calls that wait in a router for a replica, as of a second ago at most.",
        panel Deployment "Requests that wait" "short"
        "sum by (application, deployment) (serve_deployment_queued_queries{application=~\"$application\",deployment=~\"$deployment\"})",
        alert "EaglerayRequestsWait" "5m"
        "sum by (application, deployment) (serve_deployment_queued_queries) > 100"
        "More than 100 requests wait for {{ $labels.application }}/{{ $labels.deployment }}; it needs more replicas, or `max_queued_requests`.";
    RUNNING: Router Level "serve_num_ongoing_requests_at_replicas" ["deployment", "application", "handle", "actor_id"],
        "Requests and calls that a router has sent to replicas and that are not over, as of a second ago at most.",
        panel Deployment "Requests at replicas" "short"
        "sum by (application, deployment) (serve_num_ongoing_requests_at_replicas{application=~\"$application\",deployment=~\"$deployment\"})";
    ROUTER_REQUESTS: Router Count "serve_num_router_requests"
        ["deployment", "route", "application", "handle", "actor_id"],
        "Requests and calls that a router was given.",
        panel Deployment "Calls a second, by who makes them" "reqps"
        "sum by (application, deployment, handle) (rate(serve_num_router_requests_total{application=~\"$application\",deployment=~\"$deployment\"}[1m]))";
    HANDLE_REQUESTS: Router Count "serve_handle_request_counter" ["handle", "deployment", "route", "application"],
        "Calls that handles were asked for.";
    FULFILLMENT: Router Histogram "serve_request_router_fulfillment_time_ms"
        ["deployment", "actor_id", "application", "handle_source"] in REQUEST_MS,
        "Milliseconds that a request or call waited in a router until it was sent to a replica, as of a second ago at most.",
        panel Deployment "Wait for a replica, 99 %" "ms"
        "histogram_quantile(0.99, sum by (application, deployment, le) (rate(serve_request_router_fulfillment_time_ms_bucket{application=~\"$application\",deployment=~\"$deployment\"}[1m])))";
    RESOLUTION: Router Histogram "serve_router_args_resolution_latency_ms"
        ["deployment", "application", "handle", "actor_id"] in REQUEST_MS,
        "Milliseconds that a call waited for answers of other calls that are its arguments.";
    RESERVED: Router Level "serve_reserved_slots_active" ["deployment", "application", "handle", "actor_id"],
        "Slots that handles have reserved for calls that are not over.";
    PROCESS_STARTS: Node Count "eagleray_process_starts" ["process"],
        "Proxies and controllers that have started: more than one of a kind is a restart.",
        panel Overview "Starts of proxy and controller, last hour" "short"
        "sum by (process) (increase(eagleray_process_starts_total[1h]))",
        alert "EaglerayProcessRestarts" "0m"
        "sum by (process) (increase(eagleray_process_starts_total[15m])) > 2"
        "The {{ $labels.process }} has started several times in 15 minutes; its log in the log directory of the node says why.";
    APPLICATION_STATUS: Controller Level "serve_application_status" ["application"],
        "1 deploy failed, 2 unhealthy, 3 not started, 4 deleting, 5 deploying, 6 running, 0 anything else.",
        panel Overview "Status of applications (6 runs)" "short"
        "max by (application) (serve_application_status)",
        alert "EaglerayApplicationUnwell" "5m"
        "max by (application) (serve_application_status) <= 2"
        "{{ $labels.application }} is not well; `eagleray status` says what and why.";
    DEPLOYMENT_STATUS: Controller Level "serve_deployment_status" ["deployment", "application"],
        "1 deploy failed, 2 unhealthy, 3 updating, 4 upscaling, 5 downscaling, 6 healthy, 0 anything else.",
        panel Deployment "Status (6 is healthy)" "short"
        "max by (application, deployment) (serve_deployment_status{application=~\"$application\",deployment=~\"$deployment\"})";
    REPLICAS_WANTED: Controller Level "eagleray_deployment_replicas_wanted" ["deployment", "application"],
        "Replicas that a deployment should have.",
        panel Deployment "Replicas wanted" "short"
        "sum by (application, deployment) (eagleray_deployment_replicas_wanted{application=~\"$application\",deployment=~\"$deployment\"})",
        alert "EaglerayReplicasMissing" "10m"
        "sum by (application, deployment) (eagleray_deployment_replicas_wanted) - (sum by (application, deployment) (eagleray_deployment_replicas{state=\"RUNNING\"}) or sum by (application, deployment) (eagleray_deployment_replicas_wanted) * 0) > 0"
        "{{ $labels.application }}/{{ $labels.deployment }} has had fewer replicas than it should for ten minutes; `eagleray status` says what they wait for.";
    REPLICAS: Controller Level "eagleray_deployment_replicas" ["deployment", "application", "state"],
        "Replicas that a deployment has, by state.",
        panel Deployment "Replicas by state" "short"
        "sum by (application, deployment, state) (eagleray_deployment_replicas{application=~\"$application\",deployment=~\"$deployment\"})";
    REPLICA_STARTUP: Controller Histogram "serve_replica_startup_latency_ms" ["deployment", "application"] in STARTUP_MS,
        "Milliseconds from the decision that a replica starts to its first request.";
    REPLICA_SHUTDOWN: Controller Histogram "serve_replica_shutdown_duration_ms" ["deployment", "application"]
        in STARTUP_MS,
        "Milliseconds from the decision that a replica stops to the end of its process.";
    AUTOSCALING_TARGET: Controller Level "serve_autoscaling_target_replicas" ["deployment", "application"],
        "Replicas that autoscaling has decided on.",
        panel Deployment "Autoscaling: replicas decided on" "short"
        "sum by (application, deployment) (serve_autoscaling_target_replicas{application=~\"$application\",deployment=~\"$deployment\"})";
    AUTOSCALING_DESIRED: Controller Level "serve_autoscaling_desired_replicas" ["deployment", "application"],
        "Replicas that the load asks for, before bounds and delays.",
        panel Deployment "Autoscaling: replicas that the load asks for" "short"
        "sum by (application, deployment) (serve_autoscaling_desired_replicas{application=~\"$application\",deployment=~\"$deployment\"})";
    AUTOSCALING_REQUESTS: Controller Level "serve_autoscaling_total_requests" ["deployment", "application"],
        "Requests that wait or run, as the last decision of autoscaling has seen them.";
    AUTOSCALING_PER_REPLICA: Controller Gauge "serve_autoscaling_target_ongoing_requests" ["deployment", "application"],
        "`target_ongoing_requests` of a deployment.";
    EVENTS: Controller Count "eagleray_events" ["kind", "level"],
        "What `eagleray events` shows: deploys, builds, ends of replicas, health, scaling.",
        panel Overview "Events, last hour" "short"
        "sum by (kind) (increase(eagleray_events_total[1h]))";
    CHECKPOINT_FAILURES: Controller Count "eagleray_checkpoint_failures" [],
        "Checkpoints that could not be written: deploys are refused meanwhile.",
        panel Overview "Checkpoints that failed, last hour" "short"
        "sum(increase(eagleray_checkpoint_failures_total[1h]))",
        alert "EaglerayCheckpointFails" "0m"
        "sum(increase(eagleray_checkpoint_failures_total[5m])) > 0"
        "The state of the node cannot be written, so deploys are refused; look at the disk of its state directory.";
}
