//! The same for HTTP/2: frames are made, good and bad, then mutated.

use fastrand::Rng;

use crate::{MOST_RUNS, mutate, stable, target};

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

fn write_seeds() {
    for (number, block) in BLOCKS.iter().enumerate() {
        let mut input = vec![30];
        frame(&mut input, 1, 4, 1, block);
        frame(&mut input, 0, 1, 1, b"hello");
        frame(&mut input, 1, 5, 3, block);
        frame(&mut input, 6, 0, 0, &[0; 8]);
        stable::keep("http2", format!("block-{number}"), &input);
    }
}

#[test]
fn kept_seeds_of_http2_pass() {
    stable::pass_seeds(&[("http2", target::http2)], write_seeds);
}

#[test]
fn generated_http2_passes() {
    stable::drive(
        &[("http2", target::http2)],
        MOST_RUNS,
        |_, rng| generate(rng),
        mutate,
    );
}
