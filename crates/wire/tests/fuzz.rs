//! The fuzz targets on stable: the kept seeds, then generated input, as `fuzz/stable.rs` says.
//!
//! Input is generated with the structure in mind: valid frames, heads and messages are built, then mutated, so
//! that most of it gets past the first check. Of each shape one seed is kept, in `fuzz/seeds`.

#[path = "../../../fuzz/stable.rs"]
mod stable;

use bytes::{Bytes, BytesMut};
use eagleray_types::{DeploymentKey, control};
use eagleray_wire::{
    Attachments, CallHead, Flags, Frame, Header, Headers, HttpHead, Kind, NO_DEADLINE, RequestHead,
    encode_response_head, encode_trailers, fuzz::TARGETS,
};
use fastrand::Rng;
use prost::Message;

/// Longest generated input: several times the longest that a generator builds.
const MAX_INPUT: usize = 16 * 1024;

#[test]
fn kept_seeds_pass() {
    stable::pass_seeds(&TARGETS, write_seeds);
}

#[test]
fn generated_input_passes() {
    stable::drive(&TARGETS, u64::MAX, generate, mutate);
}

fn generate(target: &str, rng: &mut Rng) -> Vec<u8> {
    match target {
        "frames" => generate_frames(rng),
        "heads" => generate_head(rng),
        _ => generate_message(rng),
    }
}

fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(0..=input.len());
    match rng.u8(0..6) {
        0 => input.truncate(at),
        1 => input.insert(at, rng.u8(..)),
        2 if at < input.len() => input[at] ^= 1 << rng.u8(0..8),
        3 if at < input.len() => input[at] = *rng.choice(&[0, 1, 127, 128, 255]).unwrap_or(&0),
        4 => {
            let tail = input[at..].to_vec();
            input.extend(tail.iter().take(MAX_INPUT - input.len().min(MAX_INPUT)));
        }
        _ if at + 4 <= input.len() => {
            // Where lengths are: at their edges.
            let edge = *rng
                .choice(&[0_u32, 1, 255, 65_535, 65_536, 1 << 20, u32::MAX])
                .unwrap_or(&0);
            input[at..at + 4].copy_from_slice(&edge.to_le_bytes());
        }
        _ => {}
    }
}

fn text(rng: &mut Rng) -> Vec<u8> {
    let length = if rng.u8(..) == 0 {
        rng.usize(0..2000)
    } else {
        rng.usize(0..20)
    };
    (0..length).map(|_| rng.u8(..)).collect()
}

fn fields(rng: &mut Rng) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..rng.usize(0..6))
        .map(|_| (text(rng), text(rng)))
        .collect()
}

fn borrow(fields: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (&name[..], &value[..]))
}

fn generate_frames(rng: &mut Rng) -> Vec<u8> {
    const KINDS: [Kind; 17] = [
        Kind::Hello,
        Kind::Request,
        Kind::Body,
        Kind::Response,
        Kind::Credit,
        Kind::Cancel,
        Kind::Wait,
        Kind::Unwait,
        Kind::Grant,
        Kind::Return,
        Kind::Reject,
        Kind::Gone,
        Kind::Hung,
        Kind::Models,
        Kind::Routes,
        Kind::Control,
        Kind::Release,
    ];
    let mut out = BytesMut::from(&[rng.u8(..)][..]);
    for _ in 0..rng.usize(0..5) {
        let kind = KINDS[rng.usize(..KINDS.len())];
        let mut header = Header::new(kind, rng.u32(..), rng.u64(..));
        header.flags = Flags(rng.u8(..));
        (header.a, header.b, header.c) = (rng.u32(..), rng.u32(..), rng.u32(..));
        let payload = if rng.bool() {
            generate_head(rng)
        } else {
            text(rng)
        };
        Frame::new(header, payload.into()).encode(&mut out);
    }
    out.to_vec()
}

fn generate_head(rng: &mut Rng) -> Vec<u8> {
    let flags = Flags(rng.u8(..));
    let mut out = BytesMut::from(&[flags.0][..]);
    let texts: Vec<_> = (0..9).map(|_| text(rng)).collect();
    let fields = fields(rng);
    let mut block = BytesMut::new();
    match rng.u8(0..3) {
        0 => {
            let headers = Headers::build(&mut block, borrow(&fields)).expect("short");
            http_head(&texts, headers).encode(&mut out).expect("short");
        }
        1 => call_head(&texts).encode(&mut out).expect("short"),
        _ => {
            if flags.contains(Flags::HEAD) {
                encode_response_head(&mut out, rng.u16(..), borrow(&fields)).expect("short");
            }
            if flags.contains(Flags::TRAILERS) {
                encode_trailers(&mut out, borrow(&fields)).expect("short");
            }
        }
    }
    out.extend_from_slice(&text(rng));
    out.to_vec()
}

fn http_head<'a>(texts: &'a [Vec<u8>], headers: Headers<'a>) -> RequestHead<'a> {
    RequestHead::Http(HttpHead {
        websocket: texts[0].len() % 2 == 1,
        request_id: &texts[0],
        traceparent: &texts[2],
        version: 11,
        priority: 0,
        tls: false,
        method: &texts[3],
        path: &texts[4],
        query: &texts[5],
        root_path: &texts[6],
        client: (&texts[7], 4242),
        server: (&texts[8], 8000),
        headers,
    })
}

fn call_head(texts: &[Vec<u8>]) -> RequestHead<'_> {
    RequestHead::Call(CallHead {
        request_id: &texts[0],
        traceparent: &texts[2],
        priority: 0,
        method: &texts[3],
        multiplexed_model_id: &texts[4],
        session_id: &texts[5],
        stream: texts[6].len() % 2 == 1,
        route: &texts[7],
        attachments: Attachments::split((texts[6].len() / 16).min(64), &texts[6])
            .expect("there are so many")
            .0,
    })
}

fn generate_message(rng: &mut Rng) -> Vec<u8> {
    let key = DeploymentKey::new(word(rng), word(rng));
    let (choice, bytes) = match rng.u8(0..5) {
        0 => (0, target_update(key, rng).encode_to_vec()),
        1 => {
            let spawn = control::Spawn {
                replica_id: word(rng),
                deployment: key,
                ..Default::default()
            };
            let body = Some(control::node_command::Body::Spawn(spawn));
            let node = word(rng);
            (1, control::NodeCommand { body, node }.encode_to_vec())
        }
        2 => {
            let exited = control::Exited {
                replica_id: word(rng),
                reason: word(rng),
                ..Default::default()
            };
            let body = Some(control::node_event::Body::Exited(exited));
            let node = word(rng);
            (2, control::NodeEvent { body, node }.encode_to_vec())
        }
        3 => {
            let options = control::DeploymentOptions {
                health_check_period_s: f64::from_bits(rng.u64(..)),
                resources: [(word(rng), rng.f64())].into(),
                ..Default::default()
            };
            let deployment = control::DeploymentSpec {
                name: word(rng),
                options,
                ..Default::default()
            };
            let spec = control::ApplicationSpec {
                name: word(rng),
                deployments: vec![deployment],
                environment: [(word(rng), word(rng))].into(),
                ..Default::default()
            };
            let body = Some(control::api_request::Body::Deploy(spec));
            (7, control::ApiRequest { body }.encode_to_vec())
        }
        _ => {
            // One message's bytes read as another's.
            (rng.u8(0..10), target_update(key, rng).encode_to_vec())
        }
    };
    let mut out = vec![choice];
    out.extend(bytes);
    out
}

fn target_update(key: DeploymentKey, rng: &mut Rng) -> control::TargetUpdate {
    let replica = control::ReplicaTarget {
        replica_id: word(rng),
        socket_path: word(rng),
        epoch: rng.u64(..),
    };
    let version = control::VersionTarget {
        version: word(rng),
        replicas: vec![replica; rng.usize(0..3)],
        ..Default::default()
    };
    let target = control::DeploymentTarget {
        key: key.clone(),
        max_queued_requests: rng.i64(..),
        versions: vec![version; rng.usize(0..3)],
        ..Default::default()
    };
    let route = control::Route {
        prefix: word(rng),
        ingress: key.clone(),
    };
    control::TargetUpdate {
        epoch: rng.u64(..),
        number: rng.u64(..),
        snapshot: rng.bool(),
        deployments: vec![target; rng.usize(0..3)],
        removed: vec![key],
        routes: Some(control::RouteTable {
            routes: vec![route; rng.usize(0..3)],
        }),
        marks: vec![
            control::Mark {
                application: word(rng),
                mark: rng.u64(..),
            };
            rng.usize(0..3)
        ],
    }
}

fn word(rng: &mut Rng) -> String {
    (0..rng.usize(0..12)).map(|_| rng.alphanumeric()).collect()
}

/// One seed per shape, small and readable; what a fuzzer finds is added beside them by hand.
fn write_seeds() {
    let texts: Vec<Vec<u8>> = [
        "id-1",
        "rev-1",
        "",
        "POST",
        "/a",
        "b=1",
        "",
        "127.0.0.1",
        "127.0.0.1",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    let fields = vec![
        (b"content-type".to_vec(), b"application/json".to_vec()),
        (b"x".to_vec(), Vec::new()),
    ];
    let mut block = BytesMut::new();
    let headers = Headers::build(&mut block, borrow(&fields)).expect("short");
    let mut http = BytesMut::new();
    http_head(&texts, headers).encode(&mut http).expect("short");
    http.extend_from_slice(b"{}");
    let mut call = BytesMut::new();
    call_head(&texts).encode(&mut call).expect("short");
    let mut answer = BytesMut::new();
    encode_response_head(&mut answer, 200, borrow(&fields)).expect("short");
    let mut trailers = answer.clone();
    encode_trailers(&mut trailers, borrow(&fields)).expect("short");
    answer.extend_from_slice(b"ok");
    write_seed("heads", "http", 0, &http);
    write_seed("heads", "call", 0, &call);
    write_seed("heads", "answer", ANSWER.0, &answer);
    write_seed(
        "heads",
        "trailers",
        ANSWER.with(Flags::TRAILERS).0,
        &trailers,
    );
    write_seed("heads", "truncated", ANSWER.0, &answer[..9]);
    write_frame_seeds(http.freeze(), answer.freeze());
    write_control_seeds();
}

const ANSWER: Flags = Flags::HEAD.with(Flags::END).with(Flags::DONE);

fn write_seed(target: &str, name: &str, first: u8, rest: &[u8]) {
    stable::keep(target, name, &[&[first], rest].concat());
}

fn write_frame_seeds(request: Bytes, response: Bytes) {
    let mut exchange = BytesMut::new();
    let hello = Header {
        a: 1,
        b: 64,
        c: 5,
        ..Header::new(Kind::Hello, 0, 0)
    };
    Frame::new(hello, Bytes::from_static(b"a1b2c3d4")).encode(&mut exchange);
    let header = Header {
        flags: Flags::END,
        c: NO_DEADLINE,
        ..Header::new(Kind::Request, 0, 1)
    };
    Frame::new(header, request).encode(&mut exchange);
    let header = Header {
        flags: ANSWER,
        ..Header::new(Kind::Response, 0, 1)
    };
    Frame::new(header, response).encode(&mut exchange);
    write_seed("frames", "exchange", 255, &exchange);
    write_seed("frames", "exchange-by-byte", 1, &exchange);
    for (name, at, bytes) in [
        ("skipped-kind", 4, &[200][..]),
        ("unknown-kind", 4, &[99]),
        ("critical-flag", 7, &[1]),
        ("too-long", 0, &[255, 255, 255, 255]),
    ] {
        let mut changed = exchange.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        write_seed("frames", name, 7, &changed);
    }
}

fn write_control_seeds() {
    let mut rng = Rng::with_seed(1);
    for choice in 0..10 {
        let update = target_update(DeploymentKey::new("app", "Noop"), &mut rng).encode_to_vec();
        write_seed("control", &format!("update-as-{choice}"), choice, &update);
    }
    for name in ["message-1", "message-2", "message-3", "message-4"] {
        let message = generate_message(&mut rng);
        write_seed("control", name, message[0], &message[1..]);
    }
}
