use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::{
    DecodeError, Decoder, FIRST_SKIPPABLE_KIND, Flags, Frame, HEADER_BYTES, Header, Kind,
    MAX_CONTROL_PAYLOAD, MAX_DATA_PAYLOAD,
};

fn frame() -> impl Strategy<Value = Frame> {
    let kind = (0..=255_u8).prop_filter_map("a kind", Kind::from_byte);
    let numbers = (any::<u64>(), any::<u32>(), any::<[u32; 3]>());
    let payload = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..64),
        1 => prop::collection::vec(any::<u8>(), 0..4096),
    ];
    (kind, any::<u8>(), numbers, payload).prop_map(
        |(kind, flags, (sequence, slot, [a, b, c]), payload)| {
            let header = Header {
                length: 0,
                kind,
                flags: Flags(flags),
                sequence,
                slot,
                a,
                b,
                c,
            };
            Frame::new(header, payload.into())
        },
    )
}

fn encode(frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out
}

fn decode_all(decoder: Decoder, buffer: &mut BytesMut) -> Result<Vec<Frame>, DecodeError> {
    std::iter::from_fn(|| decoder.decode(buffer).transpose()).collect()
}

proptest! {
    #[test]
    fn frames_survive_the_round_trip(frames in prop::collection::vec(frame(), 0..8)) {
        let mut buffer = encode(&frames);
        prop_assert_eq!(decode_all(Decoder::data(), &mut buffer), Ok(frames));
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn any_cut_of_the_stream_gives_the_same_frames(
        frames in prop::collection::vec(frame(), 1..6),
        cuts in prop::collection::vec(1_usize..200, 1..20),
    ) {
        let stream = encode(&frames).freeze();
        let mut rest = stream;
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            buffer.extend_from_slice(&rest.split_to((*cut).min(rest.len())));
            seen.extend(decode_all(Decoder::data(), &mut buffer).unwrap());
        }
        prop_assert_eq!(seen, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn junk_never_panics_and_never_gives_more_than_it_holds(junk in prop::collection::vec(any::<u8>(), 0..512)) {
        for decoder in [Decoder::data(), Decoder::control()] {
            let mut buffer = BytesMut::from(&junk[..]);
            if let Ok(frames) = decode_all(decoder, &mut buffer) {
                let bytes: usize = frames.iter().map(|frame| HEADER_BYTES + frame.payload.len()).sum();
                prop_assert!(bytes + buffer.len() <= junk.len());
            }
        }
    }

    #[test]
    fn an_unknown_skippable_kind_is_skipped_with_its_payload(
        kind in (FIRST_SKIPPABLE_KIND..).prop_filter("unknown", |kind| Kind::from_byte(*kind).is_none()),
        critical in any::<u8>(),
        payload in prop::collection::vec(any::<u8>(), 0..100),
        after in frame(),
    ) {
        let mut buffer = encode(&[Frame::new(Header::new(Kind::Hello, 1, 2), payload.into())]);
        buffer[4] = kind;
        buffer[7] = critical;
        after.encode(&mut buffer);
        prop_assert_eq!(decode_all(Decoder::data(), &mut buffer), Ok(vec![after]));
    }

    #[test]
    fn later_bits_are_ignorable_or_fatal(frame in frame(), ignorable in any::<u8>(), critical in 1_u8..) {
        let mut buffer = encode(std::slice::from_ref(&frame));
        buffer[6] = ignorable;
        prop_assert_eq!(Decoder::data().decode(&mut buffer.clone()), Ok(Some(frame)));
        buffer[7] = critical;
        prop_assert_eq!(Decoder::data().decode(&mut buffer), Err(DecodeError::UnknownFlags { bits: critical }));
    }
}

#[test]
fn an_unknown_kind_below_128_ends_the_connection() {
    for kind in (0..FIRST_SKIPPABLE_KIND).filter(|kind| Kind::from_byte(*kind).is_none()) {
        let mut buffer = encode(&[Frame::control(1, Bytes::new())]);
        buffer[4] = kind;
        assert_eq!(
            Decoder::data().decode(&mut buffer),
            Err(DecodeError::UnknownKind { kind })
        );
    }
}

#[test]
fn a_length_is_refused_by_its_header_alone_and_before_any_allocation() {
    for (decoder, limit) in [
        (Decoder::data(), MAX_DATA_PAYLOAD),
        (Decoder::control(), MAX_CONTROL_PAYLOAD),
    ] {
        for length in [limit + 1, u32::MAX] {
            let mut buffer = BytesMut::with_capacity(HEADER_BYTES);
            Header {
                length,
                ..Header::new(Kind::Body, 0, 0)
            }
            .encode(&mut buffer);
            assert_eq!(
                decoder.decode(&mut buffer),
                Err(DecodeError::TooLong { length, limit })
            );
        }
        let mut buffer = BytesMut::with_capacity(HEADER_BYTES);
        let capacity = buffer.capacity();
        Header {
            length: limit,
            ..Header::new(Kind::Body, 0, 0)
        }
        .encode(&mut buffer);
        assert_eq!(
            decoder.decode(&mut buffer),
            Ok(None),
            "the limit itself is fine"
        );
        assert_eq!(
            buffer.capacity(),
            capacity,
            "nothing is allocated on a peer's word"
        );
    }
}

#[test]
fn a_skippable_kind_does_not_escape_the_limit() {
    let mut buffer = BytesMut::new();
    Header {
        length: u32::MAX,
        ..Header::new(Kind::Body, 0, 0)
    }
    .encode(&mut buffer);
    buffer[4] = 200;
    assert!(matches!(
        Decoder::data().decode(&mut buffer),
        Err(DecodeError::TooLong { .. })
    ));
}

#[test]
fn payloads_share_the_memory_that_was_read() {
    let mut buffer = encode(&[Frame::control(1, vec![7; 1000])]);
    let address = buffer[HEADER_BYTES..].as_ptr();
    let frame = Decoder::control().decode(&mut buffer).unwrap().unwrap();
    assert_eq!(frame.payload.as_ptr(), address);
}

#[test]
fn the_header_has_the_layout_of_the_specification() {
    let header = Header {
        length: 3,
        kind: Kind::Response,
        flags: Flags::HEAD.with(Flags::END).with(Flags::DONE),
        sequence: 0x0102_0304_0506_0708,
        slot: 9,
        a: 10,
        b: 11,
        c: 12,
    };
    let mut out = BytesMut::new();
    header.encode(&mut out);
    let mut expected = BytesMut::new();
    expected.put_slice(&[3, 0, 0, 0, 4, 0b111, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    expected.put_slice(&[9, 0, 0, 0, 10, 0, 0, 0, 11, 0, 0, 0, 12, 0, 0, 0]);
    assert_eq!(out, expected);
}

/// Rows of the table below `heading`, each a list of its cells.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let text = include_str!("../../../../docs/protocol.md");
    let section = text
        .split_once(&format!("\n## {heading}\n"))
        .expect("the section exists")
        .1;
    section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn the_specification_names_every_kind_with_its_number() {
    let known: Vec<_> = (0..=255_u8)
        .filter_map(|byte| Kind::from_byte(byte).map(|kind| (byte, kind)))
        .inspect(|(byte, kind)| assert_eq!(*byte, *kind as u8))
        .map(|(byte, kind)| (byte.to_string(), format!("{kind:?}").to_uppercase()))
        .collect();
    let specified: Vec<_> = table("Kinds")
        .iter()
        .map(|row| (row[0].to_owned(), row[1].to_owned()))
        .collect();
    assert_eq!(known, specified);
}

#[test]
fn the_specification_names_every_flag_with_its_bit() {
    let flags = [
        ("END", Flags::END),
        ("HEAD", Flags::HEAD),
        ("DONE", Flags::DONE),
        ("GRANT", Flags::GRANT),
        ("TRAILERS", Flags::TRAILERS),
        ("ERROR", Flags::ERROR),
        ("END_OF_MESSAGE", Flags::END_OF_MESSAGE),
        ("TEXT", Flags::TEXT),
    ];
    let known: Vec<_> = flags
        .iter()
        .map(|(name, flag)| (flag.0.to_string(), *name))
        .collect();
    let specified: Vec<_> = table("Flags")
        .iter()
        .map(|row| (row[0].to_owned(), row[1]))
        .collect();
    assert_eq!(known, specified);
}
