//! Every metric of ours, declared once: name, type, help, labels, buckets.
//!
//! Names, types, labels and buckets are those of Ray Serve where it has the metric, so that boards made for it go on; but no
//! histogram says `replica` or `actor_id`, since that multiplies twenty series by every replica that ever was. The text of
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
}

/// Who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Proxy,
    Replica,
    Node,
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
    ($($constant:ident: $from:ident $kind:ident $name:literal [$($label:literal),*] $(in $bounds:ident)?, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                bounds: metrics!(@bounds $($bounds)?),
                help: $help,
                from: Source::$from,
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
        "HTTP requests that have ended, however they did.";
    HTTP_ERROR_REQUESTS: Proxy Count "serve_num_http_error_requests" ["route", "error_code", "method", "application"],
        "HTTP requests that ended with a status from 400 on, and WebSockets that closed with another code than 1000 or 1001.";
    HTTP_DEPLOYMENT_ERROR_REQUESTS: Proxy Count "serve_num_deployment_http_error_requests"
        ["deployment", "error_code", "method", "route", "application"],
        "The same by the deployment that HTTP reaches.";
    HTTP_LATENCY: Proxy Histogram "serve_http_request_latency_ms" ["method", "route", "application", "status_code"]
        in REQUEST_MS,
        "Milliseconds from the head of an HTTP request to the end of its answer, at the proxy.";
    HTTP_ONGOING: Proxy Level "serve_num_ongoing_http_requests" ["node_id", "node_ip_address"],
        "HTTP requests that are under way at the proxies of a node.";
    REPLICA_STARTS: Replica Count "serve_deployment_replica_starts" ["deployment", "replica", "application"],
        "Replicas that have begun to serve.";
    REPLICA_REQUESTS: Replica Count "serve_deployment_request_counter" ["deployment", "replica", "application", "route"],
        "Requests and calls that user code has answered without raising.";
    REPLICA_ERRORS: Replica Count "serve_deployment_error_counter"
        ["deployment", "replica", "application", "route", "exception_type"],
        "Requests and calls in which user code has raised, or which nobody waited for any more.";
    REPLICA_LATENCY: Replica Histogram "serve_deployment_processing_latency_ms" ["deployment", "application", "route"]
        in REQUEST_MS,
        "Milliseconds from when user code is called to the end of its answer, at the replica.";
    REPLICA_PROCESSING: Replica Level "serve_replica_processing_queries" ["deployment", "replica", "application"],
        "Requests and calls that user code runs now.";
}
