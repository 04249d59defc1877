//! The same for WebSocket: frames are made, good and bad, some of them compressed, then mutated.

use fastrand::Rng;
use flate2::{Compress, Compression, FlushCompress};

use crate::{MOST_RUNS, mutate, stable, target};

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
    0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x88, 0x89, 0x8a, 0x09, 0xc1, 0xc2, 0x41, 0x83, 0x8f,
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

/// As a message that is compressed has it.
fn packed(payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(payload.len() + 100);
    Compress::new(Compression::new(6), false)
        .compress_vec(payload, &mut packed, FlushCompress::Sync)
        .expect("a compressor that was just made takes anything");
    packed.truncate(packed.len() - 4);
    packed
}

fn generate(rng: &mut Rng) -> Vec<u8> {
    let mut input = vec![rng.u8(..)];
    for _ in 0..rng.usize(1..12) {
        match rng.u8(0..16) {
            0 => input.extend([0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]),
            1 => input.extend([0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
            2 => input.extend([0x82, 0xfe, 0, 5, 0, 0, 0, 0]),
            3..7 => {
                let long = vec![b'*'; rng.usize(..200_000)];
                let payload = *rng.choice(PAYLOADS).expect("there are some");
                let payload = packed(if rng.bool() { &long } else { payload });
                frame(&mut input, 0xc2, rng.u32(..).to_ne_bytes(), &payload);
            }
            _ => {
                let first = *rng.choice(FIRSTS).unwrap();
                let payload = rng.choice(PAYLOADS).unwrap();
                frame(&mut input, first, rng.u32(..).to_ne_bytes(), payload);
            }
        }
    }
    input
}

fn write_seeds() {
    for (number, payload) in PAYLOADS.iter().enumerate() {
        for (kind, first) in [("whole", 0x81), ("pieces", 0x01), ("close", 0x88)] {
            let mut input = vec![3];
            frame(&mut input, first, [1, 2, 3, 4], payload);
            frame(&mut input, 0x89, [5, 6, 7, 8], b"ping");
            frame(&mut input, 0x80, [0; 4], payload);
            frame(&mut input, 0x88, [9; 4], b"\x03\xe8");
            stable::keep("websocket", format!("{kind}-{number}"), &input);
            let mut input = vec![3 | target::COMPRESSES];
            let packed = packed(payload);
            frame(&mut input, first | 0x40, [1, 2, 3, 4], &packed);
            frame(&mut input, 0x80, [0; 4], b"");
            frame(&mut input, 0xc1, [5, 6, 7, 8], &packed);
            stable::keep("websocket", format!("packed-{kind}-{number}"), &input);
        }
    }
}

#[test]
fn kept_seeds_of_websocket_pass() {
    stable::pass_seeds(&[("websocket", target::websocket)], write_seeds);
}

#[test]
fn generated_websocket_passes() {
    stable::drive(
        &[("websocket", target::websocket)],
        MOST_RUNS,
        |_, rng| generate(rng),
        mutate,
    );
}
