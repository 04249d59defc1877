//! Streamed answers: each piece is at a client that reads before the next one is made, on its own; for a client that does
//! not read they wait, in bounded memory, and come in order.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use eagleray_wire::{Flags, Frame, Header, Kind};

use crate::support::{
    Client, Connection, PATIENCE, Proxy, Replica,
    raw::{self, Raw},
    target,
};

/// Lengths of pieces, small and large, and more than the first window of credit together.
const LENGTHS: [usize; 12] = [1, 2, 100, 1, 8000, 1, 16_000, 3, 16_000, 16_000, 16_000, 1];

fn piece(number: usize) -> Vec<u8> {
    vec![b'a' + number as u8 % 26; LENGTHS[number % LENGTHS.len()]]
}

/// A replica that has begun an answer, and its client.
struct Begun {
    connection: Connection,
    request: Frame,
    replica: Replica,
    proxy: Proxy,
}

impl Begun {
    fn new(ask: impl FnOnce(&Proxy)) -> Self {
        let replica = Replica::start("a", 10);
        let proxy = Proxy::serving(target("D", &[&replica]));
        ask(&proxy);
        let mut connection = replica.accept();
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        connection.begin_answer(&request, 200, &[]);
        Self {
            connection,
            request,
            replica,
            proxy,
        }
    }

    fn http1() -> (Self, Client) {
        let mut client = None;
        let begun = Self::new(|proxy| {
            let mut made = proxy.client();
            made.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
            client = Some(made);
        });
        let mut client = client.unwrap();
        assert_eq!(client.head().status, 200);
        (begun, client)
    }

    fn http2() -> (Self, Raw) {
        let mut client = None;
        let begun = Self::new(|proxy| {
            let mut made = Raw::connect(proxy.http2);
            made.get(1);
            client = Some(made);
        });
        let mut client = client.unwrap();
        assert_eq!(client.expect_on(1, raw::HEADERS).status(), 200);
        (begun, client)
    }

    /// Sends pieces as there is credit for them, on a thread; counts their bytes.
    fn flood(self, pieces: usize) -> (Flood, Proxy) {
        let sent = Arc::new(AtomicUsize::new(0));
        let (mut connection, request) = (self.connection, self.request);
        let replica = self.replica;
        let counter = Arc::clone(&sent);
        let thread = std::thread::spawn(move || {
            let _replica = replica;
            let mut credit = 64 * 1024;
            for number in 0..pieces {
                let data = piece(number);
                while credit < data.len() {
                    credit += connection.expect(Kind::Credit).header.a as usize;
                }
                credit -= data.len();
                connection.respond(&request, Flags::NONE, &data);
                counter.fetch_add(data.len(), Ordering::SeqCst);
            }
            connection.respond(&request, Flags::END.with(Flags::DONE), b"");
        });
        (Flood { sent, thread }, self.proxy)
    }
}

struct Flood {
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Flood {
    /// Waits until the replica does not come on any more; how many bytes it has sent.
    fn stands(&self) -> usize {
        let end = Instant::now() + PATIENCE;
        let mut before = 0;
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.sent.load(Ordering::SeqCst);
            if now > 0 && now == before {
                return now;
            }
            assert!(Instant::now() < end, "it goes on and on");
            before = now;
        }
    }
}

#[test]
fn over_http1_each_piece_is_at_the_client_before_the_next_is_made() {
    let (mut begun, mut client) = Begun::http1();
    for number in 0..100 {
        let data = piece(number);
        begun.connection.respond(&begun.request, Flags::NONE, &data);
        assert_eq!(
            client.chunk().as_ref(),
            Some(&data),
            "piece {number}, alone"
        );
    }
    begun
        .connection
        .respond(&begun.request, Flags::END.with(Flags::DONE), b"");
    assert_eq!(client.chunk(), Some(Vec::new()));
    // The connection lives on.
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let request = begun.connection.expect(Kind::Request);
    assert!(begun.connection.start(&request));
    begun.connection.answer(&request, 200, &[], b"next");
    assert_eq!(client.response().text(), "next");
}

#[test]
fn over_http2_each_piece_is_at_the_client_before_the_next_is_made() {
    let (mut begun, mut client) = Begun::http2();
    for number in 0..100 {
        let data = piece(number);
        begun.connection.respond(&begun.request, Flags::NONE, &data);
        let frame = client.expect_on(1, raw::DATA);
        assert_eq!(
            (&frame.payload, frame.is_end()),
            (&data, false),
            "piece {number}, alone"
        );
        client.window(0, data.len() as u32);
        client.window(1, data.len() as u32);
    }
    begun
        .connection
        .respond(&begun.request, Flags::END.with(Flags::DONE), b"");
    let last = client.expect_on(1, raw::DATA);
    assert!(last.payload.is_empty() && last.is_end());
}

/// Pieces that the proxy reads at one go.
fn burst(begun: &mut Begun) {
    let mut frames = BytesMut::new();
    for number in 0..50 {
        let header = Header::new(
            Kind::Response,
            begun.request.header.slot,
            begun.request.header.sequence,
        );
        Frame::new(header, vec![b'a'; 1 + number].into()).encode(&mut frames);
    }
    begun.connection.stream.write_all(&frames).unwrap();
}

#[test]
fn over_http1_pieces_that_come_at_once_stay_apart_for_a_client_that_reads() {
    let (mut begun, mut client) = Begun::http1();
    burst(&mut begun);
    for number in 0..50 {
        assert_eq!(client.chunk(), Some(vec![b'a'; 1 + number]));
    }
}

#[test]
fn over_http2_pieces_that_come_at_once_stay_apart_for_a_client_that_reads() {
    let (mut begun, mut client) = Begun::http2();
    burst(&mut begun);
    for number in 0..50 {
        let frame = client.expect_on(1, raw::DATA);
        assert_eq!(frame.payload, vec![b'a'; 1 + number]);
    }
}

#[test]
fn over_http1_pieces_for_a_client_that_does_not_read_wait_and_come_in_order() {
    const PIECES: usize = 12 * 600;
    let (begun, mut client) = Begun::http1();
    let all: usize = (0..PIECES).map(|number| piece(number).len()).sum();
    let (flood, _proxy) = begun.flood(PIECES);
    let sent = flood.stands();
    assert!(
        sent < all,
        "the socket holds less than {all} bytes, and so does the proxy"
    );
    // Here they may be put together, as they had to wait.
    let (mut body, mut chunks) = (Vec::new(), 0);
    while let Some(chunk) = client.chunk().filter(|chunk| !chunk.is_empty()) {
        body.extend(chunk);
        chunks += 1;
    }
    assert!(chunks < PIECES, "{chunks} chunks of {PIECES} pieces");
    assert!(body == (0..PIECES).flat_map(piece).collect::<Vec<u8>>());
    flood.thread.join().unwrap();
}

#[test]
fn over_http2_pieces_for_a_client_without_room_wait_and_come_in_order() {
    const PIECES: usize = 12 * 20;
    /// The window of a stream to begin with, and what the proxy gives the replica credit for besides.
    const MOST: usize = 65_535 + 2 * 64 * 1024 + 16_000;
    let (begun, mut client) = Begun::http2();
    let (flood, _proxy) = begun.flood(PIECES);
    let sent = flood.stands();
    assert!(
        sent <= MOST,
        "{sent} bytes wait for a client that has no room"
    );
    let mut body: Vec<u8> = Vec::new();
    loop {
        let frame = client.expect_on(1, raw::DATA);
        body.extend(&frame.payload);
        if frame.is_end() {
            break;
        }
        client.window(0, frame.payload.len() as u32);
        client.window(1, frame.payload.len() as u32);
    }
    assert!(body == (0..PIECES).flat_map(piece).collect::<Vec<u8>>());
    flood.thread.join().unwrap();
}
