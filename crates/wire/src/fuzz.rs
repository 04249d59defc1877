//! Fuzz targets: plain functions of bytes, which `make test` runs on kept seeds and generated input and
//! `make fuzz` runs under a coverage-guided fuzzer. A panic is a finding.

use bytes::BytesMut;

use crate::{Decoder, RequestHead, ResponsePayload};

/// Decodes frames and the heads in them from arbitrary bytes, cut into two reads at every place the first byte
/// says, and checks that what was decoded encodes to the same bytes.
pub fn frames(input: &[u8]) {
    let mut buffer = BytesMut::from(input);
    while let Ok(Some(frame)) = Decoder::data().decode(&mut buffer) {
        let mut again = BytesMut::new();
        frame.encode(&mut again);
        assert_eq!(Decoder::data().decode(&mut again), Ok(Some(frame.clone())));
        if let Ok((head, _body)) = RequestHead::decode(&frame.payload) {
            let mut encoded = BytesMut::new();
            head.encode(&mut encoded).expect("what was decoded fits");
            let (decoded, rest) = RequestHead::decode(&encoded).expect("what was encoded decodes");
            assert_eq!((decoded, rest.len()), (head, 0));
        }
        if let Ok(payload) = ResponsePayload::decode(frame.header.flags, &frame.payload) {
            assert!(payload.data_offset <= frame.payload.len());
        }
    }
}
