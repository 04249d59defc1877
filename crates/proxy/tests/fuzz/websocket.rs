//! The same for WebSocket: frames are made, good and bad, then mutated.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{mutate, target};

const PAYLOADS: &[&[u8]] = &[
    b"",
    b"a",
    "grüße €".as_bytes(),
    b"\xe2\x82",
    b"\xac",
    b"\xff\xff",
    b"\x03\xe8bye",
    b"\x03\xee",
    b"\x03",
    &[7; 200],
];
const FIRSTS: &[u8] = &[
    0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x88, 0x89, 0x8a, 0x09, 0xc1, 0x83, 0x8f,
];

fn frame(input: &mut Vec<u8>, first: u8, mask: [u8; 4], payload: &[u8]) {
    input.push(first);
    if payload.len() < 126 {
        input.push(0x80 | payload.len() as u8);
    } else {
        input.push(0x80 | 0x7e);
        input.extend((payload.len() as u16).to_be_bytes());
    }
    input.extend(mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    input.extend(masked.map(|(byte, mask)| byte ^ mask));
}

fn generate(rng: &mut Rng) -> Vec<u8> {
    let mut input = vec![rng.u8(..)];
    for _ in 0..rng.usize(1..12) {
        match rng.u8(0..16) {
            0 => input.extend([0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]),
            1 => input.extend([0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
            2 => input.extend([0x82, 0xfe, 0, 5, 0, 0, 0, 0]),
            _ => {
                let first = *rng.choice(FIRSTS).unwrap();
                let payload = rng.choice(PAYLOADS).unwrap();
                frame(&mut input, first, rng.u32(..).to_ne_bytes(), payload);
            }
        }
    }
    input
}

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/websocket")
}

fn write_seeds() {
    fs::create_dir_all(seeds()).unwrap();
    for (number, payload) in PAYLOADS.iter().enumerate() {
        for (kind, first) in [("whole", 0x81), ("pieces", 0x01), ("close", 0x88)] {
            let mut input = vec![3];
            frame(&mut input, first, [1, 2, 3, 4], payload);
            frame(&mut input, 0x89, [5, 6, 7, 8], b"ping");
            frame(&mut input, 0x80, [0; 4], payload);
            frame(&mut input, 0x88, [9; 4], b"\x03\xe8");
            fs::write(seeds().join(format!("{kind}-{number}")), input).unwrap();
        }
    }
}

#[test]
fn kept_seeds_of_websocket_pass() {
    if env::var_os("EAGLERAY_WRITE_SEEDS").is_some() {
        write_seeds();
    }
    let mut count = 0;
    for entry in fs::read_dir(seeds()).unwrap() {
        target::websocket(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn generated_websocket_passes() {
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
        if std::panic::catch_unwind(|| target::websocket(&input)).is_err() {
            let path = env::temp_dir().join("eagleray-fuzz-websocket");
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
