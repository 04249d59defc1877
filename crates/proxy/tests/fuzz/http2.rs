//! The same for HTTP/2: frames are made, good and bad, then mutated.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{mutate, target};

/// Header blocks: whole requests, pieces of them, what no table has, bad Huffman, bad names.
const BLOCKS: &[&[u8]] = &[
    b"\x82\x86\x84\x41\x01a",
    b"\x83\x86\x84\x41\x01a",
    b"\x82\x86\x04\x0a/-/healthz\x41\x01a",
    b"\x82\x86\x84\x41\x01a\x0f\x0d\x015",
    b"\x82\x86\x84\x41\x01a\x40\x01x\x01y\xbe\xbe",
    b"\x82\x84",
    b"\xff\xff\xff\xff\x7f",
    b"\x3f\xe1\x1f\x20\x82\x86\x84\x41\x01a",
    b"\x82\x86\x84\x41\x01a\x00\x81\xff\x01y",
    b"\x82\x86\x84\x41\x01a\x00\x02X \x01\x00",
    b"",
];

fn frame(input: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    input.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    input.extend([kind, flags]);
    input.extend(stream.to_be_bytes());
    input.extend_from_slice(payload);
}

fn generate(rng: &mut Rng) -> Vec<u8> {
    let mut input = vec![rng.u8(..)];
    for _ in 0..rng.usize(1..12) {
        // Mostly few streams, so that frames meet.
        let stream = if rng.u8(..) < 8 {
            rng.u32(..)
        } else {
            rng.u32(0..8)
        };
        let flags = *rng.choice(&[0, 1, 4, 5, 5, 5, 8, 0x2d, 0xff]).unwrap();
        match rng.u8(0..12) {
            0..=3 => frame(&mut input, 1, flags, stream, rng.choice(BLOCKS).unwrap()),
            4 => frame(&mut input, 9, flags, stream, rng.choice(BLOCKS).unwrap()),
            5 | 6 => {
                let length = *rng.choice(&[0, 1, 5, 255, 16_384, 16_385]).unwrap();
                frame(&mut input, 0, flags, stream, &vec![3; length]);
            }
            7 => frame(&mut input, 8, 0, stream, &rng.u32(..).to_be_bytes()),
            8 => {
                let id = rng.u16(0..10).to_be_bytes();
                let value = rng.u32(..).to_be_bytes();
                frame(&mut input, 4, 0, 0, &[&id[..], &value].concat());
            }
            9 => frame(&mut input, 3, 0, stream, &rng.u32(0..14).to_be_bytes()),
            10 => frame(&mut input, 6, 0, 0, &[0; 8]),
            _ => {
                let length = rng.usize(0..20);
                frame(&mut input, rng.u8(..), flags, stream, &vec![0; length]);
            }
        }
    }
    input
}

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/http2")
}

fn write_seeds() {
    fs::create_dir_all(seeds()).unwrap();
    for (number, block) in BLOCKS.iter().enumerate() {
        let mut input = vec![30];
        frame(&mut input, 1, 4, 1, block);
        frame(&mut input, 0, 1, 1, b"hello");
        frame(&mut input, 1, 5, 3, block);
        frame(&mut input, 6, 0, 0, &[0; 8]);
        fs::write(seeds().join(format!("block-{number}")), input).unwrap();
    }
}

#[test]
fn kept_seeds_of_http2_pass() {
    if env::var_os("EAGLERAY_WRITE_SEEDS").is_some() {
        write_seeds();
    }
    let mut count = 0;
    for entry in fs::read_dir(seeds()).unwrap() {
        target::http2(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn generated_http2_passes() {
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
        if std::panic::catch_unwind(|| target::http2(&input)).is_err() {
            let path = env::temp_dir().join("eagleray-fuzz-http2");
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
