//! The fuzz targets on stable: the kept seeds, then generated input, as `fuzz/stable.rs` says.
//!
//! Generated input is made of pieces of requests, good and bad, put together at random and then mutated, so that most
//! of it gets past the first byte.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod http2;
#[path = "../../../../fuzz/stable.rs"]
mod stable;
mod target;
mod websocket;

use fastrand::Rng;

/// Each run leaves a port of this machine unusable for a minute.
const MOST_RUNS: u64 = 10_000;

const LINES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a/b?c=d HTTP/1.1\r\n",
    "HEAD / HTTP/1.1\r\n",
    "GET / HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "GET http://a/b HTTP/1.1\r\n",
    "CONNECT a:1 HTTP/1.1\r\n",
    "GET /-/healthz HTTP/1.1\r\n",
    "GET /-/routes HTTP/1.1\r\n",
    "GET /%2e%2e/%00\\ HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/1.1\n",
];
const FIELDS: &[&str] = &[
    "host: a\r\n",
    "host: a\r\n",
    "host: [::1]:80\r\n",
    "content-length: 5\r\n",
    "content-length: 18446744073709551615\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "connection: close, x, keep-alive\r\n",
    "connection: upgrade\r\nupgrade: websocket\r\n",
    "expect: 100-continue\r\n",
    "x-request-timeout-seconds: 0.01\r\n",
    "x-request-id: \u{e9}\r\n",
    "x_y: z\r\n",
    "x : y\r\n",
    " folded\r\n",
    "x: \0\r\n",
    "te: trailers\r\n",
];
const BODIES: &[&str] = &[
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "5;a=\"b\"\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "ffffffffffffffff\r\n",
    "0\r\n\n",
    "g\r\n",
    "",
];

fn generate(rng: &mut Rng) -> Vec<u8> {
    let mut input = vec![rng.u8(..)];
    for _ in 0..rng.usize(1..5) {
        input.extend_from_slice(rng.choice(LINES).unwrap().as_bytes());
        for _ in 0..rng.usize(0..6) {
            input.extend_from_slice(rng.choice(FIELDS).unwrap().as_bytes());
        }
        if rng.u8(..) < 8 {
            let long = rng.usize(0..80_000);
            input.extend_from_slice(b"x: ");
            input.resize(input.len() + long, b'a');
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"\r\n");
        input.extend_from_slice(rng.choice(BODIES).unwrap().as_bytes());
    }
    input
}

fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(0..=input.len());
    match rng.u8(0..6) {
        0 => input.truncate(at),
        1 => input.insert(at, rng.u8(..)),
        2 if at < input.len() => input[at] ^= 1 << rng.u8(0..8),
        3 if at < input.len() => input[at] = *rng.choice(b"\0\r\n :;,\t\x7f\xff").unwrap(),
        4 if at < input.len() => drop(input.remove(at)),
        5 => {
            let tail: Vec<u8> = input[at..].iter().take(4096).copied().collect();
            input.extend(tail);
        }
        _ => {}
    }
}

fn write_seeds() {
    for (number, line) in LINES.iter().enumerate() {
        let field = FIELDS[number % FIELDS.len()];
        let body = BODIES[number % BODIES.len()];
        let text =
            format!("\u{8}{line}host: a\r\n{field}\r\n{body}GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        stable::keep("http1", format!("request-{number}"), text.as_bytes());
    }
}

#[test]
fn kept_seeds_pass() {
    stable::pass_seeds(&[("http1", target::http1)], write_seeds);
}

#[test]
fn generated_input_passes() {
    stable::drive(
        &[("http1", target::http1)],
        MOST_RUNS,
        |_, rng| generate(rng),
        mutate,
    );
}
