use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::{
    Attachments, CallHead, HeadError, Headers, HttpHead, MAX_HEAD_BYTES, RequestHead,
    ResponsePayload, encode_response_head, encode_trailers,
};
use crate::Flags;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn fields() -> impl Strategy<Value = Fields> {
    prop::collection::vec((text(), text()), 0..12)
}

fn borrow(fields: &Fields) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (&name[..], &value[..]))
}

fn http<'a>(
    texts: &'a [Vec<u8>],
    small: [u8; 2],
    ports: [u16; 2],
    headers: Headers<'a>,
) -> RequestHead<'a> {
    RequestHead::Http(HttpHead {
        websocket: small[0] % 2 == 1,
        request_id: &texts[0],
        traceparent: &texts[2],
        version: small[1],
        priority: small[0],
        tls: small[1] % 2 == 1,
        method: &texts[3],
        path: &texts[4],
        query: &texts[5],
        root_path: &texts[6],
        client: (&texts[7], ports[0]),
        server: (&texts[8], ports[1]),
        headers,
    })
}

fn call(texts: &[Vec<u8>], priority: u8) -> RequestHead<'_> {
    RequestHead::Call(CallHead {
        request_id: &texts[0],
        traceparent: &texts[2],
        priority,
        method: &texts[3],
        multiplexed_model_id: &texts[4],
        session_id: &texts[5],
        stream: priority > 9,
        route: &texts[6],
        // Entries of sixteen bytes.
        attachments: Attachments::split((texts[7].len() / 16).min(64), &texts[7])
            .expect("there are so many")
            .0,
    })
}

fn is_truncated(payload: &[u8]) -> bool {
    matches!(
        RequestHead::decode(payload),
        Err(HeadError::Truncated { .. })
    )
}

proptest! {
    #[test]
    fn request_heads_survive_the_round_trip_and_leave_the_body(
        texts in prop::collection::vec(text(), 9),
        small in any::<[u8; 2]>(),
        ports in any::<[u16; 2]>(),
        fields in fields(),
        body in text(),
    ) {
        let mut block = BytesMut::new();
        let headers = Headers::build(&mut block, borrow(&fields)).unwrap();
        prop_assert_eq!(headers.len(), fields.len());
        for head in [http(&texts, small, ports, headers), call(&texts, small[0])] {
            let mut payload = BytesMut::new();
            head.encode(&mut payload).unwrap();
            let head_bytes = payload.len();
            payload.put_slice(&body);
            let (decoded, rest) = RequestHead::decode(&payload).unwrap();
            prop_assert_eq!((decoded, rest), (head, &body[..]));
            if let RequestHead::Http(http) = decoded {
                prop_assert!(http.headers.iter().eq(borrow(&fields)));
            }
            for cut in 0..head_bytes {
                prop_assert!(is_truncated(&payload[..cut]));
            }
        }
    }

    #[test]
    fn a_head_of_an_older_release_names_a_revision_and_says_the_same(
        texts in prop::collection::vec(text(), 9),
        revision in text(),
        body in text(),
    ) {
        let mut block = BytesMut::new();
        let headers = Headers::build(&mut block, []).unwrap();
        for head in [http(&texts, [0, 11], [1, 2], headers), call(&texts, 0)] {
            let mut payload = BytesMut::new();
            head.encode(&mut payload).unwrap();
            // After the length, kind, priority and request id.
            let at = 4 + 2 + 2 + texts[0].len();
            let mut older = BytesMut::new();
            older.put_u32_le((payload.len() - 4 + revision.len()) as u32);
            older.put_slice(&payload[4..at]);
            older.put_u16_le(revision.len() as u16);
            older.put_slice(&revision);
            older.put_slice(&payload[at + 2..]);
            older.put_slice(&body);
            prop_assert_eq!(RequestHead::decode(&older).unwrap(), (head, &body[..]));
        }
    }

    #[test]
    fn a_head_whose_length_is_cut_inside_is_truncated_not_misread(
        texts in prop::collection::vec(text(), 9),
        body in prop::collection::vec(any::<u8>(), 300),
    ) {
        let mut payload = BytesMut::new();
        call(&texts, 0).encode(&mut payload).unwrap();
        let length = payload.len() as u32 - 4;
        payload.put_slice(&body);
        for short in 0..length {
            payload[..4].copy_from_slice(&short.to_le_bytes());
            prop_assert!(is_truncated(&payload));
        }
    }

    #[test]
    fn response_payloads_survive_the_round_trip(
        status in any::<u16>(),
        headers in fields(),
        trailers in fields(),
        data in text(),
        with_head in any::<bool>(),
        with_trailers in any::<bool>(),
    ) {
        let mut payload = BytesMut::new();
        let mut flags = Flags::NONE;
        if with_head {
            encode_response_head(&mut payload, status, borrow(&headers)).unwrap();
            flags = flags.with(Flags::HEAD);
        }
        if with_trailers {
            encode_trailers(&mut payload, borrow(&trailers)).unwrap();
            flags = flags.with(Flags::TRAILERS);
        }
        let before_data = payload.len();
        payload.put_slice(&data);
        let payload = payload.freeze();
        let decoded = ResponsePayload::decode(flags, &payload).unwrap();
        prop_assert_eq!(decoded.head.is_some(), with_head);
        if let Some(head) = decoded.head {
            prop_assert_eq!(head.status, status);
            prop_assert!(head.headers.iter().eq(borrow(&headers)));
        }
        prop_assert_eq!(decoded.trailers.is_some(), with_trailers);
        if let Some(block) = decoded.trailers {
            prop_assert!(block.iter().eq(borrow(&trailers)));
        }
        prop_assert_eq!(decoded.data(&payload), Bytes::from(data));
        for cut in 0..before_data {
            prop_assert!(ResponsePayload::decode(flags, &payload[..cut]).is_err());
        }
    }

    #[test]
    fn junk_never_panics(junk in prop::collection::vec(any::<u8>(), 0..300), flags in any::<u8>()) {
        if let Ok((_, rest)) = RequestHead::decode(&junk) {
            prop_assert!(rest.len() < junk.len());
        }
        if let Ok(payload) = ResponsePayload::decode(Flags(flags), &junk) {
            prop_assert!(payload.data_offset <= junk.len());
        }
    }
}

#[test]
fn fields_of_a_later_version_at_the_end_of_a_head_are_ignored() {
    let texts = vec![b"x".to_vec(); 9];
    let mut payload = BytesMut::new();
    call(&texts, 0).encode(&mut payload).unwrap();
    let length = payload.len() as u32 - 4 + 3;
    payload[..4].copy_from_slice(&length.to_le_bytes());
    payload.put_slice(b"newbody");
    assert_eq!(
        RequestHead::decode(&payload),
        Ok((call(&texts, 0), &b"body"[..]))
    );
}

#[test]
fn unknown_request_kinds_are_refused() {
    let texts = vec![Vec::new(); 9];
    let mut payload = BytesMut::new();
    call(&texts, 0).encode(&mut payload).unwrap();
    for kind in [2, 4, 255] {
        payload[4] = kind;
        assert_eq!(
            RequestHead::decode(&payload),
            Err(HeadError::UnknownKind(kind))
        );
    }
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_buffer_as_it_was() {
    let long = vec![b'a'; 65_536];
    let mut texts = vec![Vec::new(); 9];
    let mut out = BytesMut::from("before");
    texts[3] = long.clone();
    assert!(matches!(
        call(&texts, 0).encode(&mut out),
        Err(HeadError::TooLong {
            field: "method",
            ..
        })
    ));

    let wide = vec![vec![b'a'; 65_535]; 9];
    assert!(matches!(
        call(&wide, 0).encode(&mut out),
        Err(HeadError::TooLong { field: "head", .. })
    ));

    let value = vec![b'v'; MAX_HEAD_BYTES];
    for fields in [
        vec![(long, Vec::new())],
        vec![(b"name".to_vec(), value)],
        vec![(b"n".to_vec(), vec![b'v'; 1000]); 300],
        vec![(Vec::new(), Vec::new()); 65_536],
    ] {
        assert!(matches!(
            encode_response_head(&mut out, 200, borrow(&fields)),
            Err(HeadError::TooLong { .. })
        ));
        assert!(matches!(
            encode_trailers(&mut out, borrow(&fields)),
            Err(HeadError::TooLong { .. })
        ));
        assert!(Headers::build(&mut BytesMut::new(), borrow(&fields)).is_err());
    }
    assert_eq!(out, "before");
}

#[test]
fn a_head_that_says_it_is_longer_than_the_limit_is_refused() {
    let payload = ((MAX_HEAD_BYTES + 1) as u32).to_le_bytes();
    assert!(matches!(
        RequestHead::decode(&payload),
        Err(HeadError::TooLong { field: "head", .. })
    ));
}

#[test]
fn what_both_kinds_of_head_say_is_asked_of_either() {
    let mut block = BytesMut::new();
    let fields: [(&[u8], &[u8]); 3] = [
        (b"x-session-id", b"s"),
        (b"serve_multiplexed_model_id", b"m"),
        (b"x-session-id", b"second"),
    ];
    let headers = Headers::build(&mut block, fields).expect("they fit");
    let texts: Vec<_> = [
        "id", "r", "t", "GET", "/a/b", "q", "/a", "client", "server", "",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    let of_http = http(&texts, [0, 11], [1, 2], headers);
    assert_eq!(
        (of_http.request_id(), of_http.route()),
        (&b"id"[..], &b"/a"[..])
    );
    assert_eq!(
        (of_http.multiplexed_model_id(), of_http.session_id()),
        (&b"m"[..], &b"s"[..])
    );
    let mut at_root = texts.clone();
    at_root[6].clear();
    assert_eq!(
        http(&at_root, [0, 11], [1, 2], headers).route(),
        b"/",
        "the prefix of an application at the root is no text on the wire"
    );
    // As `call` places them: model, session, route.
    let of_call = call(&texts, 0);
    assert_eq!(
        (of_call.multiplexed_model_id(), of_call.session_id()),
        (&b"/a/b"[..], &b"q"[..])
    );
    assert_eq!(
        (of_call.request_id(), of_call.route()),
        (&b"id"[..], &b"/a"[..])
    );
    let mut inside = texts;
    inside[6].clear();
    assert_eq!(
        call(&inside, 0).route(),
        b"",
        "nothing of it came over HTTP"
    );
}

#[test]
fn subprotocols_are_offered_in_one_field_or_several() {
    let mut block = BytesMut::new();
    let fields: [(&[u8], &[u8]); 3] = [
        (b"sec-websocket-protocol", b"chat, superchat"),
        (b"host", b"here,there"),
        (b"sec-websocket-protocol", b" last\t"),
    ];
    let headers = Headers::build(&mut block, fields).expect("they fit");
    let texts = vec![Vec::new(); 9];
    let RequestHead::Http(head) = http(&texts, [1, 11], [1, 2], headers) else {
        unreachable!("it was made as one of HTTP");
    };
    let offered: Vec<_> = head.subprotocols().collect();
    assert_eq!(offered, [&b"chat"[..], b"superchat", b"last"]);
}

#[test]
fn a_trace_is_read_from_what_is_a_traceparent_and_from_nothing_else() {
    let trace = |traceparent: &str| {
        let mut texts = vec![Vec::new(); 8];
        texts[2] = traceparent.as_bytes().to_vec();
        String::from_utf8(call(&texts, 0).trace_id().to_vec()).unwrap()
    };
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    assert_eq!(trace(&format!("00-{id}-00f067aa0ba902b7-01")), id);
    for wrong in [
        String::new(),
        format!("00-{id}"),
        format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
        format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
        format!("00_{id}-00f067aa0ba902b7-01"),
        format!("00-{}\n-00f067aa0ba902b7-01", &id[1..]),
    ] {
        assert_eq!(trace(&wrong), "", "{wrong:?}");
    }
}
