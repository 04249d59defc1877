//! The fuzz target on stable: the kept seeds, then generated input for `EAGLERAY_FUZZ_SECONDS` (default 1).
//!
//! Generated input is made of pieces of requests, good and bad, put together at random and then mutated, so that most
//! of it gets past the first byte. `EAGLERAY_FUZZ_SEED` repeats a run; `EAGLERAY_WRITE_SEEDS=1` writes the seeds anew.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod http2;
mod target;
mod websocket;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;

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

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/http1")
}

fn write_seeds() {
    fs::create_dir_all(seeds()).unwrap();
    for (number, line) in LINES.iter().enumerate() {
        let field = FIELDS[number % FIELDS.len()];
        let body = BODIES[number % BODIES.len()];
        let text =
            format!("\u{8}{line}host: a\r\n{field}\r\n{body}GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        fs::write(seeds().join(format!("request-{number}")), text).unwrap();
    }
}

#[test]
fn kept_seeds_pass() {
    if env::var_os("EAGLERAY_WRITE_SEEDS").is_some() {
        write_seeds();
    }
    let mut count = 0;
    for entry in fs::read_dir(seeds()).unwrap() {
        target::http1(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn generated_input_passes() {
    let seconds: u64 =
        env::var("EAGLERAY_FUZZ_SECONDS").map_or(1, |text| text.parse().expect("a number"));
    let seed: u64 =
        env::var("EAGLERAY_FUZZ_SEED").map_or(0x5eed, |text| text.parse().expect("a number"));
    println!("generator seed {seed}: repeat with EAGLERAY_FUZZ_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0_u64;
    // Each run leaves a port of this machine unusable for a minute.
    while Instant::now() < end && runs < 10_000 {
        let mut input = generate(&mut rng);
        for _ in 0..rng.u32(0..4) {
            mutate(&mut input, &mut rng);
        }
        if std::panic::catch_unwind(|| target::http1(&input)).is_err() {
            let path = env::temp_dir().join("eagleray-fuzz-http1");
            fs::write(&path, &input).unwrap();
            panic!(
                "run {runs} of seed {seed} failed; its input is in {}",
                path.display()
            );
        }
        runs += 1;
    }
    println!("{runs} runs");
}
