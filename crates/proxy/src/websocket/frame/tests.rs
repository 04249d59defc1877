use bytes::BytesMut;
use proptest::prelude::*;

use super::{
    code::may_be_sent,
    encode::put,
    header::{BINARY, CLOSE, CONTINUATION, FINAL, MASKED, PING, TEXT},
    *,
};

/// A frame as a client sends it.
fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    put(&mut frame, first, payload);
    let header = frame.len() - payload.len();
    frame[1] |= MASKED;
    let mut frame = frame.to_vec();
    frame.splice(header..header, mask);
    for (at, byte) in frame[header + 4..].iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    frame
}

fn decode_all(decoder: &mut Decoder, pieces: &[&[u8]]) -> Result<Vec<Event>, Broken> {
    let mut buffer = BytesMut::new();
    let mut events = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(event) = decoder.decode(&mut buffer)? {
            events.push(event);
        }
    }
    Ok(events)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Whole {
    is_text: bool,
    data: Vec<u8>,
}

/// Messages put together from the pieces in which they came.
fn gather(events: Vec<Event>) -> Vec<Whole> {
    let mut messages = Vec::new();
    let mut data = Vec::new();
    for event in events {
        if let Event::Data {
            bytes,
            is_text,
            is_complete,
        } = event
        {
            data.extend_from_slice(&bytes);
            if is_complete {
                let data = std::mem::take(&mut data);
                messages.push(Whole { is_text, data });
            }
        }
    }
    assert!(data.is_empty());
    messages
}

fn message() -> impl Strategy<Value = Whole> {
    let text = "\\PC{0,200}".prop_map(|text| Whole {
        is_text: true,
        data: text.into_bytes(),
    });
    let binary = prop::collection::vec(any::<u8>(), 0..70_000).prop_map(|data| Whole {
        is_text: false,
        data,
    });
    prop_oneof![4 => text, 1 => binary]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_are_what_was_sent_however_they_are_cut_and_whatever_comes_between(
        messages in prop::collection::vec(message(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        masks in prop::collection::vec(any::<[u8; 4]>(), 1..5),
        read in 1..5_000_usize,
    ) {
        let mut masks = masks.iter().cycle();
        let mut bytes = Vec::new();
        for message in &messages {
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(message.data.len() + 1)).collect();
            ends.sort_unstable();
            ends.push(message.data.len());
            let mut at = 0;
            for (number, end) in ends.iter().enumerate() {
                let opcode = match (number, message.is_text) {
                    (0, true) => TEXT,
                    (0, false) => BINARY,
                    _ => CONTINUATION,
                };
                let last = number + 1 == ends.len();
                let first = if last { opcode | FINAL } else { opcode };
                bytes.extend(masked(first, &message.data[at..*end], *masks.next().unwrap()));
                if !last {
                    bytes.extend(masked(PING | FINAL, b"between", *masks.next().unwrap()));
                }
                at = *end;
            }
        }
        let pieces: Vec<&[u8]> = bytes.chunks(read).collect();
        let events = decode_all(&mut Decoder::new(70_000, None), &pieces).unwrap();
        prop_assert_eq!(gather(events), messages);
    }

    #[test]
    fn no_bytes_make_it_panic_or_hand_on_more_than_a_message_may_have(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        read in 1..50_usize,
    ) {
        let pieces: Vec<&[u8]> = bytes.chunks(read).collect();
        let mut decoder = Decoder::new(100, None);
        let mut buffer = BytesMut::new();
        let mut length = 0;
        'all: for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(Some(Event::Data { bytes, is_complete, .. })) => {
                        length += bytes.len();
                        prop_assert!(length <= 100);
                        if is_complete {
                            length = 0;
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(broken) => {
                        prop_assert!(may_be_sent(broken.code));
                        break 'all;
                    }
                }
            }
        }
    }
}

#[test]
fn a_length_is_refused_before_its_bytes_come() {
    let mut decoder = Decoder::new(1000, None);
    let header = [BINARY | FINAL, MASKED | 0x7e, 0x03, 0xe9, 0, 0, 0, 0];
    let broken = decode_all(&mut decoder, &[&header]).unwrap_err();
    assert_eq!(broken.code, code::TOO_LONG);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let mut out = BytesMut::new();
    put_close(&mut out, Some((1000, "€".repeat(60).as_bytes())));
    assert_eq!(usize::from(out[1]), 2 + 41 * 3);
    std::str::from_utf8(&out[4..]).unwrap();
}

#[test]
fn codes_that_say_that_there_was_none_are_not_sent() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        let mut out = BytesMut::new();
        put_close(&mut out, Some((code, b"x")));
        assert_eq!(&out[..], [CLOSE | FINAL, 0], "{code}");
    }
}
