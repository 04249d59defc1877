//! Every bound of a proxy: its key, default, range, counter and answer, stated once.
//!
//! A limit is one line of the table below. From it come the field of [`Limits`], the key under
//! `http_options.limits`, the check of what a user gives for it, and its row in `docs/limits.md` (a test compares).
//! The defaults are safe without configuration: whatever strangers send, a connection costs what is written here.
//!
//! Values are numbers: counts, bytes, seconds, percent. Where 0 is in the range it means that there is no such limit.

use std::time::Duration;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Key under `http_options.limits`; its ending says the unit.
    pub key: &'static str,
    pub default: f64,
    pub minimum: f64,
    pub maximum: f64,
    /// Whether only whole numbers are taken.
    pub whole: bool,
    /// The counter that goes up when it is hit, see [`Counters`](crate::Counters).
    pub counter: &'static str,
    /// What the client gets that hits it.
    pub answer: &'static str,
    /// What it bounds.
    pub says: &'static str,
    set: fn(&mut Limits, f64),
}

/// A type of a limit's value.
trait Value {
    const WHOLE: bool;
    fn from_number(number: f64) -> Self;
}

impl Value for u64 {
    const WHOLE: bool = true;
    fn from_number(number: f64) -> Self {
        number as Self
    }
}

impl Value for Duration {
    const WHOLE: bool = false;
    fn from_number(number: f64) -> Self {
        Self::from_secs_f64(number)
    }
}

macro_rules! limits {
    ($(
        $key:ident: $kind:ty = $default:literal, $minimum:literal to $maximum:literal,
        $counter:literal, $answer:literal, $says:literal;
    )*) => {
        /// The limits of one proxy process.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Limits {
            $(#[doc = $says] pub $key: $kind,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($key: <$kind as Value>::from_number($default),)* }
            }
        }

        impl Limits {
            /// The table, in the order in which it is documented.
            pub const ALL: &[Limit] = &[$(Limit {
                key: stringify!($key),
                default: $default,
                minimum: $minimum,
                maximum: $maximum,
                whole: <$kind as Value>::WHOLE,
                counter: $counter,
                answer: $answer,
                says: $says,
                set: |limits, number| limits.$key = <$kind as Value>::from_number(number),
            },)*];
        }
    };
}

limits! {
    header_bytes: u64 = 65_536.0, 8_192.0 to 1_048_576.0,
        "heads_too_large", "431, then close",
        "Bytes of a request head, and of trailers. About as much of a body is buffered on its way through.";
    header_count: u64 = 100.0, 1.0 to 10_000.0,
        "heads_too_large", "431, then close",
        "Fields of a request head.";
    uri_bytes: u64 = 8_192.0, 1.0 to 65_534.0,
        "uris_too_long", "414, then close (431 above `header_bytes`)",
        "Bytes of path and query of a request.";
    header_read_s: Duration = 10.0, 0.01 to 3_600.0,
        "heads_timed_out", "408, then close",
        "Time from the first byte of a request head to its last.";
    connections: u64 = 10_000.0, 1.0 to 1_000_000.0,
        "connections_refused", "accepted and closed at once",
        "Connections of the process. Never more than half of its file descriptors.";
    connections_per_source: u64 = 1_000.0, 0.0 to 1_000_000.0,
        "connections_refused_per_source", "accepted and closed at once",
        "Connections from one address that is not loopback; 0: no such limit.";
    connections_per_loopback_source: u64 = 0.0, 0.0 to 1_000_000.0,
        "connections_refused_per_source", "accepted and closed at once",
        "Connections from one loopback address; 0: no such limit.";
    body_idle_s: Duration = 30.0, 0.01 to 3_600.0,
        "bodies_timed_out", "408, then close; an answer that has begun is cut",
        "The longest wait for the next bytes of a request body, while something waits for them.";
    body_bytes_per_s: u64 = 1_024.0, 0.0 to 1_000_000_000.0,
        "bodies_timed_out", "408, then close; an answer that has begun is cut",
        "Bytes that a client must send of a body a second, on average over any `body_idle_s`; 0: a single byte is enough.";
    answer_idle_s: Duration = 30.0, 0.01 to 3_600.0,
        "slow_readers", "connection cut",
        "The longest wait until a client takes more of an answer.";
    answer_bytes_per_s: u64 = 1_024.0, 0.0 to 1_000_000_000.0,
        "slow_readers", "connection cut",
        "Bytes that a client must take of an answer a second, on average over any `answer_idle_s`; 0: a single byte is enough.";
    half_close_s: Duration = 0.5, 0.0 to 3_600.0,
        "", "as to a client that has left",
        "For a client that has closed its sending half: the longest time without anything being sent to it; 0: it counts as gone.";
    half_close_within_s: Duration = 0.02, 0.0 to 3_600.0,
        "", "as to a client that has left",
        "A client that closes within this time of its last bytes counts as having closed its sending half only.";
    queued_bytes: u64 = 268_435_456.0, 65_536.0 to 1e12,
        "requests_refused_queued_bytes", "503",
        "Bytes of all requests that wait in the process, with the bodies kept for them. Never over a quarter of memory.";
    abandoned_requests: u64 = 1_000.0, 0.0 to 1_000_000.0,
        "requests_abandoned_cancelled", "cancelled when the client leaves, as without the header",
        "Requests that go on without their client, as `x-request-disconnect-disabled: ?1` asks; 0: none does.";
    abandoned_requests_per_deployment: u64 = 100.0, 1.0 to 1_000_000.0,
        "requests_abandoned_cancelled", "cancelled when the client leaves, as without the header",
        "The same, of one deployment.";
    abandoned_requests_per_connection: u64 = 20.0, 1.0 to 1_000_000.0,
        "requests_abandoned_cancelled", "cancelled when the client leaves, as without the header",
        "The same, of one connection. A connection of HTTP/1.1 has one at most.";
    memory_bytes: u64 = 0.0, 0.0 to 1e15,
        "", "",
        "The memory to which the percentages below refer; 0: the smallest of control group, `RLIMIT_AS` and machine.";
    memory_drain_percent: u64 = 85.0, 0.0 to 100.0,
        "connections_drained_memory", "idle connections are closed",
        "Resident memory at which idle connections are closed; 0: never.";
    memory_shed_percent: u64 = 92.0, 0.0 to 100.0,
        "requests_refused_memory", "503 with `Retry-After: 1`",
        "Resident memory at which new requests are refused; 0: never.";
    memory_refuse_percent: u64 = 97.0, 0.0 to 100.0,
        "connections_refused_memory", "accepted and closed at once",
        "Resident memory at which new connections are refused; 0: never.";
    websocket_message_bytes: u64 = 16_777_216.0, 1.0 to 1_073_741_824.0,
        "websocket_messages_too_long", "close 1009",
        "WebSocket: bytes of one message, inflated, over all its frames; what is gathered in the replica.";
    websocket_compress_bytes: u64 = 1_024.0, 0.0 to 1_000_000_000_000.0,
        "", "sent as they are",
        "WebSocket: messages to a client that takes compression (`permessage-deflate`) are compressed from this length \
         on; 0: none are, in neither direction.";
    websocket_ping_s: Duration = 20.0, 0.0 to 3_600.0,
        "", "a ping",
        "WebSocket: time without a byte from the client after which it is sent a ping; 0: never.";
    websocket_pong_s: Duration = 20.0, 0.01 to 3_600.0,
        "websockets_silent", "connection cut",
        "WebSocket: the longest time without a byte from the client after a ping.";
    tls_handshake_s: Duration = 5.0, 0.01 to 3_600.0,
        "tls_handshakes_timed_out", "connection cut",
        "Time for the whole TLS handshake.";
    h2_streams: u64 = 100.0, 1.0 to 10_000.0,
        "h2_streams_refused", "RST_STREAM(REFUSED_STREAM)",
        "HTTP/2: open streams of a connection.";
    h2_stream_window_bytes: u64 = 16_777_216.0, 65_535.0 to 1_073_741_824.0,
        "h2_flow_control_errors", "RST_STREAM(FLOW_CONTROL_ERROR)",
        "HTTP/2: bytes in flight of one request body, as far as its connection has room for them.";
    h2_connection_window_bytes: u64 = 1_048_576.0, 65_535.0 to 1_073_741_824.0,
        "h2_flow_control_errors", "GOAWAY(FLOW_CONTROL_ERROR)",
        "HTTP/2: bytes in flight and unread of all request bodies of a connection, without those of `h2_windows_bytes`. It starts at 262144.";
    h2_windows_bytes: u64 = 268_435_456.0, 0.0 to 1e12,
        "", "the client waits",
        "HTTP/2: what all connections of the process together may have beyond that. Never over an eighth of memory. 0: windows do not grow for clients far away.";
    h2_frame_bytes: u64 = 16_384.0, 16_384.0 to 16_777_215.0,
        "h2_protocol_errors", "GOAWAY(FRAME_SIZE_ERROR)",
        "HTTP/2: payload of one frame.";
    h2_header_list_bytes: u64 = 16_384.0, 1_024.0 to 1_048_576.0,
        "heads_too_large", "431",
        "HTTP/2: decoded bytes of a request head, as RFC 9113 counts them.";
    h2_header_count: u64 = 100.0, 1.0 to 10_000.0,
        "heads_too_large", "431",
        "HTTP/2: fields of a request head. Each part of a split cookie counts.";
    h2_send_buffer_bytes: u64 = 65_536.0, 16_384.0 to 16_777_216.0,
        "", "back-pressure on the replica",
        "HTTP/2: bytes of an answer that wait for the window of its stream.";
    h2_stall_s: Duration = 10.0, 0.01 to 3_600.0,
        "h2_streams_stalled", "RST_STREAM(CANCEL)",
        "HTTP/2: the longest time without progress of an answer that is complete, however often its window grows.";
    h2_streaming_stall_s: Duration = 60.0, 0.01 to 3_600.0,
        "h2_streams_stalled", "RST_STREAM(CANCEL)",
        "HTTP/2: the same for an answer that is still being made.";
    h2_resets: u64 = 100.0, 1.0 to 1_000_000.0,
        "h2_reset_floods", "GOAWAY(ENHANCE_YOUR_CALM)",
        "HTTP/2: streams that a client may reset within `h2_resets_window_s` if it lets fewer than half complete.";
    h2_resets_window_s: Duration = 10.0, 0.01 to 3_600.0,
        "h2_reset_floods", "GOAWAY(ENHANCE_YOUR_CALM)",
        "HTTP/2: the time over which resets are counted.";
    h2_pending_resets: u64 = 20.0, 1.0 to 10_000.0,
        "h2_reset_floods", "GOAWAY(ENHANCE_YOUR_CALM)",
        "HTTP/2: streams that were reset before they were accepted.";
    h2_control_frames: u64 = 1_000.0, 100.0 to 1_000_000_000.0,
        "h2_control_floods", "GOAWAY(ENHANCE_YOUR_CALM)",
        "HTTP/2: frames within `h2_resets_window_s` that carry nothing, beyond 10 for each that does.";
}

impl Limits {
    /// Takes the keys that a user gave, over the present values.
    ///
    /// # Errors
    /// Every key that does not exist and every value that does not fit, one text each; nothing is changed then.
    pub fn set<'a>(
        &mut self,
        given: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<(), Vec<String>> {
        let mut wanted = self.clone();
        let mut problems = Vec::new();
        for (key, number) in given {
            match Self::ALL.iter().find(|limit| limit.key == key) {
                Some(limit) if limit.takes(number) => (limit.set)(&mut wanted, number),
                Some(limit) => problems.push(limit.refusal(number)),
                None => problems.push(unknown(key)),
            }
        }
        let percents = [
            wanted.memory_drain_percent,
            wanted.memory_shed_percent,
            wanted.memory_refuse_percent,
        ];
        if !percents.iter().filter(|percent| **percent > 0).is_sorted() {
            problems.push(format!(
                "memory_drain_percent, memory_shed_percent and memory_refuse_percent must not fall, got {percents:?}"
            ));
        }
        if problems.is_empty() {
            *self = wanted;
            Ok(())
        } else {
            Err(problems)
        }
    }
}

impl Limit {
    fn takes(&self, number: f64) -> bool {
        (self.minimum..=self.maximum).contains(&number) && (!self.whole || number.fract() == 0.0)
    }

    fn refusal(&self, number: f64) -> String {
        let kind = if self.whole { "whole number" } else { "number" };
        format!(
            "{} must be a {kind} from {} to {}, got {number}",
            self.key, self.minimum, self.maximum
        )
    }
}

fn unknown(key: &str) -> String {
    let nearest = Limits::ALL
        .iter()
        .map(|limit| limit.key)
        .min_by_key(|known| distance(key, known))
        .unwrap_or_default();
    format!("there is no limit {key:?}; the nearest is {nearest:?}")
}

/// Letters to change, add or take away (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (number, letter) in left.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = number + 1;
        for (at, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests;
