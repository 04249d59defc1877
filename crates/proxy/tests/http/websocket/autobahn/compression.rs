//! Sections 12 and 13: compression, of five kinds of data, in many sizes, agreed to in many ways.
//!
//! The suite has files of its own; here data of the same kinds is made. Of each message it sends a thousand, and here a
//! few. What it offers in section 13 is a list of offers, of which the last asks for nothing.

use std::fmt::Write;

use super::{
    BINARY, Case, TEXT, Wanted, case,
    packing::{Packer, frames},
};

/// Bytes of a message, and of a frame of what it is compressed to; 0: one frame.
const SIZES: [(usize, usize); 18] = [
    (16, 0),
    (64, 0),
    (256, 0),
    (1024, 0),
    (4096, 0),
    (8192, 0),
    (16_384, 0),
    (32_768, 0),
    (65_536, 0),
    (131_072, 0),
    (8192, 256),
    (16_384, 256),
    (32_768, 256),
    (65_536, 256),
    (131_072, 256),
    (131_072, 1024),
    (131_072, 4096),
    (131_072, 32_768),
];
const MESSAGES: usize = 6;

/// Different for each kind, and the same each time.
fn made(kind: usize, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(kind as u64);
    let words = [
        "Habe",
        "nun,",
        "ach!",
        "Philosophie,",
        "Juristerei",
        "und",
        "Medizin",
        "größer",
    ];
    let mut text = String::new();
    while text.len() < length {
        let number = random.u32(..);
        let word = random.choice(words).unwrap();
        let written = match kind {
            1 => writeln!(
                text,
                "{{\"id\": {number}, \"name\": \"{word}\", \"list\": [1, 2, 3]}},"
            ),
            3 => write!(text, "{word} "),
            4 => writeln!(
                text,
                "<li class=\"item\"><a href=\"/{number}\">{word}</a></li>"
            ),
            _ => write!(text, "{word}\u{1}{number:x}"),
        };
        written.unwrap();
    }
    let mut bytes = text.into_bytes();
    if kind == 2 {
        // As in a picture, neighbours are alike and seldom the same.
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (at / 64) as u8 ^ random.u8(..8);
        }
    }
    bytes
}

/// Whole characters only, where it has to be text.
fn message(kind: usize, at: usize, length: usize) -> (u8, Vec<u8>) {
    let all = made(kind, length * 2 + 64);
    let data = &all[at * 7..at * 7 + length];
    if matches!(kind, 1 | 4) {
        (TEXT, data.iter().map(|byte| byte & 0x7f).collect())
    } else {
        (BINARY, data.to_vec())
    }
}

fn cases(section: &str, kind: usize, offer: &'static str) -> Vec<Case> {
    SIZES
        .iter()
        .enumerate()
        .map(|(at, (length, frame))| {
            // The first offer that asks the client to refer to nothing binds it.
            let mut packer = Packer::new(offer.contains("client_no_context_takeover"));
            let (mut sent, mut wanted) = (Vec::new(), Vec::new());
            for number in 0..MESSAGES {
                let (opcode, data) = message(kind, number, *length);
                sent.push(frames(opcode, &packer.pack(&data), *frame));
                wanted.push(Wanted::Message(opcode, data));
            }
            case(&format!("{section}.{}", at + 1), &sent, wanted).offering(offer)
        })
        .collect()
}

/// Section 12.
pub(super) fn kinds() -> Vec<Case> {
    (1..=5)
        .flat_map(|kind| cases(&format!("12.{kind}"), kind, "permessage-deflate"))
        .collect()
}

/// Section 13.
pub(super) fn offers() -> Vec<Case> {
    [
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=8, \
         permessage-deflate; server_no_context_takeover, permessage-deflate",
    ]
    .into_iter()
    .enumerate()
    .flat_map(|(at, offer)| cases(&format!("13.{}", at + 1), 1, offer))
    .collect()
}
