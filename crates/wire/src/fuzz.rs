//! Fuzz targets: plain functions of bytes. A panic is a finding.
//!
//! `tests/fuzz.rs` runs them on the kept seeds and on generated input with every test run; `make fuzz` runs them
//! under a coverage-guided fuzzer. Both take the targets from [`TARGETS`].

use bytes::{BufMut, BytesMut};
use eagleray_types::control;
use prost::Message;

use crate::{
    DecodeError, Decoder, Flags, Frame, MAX_DATA_PAYLOAD, RequestHead, ResponsePayload,
    decode_routes, encode_response_head, encode_routes, encode_trailers,
};

/// Takes any bytes and returns.
pub type Target = fn(&[u8]);

/// Every target with its name, which is also the name of its seed folder.
pub const TARGETS: [(&str, Target); 3] =
    [("frames", frames), ("heads", heads), ("control", control)];

/// The first byte says where the stream is cut; the rest is the stream. The frames must not depend on the cut, and
/// must encode to what they were decoded from.
pub fn frames(input: &[u8]) {
    let Some((&cut, stream)) = input.split_first() else {
        return;
    };
    let (whole, whole_error) = decode_in_pieces(stream, stream.len().max(1));
    let (pieces, pieces_error) = decode_in_pieces(stream, usize::from(cut).max(1));
    assert_eq!(whole, pieces);
    assert_eq!(whole_error, pieces_error);
    for frame in whole {
        if let Some(routes) = decode_routes(&frame.payload) {
            assert_eq!(
                encode_routes(routes.iter().map(|one| &**one)),
                frame.payload
            );
        }
        assert!(frame.payload.len() <= MAX_DATA_PAYLOAD as usize);
        let mut again = BytesMut::new();
        frame.encode(&mut again);
        assert_eq!(Decoder::data().decode(&mut again), Ok(Some(frame)));
    }
}

fn decode_in_pieces(stream: &[u8], size: usize) -> (Vec<Frame>, Option<DecodeError>) {
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in stream.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            match Decoder::data().decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// The first byte is the flags of a RESPONSE; the rest is read as the payload of a REQUEST and of a RESPONSE.
pub fn heads(input: &[u8]) {
    let Some((&flags, payload)) = input.split_first() else {
        return;
    };
    if let Ok((head, body)) = RequestHead::decode(payload) {
        let mut again = BytesMut::new();
        head.encode(&mut again).expect("what was decoded fits");
        again.put_slice(body);
        assert_eq!(RequestHead::decode(&again), Ok((head, body)));
    }
    let flags = Flags(flags);
    if let Ok(response) = ResponsePayload::decode(flags, payload) {
        let mut again = BytesMut::new();
        let head = response.head.map_or(Ok(()), |head| {
            encode_response_head(&mut again, head.status, head.headers.iter())
        });
        let trailers = response
            .trailers
            .map_or(Ok(()), |block| encode_trailers(&mut again, block.iter()));
        // A frame may hold more than a head may be long; what fits must come back as it was.
        if head.and(trailers).is_ok() {
            assert_eq!(again, payload[..response.data_offset]);
        }
    }
}

/// The first byte chooses a control message; what decodes must encode to a fixed point.
pub fn control(input: &[u8]) {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    match choice % 10 {
        0 => message::<control::TargetUpdate>(bytes),
        1 => message::<control::NodeCommand>(bytes),
        2 => message::<control::NodeEvent>(bytes),
        3 => message::<control::ReplicaCommand>(bytes),
        4 => message::<control::ReplicaEvent>(bytes),
        5 => message::<control::ProxyCommand>(bytes),
        6 => message::<control::ProxyEvent>(bytes),
        7 => {
            message::<control::ApiRequest>(bytes);
            message::<control::NodeRequest>(bytes);
        }
        8 => message::<control::ApiResponse>(bytes),
        _ => message::<control::NodeResponse>(bytes),
    }
}

fn message<M: Message + Default>(bytes: &[u8]) {
    if let Ok(decoded) = M::decode(bytes) {
        // Compared as bytes: a field may be NaN.
        let once = decoded.encode_to_vec();
        let again = M::decode(&once[..]).expect("what was encoded decodes");
        assert_eq!(again.encode_to_vec(), once);
    }
}
