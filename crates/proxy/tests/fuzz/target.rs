//! The fuzz target: any bytes on a connection to a proxy. A panic, a hang, or an answer that no client could read is a
//! finding.
//!
//! The proxy is a real one, started once a process. Its deployment at `/` is out of order: whoever gets a request
//! through is answered 503 at once. The one at `/echo` takes WebSockets.

mod echo;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use bytes::BytesMut;
use eagleray_proxy::{Options, run};
use eagleray_types::{
    DeploymentKey,
    control::{
        DeploymentTarget, Empty, ProxyCommand, ProxyEvent, ReplicaTarget, Route, RouteTable,
        TargetUpdate, VersionTarget, proxy_command, proxy_event,
    },
};
use eagleray_wire::{Decoder, Frame};
use prost::Message;

/// Longer than anything that a proxy does by itself on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    address: SocketAddr,
    control: Mutex<Control>,
}

struct Control {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Control {
    fn ask(&mut self, body: proxy_command::Body) -> proxy_event::Body {
        let mut bytes = BytesMut::new();
        Frame::control(0, ProxyCommand { body: Some(body) }.encode_to_vec()).encode(&mut bytes);
        self.stream.write_all(&bytes).expect("the proxy lives");
        loop {
            if let Some(frame) = Decoder::control()
                .decode(&mut self.buffer)
                .expect("the proxy sends frames")
            {
                let event = ProxyEvent::decode(frame.payload).expect("the proxy sends events");
                match event.body.expect("events of this release") {
                    // Said unasked.
                    proxy_event::Body::Loads(_) => continue,
                    answer => return answer,
                }
            }
            let mut chunk = [0; 4096];
            let length = self.stream.read(&mut chunk).expect("the proxy answers");
            assert_ne!(length, 0, "the proxy ended");
            self.buffer.extend_from_slice(&chunk[..length]);
        }
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        let address = listener.local_addr().expect("it is bound");
        let (stream, theirs) = UnixStream::pair().expect("a pair of sockets");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        let options = Options {
            threads: 1.try_into().expect("one is not zero"),
            ..Options::default()
        };
        std::thread::spawn(move || {
            run(Some(listener), theirs, options, &|_| Err("none".to_owned()))
        });
        let mut control = Control {
            stream,
            buffer: BytesMut::new(),
        };
        let update = proxy_command::Body::Update(targets().encode_to_vec());
        assert!(matches!(control.ask(update), proxy_event::Body::Applied(_)));
        let accept = proxy_command::Body::Accept(Empty {});
        assert!(matches!(control.ask(accept), proxy_event::Body::Ready(_)));
        Server {
            address,
            control: Mutex::new(control),
        }
    })
}

fn targets() -> TargetUpdate {
    let key = DeploymentKey::new("app", "D");
    let echo = DeploymentKey::new("app", "Echo");
    let socket_path = echo::start().to_string_lossy().into_owned();
    TargetUpdate {
        epoch: 1,
        number: 1,
        snapshot: true,
        deployments: vec![
            DeploymentTarget {
                key: key.clone(),
                max_queued_requests: -1,
                unavailable: "it is out of order".to_owned(),
                ..DeploymentTarget::default()
            },
            DeploymentTarget {
                key: echo.clone(),
                max_queued_requests: -1,
                versions: vec![VersionTarget {
                    version: "v1".to_owned(),
                    revision: "r1".to_owned(),
                    weight: 1,
                    max_ongoing_requests: 32,
                    replicas: vec![ReplicaTarget {
                        replica_id: "echo".to_owned(),
                        socket_path,
                        epoch: 1,
                    }],
                    ..VersionTarget::default()
                }],
                ..DeploymentTarget::default()
            },
        ],
        removed: Vec::new(),
        routes: Some(RouteTable {
            routes: vec![
                Route {
                    prefix: "/".to_owned(),
                    ingress: key,
                },
                Route {
                    prefix: "/echo".to_owned(),
                    ingress: echo,
                },
            ],
        }),
        marks: Vec::new(),
    }
}

/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte says where the rest is cut into two writes.
pub(crate) fn http1(input: &[u8]) {
    if let Some((&cut, bytes)) = input.split_first() {
        exchange(cut, bytes);
    }
}

/// The same, after a preface and empty SETTINGS.
pub(crate) fn http2(input: &[u8]) {
    if let Some((&cut, frames)) = input.split_first() {
        exchange(
            cut,
            &[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], frames].concat(),
        );
    }
}

const HANDSHAKE: &[u8] =
    b"GET /echo HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// In the first byte: the client takes compression.
pub(crate) const COMPRESSES: u8 = 0x80;
const OFFER: &[u8] = b"sec-websocket-extensions: permessage-deflate\r\n";

/// The same, on an open WebSocket.
pub(crate) fn websocket(input: &[u8]) {
    let Some((&cut, frames)) = input.split_first() else {
        return;
    };
    let mut stream = connect();
    let compresses = cut & COMPRESSES != 0;
    let offer = if compresses { OFFER } else { b"" };
    stream
        .write_all(&[HANDSHAKE, offer, b"\r\n"].concat())
        .expect("the proxy reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the proxy answers");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
    check_messages(&send_and_read(&mut stream, cut, frames), compresses);
    check_panics();
}

fn exchange(cut: u8, bytes: &[u8]) {
    let answers = send_and_read(&mut connect(), cut, bytes);
    if bytes.starts_with(PREFACE) {
        check_frames(&answers);
    } else {
        check(&answers);
    }
    check_panics();
}

fn connect() -> TcpStream {
    let stream = TcpStream::connect(server().address).expect("the proxy accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Sends all, and returns what came until the end.
fn send_and_read(stream: &mut TcpStream, cut: u8, bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    // What a proxy that has closed does not take is not sent.
    let sent = stream
        .write_all(first)
        .and_then(|()| stream.write_all(second));
    if sent.is_ok() {
        stream.shutdown(Shutdown::Write).ok();
    }
    let mut answers = Vec::new();
    match stream.read_to_end(&mut answers) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the proxy neither answers nor closes: {error}"),
    }
    answers
}

fn check_panics() {
    let mut control = server().control.lock().expect("no other input failed");
    let proxy_event::Body::Counted(counted) = control.ask(proxy_command::Body::Count(Empty {}))
    else {
        panic!("no counters came")
    };
    assert_eq!(counted.counters.get("panics"), Some(&0));
}

/// What came are frames of a server, and nothing follows the closing frame. The last may be cut.
fn check_messages(mut answers: &[u8], compresses: bool) {
    while let [first, second, rest @ ..] = answers {
        assert!(
            matches!(first, 0 | 1 | 2 | 0x80 | 0x81 | 0x82 | 0x88 | 0x8a)
                || compresses && matches!(first, 0x41 | 0x42 | 0xc1 | 0xc2),
            "{first:#x}"
        );
        let (length, rest) = match (second, rest) {
            (0..=125, rest) => (usize::from(*second), rest),
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (126, _) => return,
            (127, rest) if compresses => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length) as usize, rest),
                None => return,
            },
            _ => panic!("a frame of a length that nobody sent: {second}"),
        };
        answers = rest.get(length..).unwrap_or_default();
        assert!(*first != 0x88 || answers.is_empty(), "more after the end");
    }
}

/// What came are frames of a size that every client takes, and SETTINGS come first. The last may be cut.
fn check_frames(mut answers: &[u8]) {
    let mut is_first = true;
    while let [high, middle, low, kind, _, rest @ ..] = answers {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        assert!(
            length <= 16_384 && *kind <= 9,
            "a frame of kind {kind}, {length} bytes"
        );
        assert!(!is_first || *kind == 4, "kind {kind} before SETTINGS");
        is_first = false;
        answers = rest.get(4 + length..).unwrap_or_default();
    }
}

/// Every answer is one that the proxy gives.
fn check(mut answers: &[u8]) {
    while !answers.is_empty() {
        let Some(end) = answers.windows(4).position(|four| four == b"\r\n\r\n") else {
            // The client had closed; what it would not have read may be cut.
            assert!(answers.starts_with(&b"HTTP/1."[..answers.len().min(7)]));
            return;
        };
        let head = std::str::from_utf8(&answers[..end]).expect("heads of ours are ASCII");
        answers = &answers[end + 4..];
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1."))
            .and_then(|line| line.get(2..5))
            .expect("a status line");
        assert!(
            [
                "100", "200", "204", "400", "405", "408", "413", "414", "417", "426", "431", "501",
                "503"
            ]
            .contains(&status),
            "{head}"
        );
        let length = lines
            .filter_map(|line| line.strip_prefix("content-length: "))
            .find_map(|length| length.parse::<usize>().ok())
            .unwrap_or(0);
        // An answer to HEAD has a length and no body.
        if !answers.starts_with(b"HTTP/1.") {
            answers = &answers[length.min(answers.len())..];
        }
    }
}
