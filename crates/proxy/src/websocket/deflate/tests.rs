use proptest::prelude::*;

use super::*;
use crate::websocket::extension;

/// What client and server have agreed to after this offer.
fn agreed(offer: &'static str) -> Agreed {
    let mut headers = http::HeaderMap::new();
    headers.insert("sec-websocket-extensions", offer.parse().unwrap());
    extension::agree(&headers).unwrap()
}

fn inflater(offer: &'static str) -> Inflater {
    Inflater::new(agreed(offer))
}

/// A whole message that comes in these pieces.
fn inflate(inflater: &mut Inflater, pieces: &[&[u8]], most: usize) -> Result<Vec<u8>, Garbage> {
    let mut message = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let mut input = BytesMut::from(*piece);
        loop {
            match inflater.step(&mut input, number + 1 == pieces.len(), most)? {
                Inflated::Nothing => break,
                Inflated::Some(bytes) => {
                    assert!(bytes.len() <= most.min(STEP_BYTES));
                    message.extend(bytes);
                }
                Inflated::Last(bytes) => {
                    message.extend(bytes);
                    return Ok(message);
                }
            }
        }
        assert!(input.is_empty());
    }
    panic!("the message has no end")
}

/// A client that refers to earlier messages, unless it is reset.
fn compress(stream: &mut Compress, data: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() * 2 + 1000);
    stream.compress_vec(data, &mut out, flush).unwrap();
    out
}

fn flushed(stream: &mut Compress, data: &[u8]) -> Vec<u8> {
    let mut out = compress(stream, data, FlushCompress::Sync);
    assert!(out.ends_with(&FLUSHED));
    out.truncate(out.len() - 4);
    out
}

fn client() -> Compress {
    Compress::new(Compression::new(6), false)
}

/// Text that compresses, and noise that does not.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..60_000);
    let words = prop::collection::vec(
        prop::sample::select(vec!["one ", "two ", "three "]),
        0..9000,
    )
    .prop_map(|words| words.concat().into_bytes());
    let same = (0..200_000_usize).prop_map(|length| vec![b'*'; length]);
    prop_oneof![noise, words, same]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_a_client_compressed_comes_out_however_it_is_cut(
        messages in prop::collection::vec(data(), 1..5),
        piece in 1..20_000_usize,
        most in prop::sample::select(vec![1_usize, 100, 8192, 1 << 30]),
        resets in any::<bool>(),
    ) {
        let mut inflater = inflater(if resets {
            "permessage-deflate; client_no_context_takeover"
        } else {
            "permessage-deflate"
        });
        let mut client = client();
        for message in &messages {
            let message = &message[..message.len().min(most * 50_000)];
            let packed = flushed(&mut client, message);
            let pieces: Vec<&[u8]> = packed.chunks(piece).collect();
            prop_assert_eq!(&inflate(&mut inflater, &pieces, most).unwrap(), message);
            prop_assert!(inflater.stream.is_none() && inflater.window.capacity() <= 1 << 15);
            if resets {
                client.reset();
                prop_assert_eq!(inflater.window.capacity(), 0);
            }
        }
    }

    #[test]
    fn what_is_sent_can_be_inflated_with_the_window_that_was_asked_for(
        messages in prop::collection::vec(data(), 1..4),
        bits in 9..=15_u8,
    ) {
        let deflaters = Rc::<Deflaters>::default();
        for message in &messages {
            let mut deflater = deflaters.lend(bits).unwrap();
            let mut steps = message.chunks(STEP_BYTES).peekable();
            let mut packed = Vec::new();
            if steps.peek().is_none() {
                packed.extend(deflater.step(&[], true).unwrap());
            }
            while let Some(step) = steps.next() {
                packed.extend(deflater.step(step, steps.peek().is_none()).unwrap());
            }
            drop(deflater);
            packed.extend(FLUSHED);
            let mut window = Decompress::new_with_window_bits(false, bits);
            let mut out = Vec::with_capacity(message.len() + 1);
            window.decompress_vec(&packed, &mut out, FlushDecompress::Sync).unwrap();
            prop_assert_eq!(&out, message);
        }
        prop_assert_eq!(deflaters.lent.get(), 0);
    }

    #[test]
    fn a_message_that_is_cut_short_is_never_taken_for_a_whole_one(
        message in data(),
        cut in any::<prop::sample::Index>(),
    ) {
        let packed = flushed(&mut client(), &message);
        let cut = cut.index(packed.len());
        prop_assume!(cut > 0);
        let result = inflate(&mut inflater("permessage-deflate"), &[&packed[..cut]], 1 << 30);
        prop_assert_eq!(result, Err(Garbage));
    }

    #[test]
    fn garbage_is_refused_or_comes_to_an_end(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        piece in 1..50_usize,
    ) {
        let pieces: Vec<&[u8]> = bytes.chunks(piece).chain([&[][..]]).collect();
        // That it comes back is what is asked.
        inflate(&mut inflater("permessage-deflate"), &pieces, 1 << 20).ok();
    }
}

/// RFC 7692, section 7.2.3.
#[test]
fn the_examples_of_the_standard_are_understood() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let stored = [
        0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
    ];
    let ended = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    let mut one = inflater("permessage-deflate");
    for packed in [
        &hello[..],
        &again,
        &stored,
        &ended,
        // The end of a stream does not end what may be referred to.
        &again,
        &two_blocks,
        // An end with nothing behind it.
        &ended[..7],
    ] {
        assert_eq!(
            inflate(&mut one, &[packed], 100).unwrap(),
            b"Hello",
            "{packed:x?}"
        );
    }
    assert_eq!(
        inflate(&mut one, &[&hello[..3], &hello[3..]], 100).unwrap(),
        b"Hello"
    );
    assert_eq!(inflate(&mut one, &[&[0]], 100).unwrap(), b"");
    assert_eq!(inflate(&mut one, &[&[]], 100).unwrap(), b"");
    assert_eq!(inflate(&mut one, &[&again], 100).unwrap(), b"Hello");
    assert_eq!(flushed(&mut client(), b"Hello"), hello);
}

#[test]
fn what_refers_to_what_is_not_kept_is_refused() {
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut resets = inflater("permessage-deflate; client_no_context_takeover");
    assert_eq!(inflate(&mut resets, &[&hello], 100).unwrap(), b"Hello");
    assert!(inflate(&mut resets, &[&again], 100).is_err());
}

#[test]
fn streams_that_end_one_after_the_other_give_a_turn_each() {
    let mut one = inflater("permessage-deflate");
    // Empty blocks, each the last of its stream.
    let mut input = BytesMut::from(&[3, 0].repeat(1000)[..]);
    for step in 0..999 {
        let before = input.len();
        let came = one.step(&mut input, false, 100).unwrap();
        assert!(
            matches!(came, Inflated::Some(bytes) if bytes.is_empty()),
            "{step}"
        );
        assert_eq!(input.len(), before - 2);
    }
}

#[test]
fn when_all_compressors_are_lent_there_is_none_until_one_comes_back() {
    let deflaters = Rc::<Deflaters>::default();
    let mut lent: Vec<_> = (0..Deflaters::MOST)
        .map(|_| deflaters.lend(LARGEST_WINDOW).unwrap())
        .collect();
    assert!(deflaters.lend(LARGEST_WINDOW).is_none());
    lent.pop();
    assert!(deflaters.lend(9).is_some());
    drop(lent);
    assert_eq!(deflaters.idle.borrow().len(), Deflaters::MOST_IDLE);
    // One that comes back in the middle of a message knows nothing of it.
    let mut used = deflaters.lend(LARGEST_WINDOW).unwrap();
    used.step(b"a secret", false).unwrap();
    drop(used);
    let mut next = deflaters.lend(LARGEST_WINDOW).unwrap();
    assert!(next.is_unused());
    let fresh = flushed(
        &mut Compress::new(Compression::new(LEVEL), false),
        b"a secret",
    );
    assert_eq!(next.step(b"a secret", true).unwrap(), fresh);
}
