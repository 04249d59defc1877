use super::*;
use crate::service::pieces::PIECE_BYTES;

fn body(chunks: &[&'static [u8]], keep_bytes: usize) -> Body {
    let mut outgoing = Outgoing::whole(Bytes::from_static(b"head"), Bytes::new());
    outgoing.complete = false;
    outgoing.keep_bytes = keep_bytes;
    let mut body = Body::new(outgoing);
    for chunk in chunks {
        body.push(Bytes::from_static(chunk));
    }
    body
}

fn sent(out: &mut BytesMut) -> Vec<(Flags, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some(frame) = eagleray_wire::Decoder::data().decode(out).unwrap() {
        frames.push((frame.header.flags, frame.payload.to_vec()));
    }
    frames
}

#[test]
fn a_request_that_moves_starts_its_body_over() {
    let mut body = body(&[b"abc", b"def"], 100);
    body.end();
    let mut out = BytesMut::new();
    for _ in 0..2 {
        assert!(body.write_request(Header::new(Kind::Request, 0, 1), &mut out));
        assert!(!body.has_frame());
        assert_eq!(sent(&mut out), [(Flags::END, b"headabcdef".to_vec())]);
    }
}

#[test]
fn a_body_waits_for_credit_and_ends_with_its_last_byte() {
    let chunk: &'static [u8] = vec![7; 40 * 1024].leak();
    let mut body = body(&[chunk, chunk, chunk], 1024 * 1024);
    let mut out = BytesMut::new();
    assert!(body.write_request(Header::new(Kind::Request, 0, 1), &mut out));
    assert!(!body.has_frame());
    body.end();
    assert!(!body.has_frame());
    body.credit(60 * 1024);
    while body.has_frame() {
        body.write_body(0, 1, &mut out);
    }
    let frames = sent(&mut out);
    let lengths: Vec<usize> = frames.iter().map(|(_, data)| data.len()).collect();
    assert_eq!(lengths, [4 + 64 * 1024, 56 * 1024]);
    assert_eq!(frames.last().unwrap().0, Flags::END);
}

#[test]
fn what_is_not_kept_cannot_be_sent_again() {
    let mut body = body(&[b"abc"], 4);
    let mut out = BytesMut::new();
    assert!(body.write_request(Header::new(Kind::Request, 0, 1), &mut out));
    assert!(body.push(Bytes::from_static(b"de")));
    assert!(!body.push(Bytes::from_static(b"f")));
    body.write_body(0, 1, &mut out);
    body.end();
    body.write_body(0, 1, &mut out);
    assert_eq!(
        sent(&mut out),
        [
            (Flags::NONE, b"headabc".to_vec()),
            (Flags::NONE, b"def".to_vec()),
            (Flags::END, Vec::new())
        ]
    );
    assert!(!body.write_request(Header::new(Kind::Request, 0, 2), &mut out));
}

#[test]
fn short_pieces_that_wait_cost_their_bytes() {
    let mut body = body(&[], 0);
    for _ in 0..20_000 {
        body.push(Bytes::from_static(b"cd"));
    }
    let pieces = 2 + 40_000 / PIECE_BYTES;
    assert!(body.rest.len() <= pieces, "{}", body.rest.len());
    body.credit(100_000);
    let mut out = BytesMut::new();
    while body.has_frame() {
        body.write_body(0, 1, &mut out);
    }
    let all: Vec<u8> = sent(&mut out)
        .into_iter()
        .flat_map(|(_, data)| data)
        .collect();
    assert_eq!(all, b"cd".repeat(20_000));
}
