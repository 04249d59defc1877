//! What a proxy process counts: limits that were hit, connections, accidents.
//!
//! One struct of atomics, shared by the threads of the process. They are touched when a connection opens or ends and
//! when a limit is hit, never for a request that goes well, so they cost nothing on its path. Relaxed throughout:
//! the numbers guard nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that goes up, or up and down.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds one unless that would be more than `most`.
    pub(crate) fn add_below(&self, most: u64) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| {
                (number < most).then_some(number + 1)
            })
            .is_ok()
    }

    /// Adds so many unless that would be more than `most`.
    pub(crate) fn add_many_below(&self, many: u64, most: u64) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| {
                number.checked_add(many).filter(|sum| *sum <= most)
            })
            .is_ok()
    }

    pub(crate) fn remove_many(&self, many: u64) {
        self.0.fetch_sub(many, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($name:ident: $says:literal;)*) => {
        /// The counters of one process. All only go up, but those that end in `_open`.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $says] pub $name: Counter,)*
        }

        impl Counters {
            /// Every counter by its name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

counters! {
    connections_open: "Connections that are open now.";
    connections_accepted: "Connections that were accepted and not closed at once.";
    connections_refused: "Connections closed at once: the process had as many as it may.";
    connections_refused_per_source: "Connections closed at once: their address had as many as it may.";
    connections_refused_memory: "Connections closed at once: memory was short.";
    connections_drained_memory: "Idle connections closed because memory was short.";
    connections_idle: "Connections closed because they were idle too long.";
    accept_errors: "Times that accepting failed for want of descriptors or memory.";
    panics: "Tasks of connections that panicked. Each is a fault of Eagleray.";
    heads_too_large: "Request heads with too many bytes or fields.";
    heads_malformed: "Request heads that are not HTTP.";
    heads_refused: "Request heads that break a rule beyond the syntax.";
    heads_timed_out: "Request heads that did not come in time.";
    hosts_refused: "Requests for a host that is not one of `allowed_hosts`.";
    uris_too_long: "Request targets that were too long.";
    bodies_malformed: "Request bodies that broke off or are not HTTP.";
    bodies_timed_out: "Request bodies that did not come in time.";
    bodies_too_large: "Request bodies above the `max_body_bytes` of their deployment.";
    slow_readers: "Connections cut because their client did not take its answer.";
    requests_refused_queue: "Requests refused by `max_queued_requests`.";
    requests_refused_queued_bytes: "Requests refused because those that wait held too many bytes.";
    requests_refused_memory: "Requests refused because memory was short.";
    requests_abandoned_open: "Requests that go on without their client now, since they asked for it.";
    requests_abandoned_cancelled: "Requests that asked for it, and were cancelled with their client: too many went on.";
    websockets_open: "WebSockets that are open now.";
    websockets_accepted: "WebSockets that user code has accepted.";
    websocket_errors: "WebSockets closed because their client broke a rule of the protocol.";
    websocket_messages_too_long: "WebSockets closed because of a message that was too long.";
    websockets_silent: "WebSockets cut because their client did not answer a ping.";
    tls_handshakes_timed_out: "TLS handshakes that did not end in time.";
    tls_handshakes_failed: "TLS handshakes that failed.";
    h2_window_bytes_open: "Bytes that HTTP/2 clients may have in flight now, beyond `h2_connection_window_bytes` of each.";
    h2_streams_refused: "HTTP/2 streams above the limit of their connection.";
    h2_streams_stalled: "HTTP/2 streams reset because their client did not take its answer.";
    h2_reset_floods: "HTTP/2 connections ended because they reset too many streams.";
    h2_control_floods: "HTTP/2 connections ended because they sent too many frames that carry nothing.";
    h2_flow_control_errors: "HTTP/2 connections or streams ended because they sent past a window.";
    h2_protocol_errors: "HTTP/2 connections or streams ended by another error of their client.";
}
