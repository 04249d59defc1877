//! What the Autobahn test suite asks of a server, in its sections 1 to 7, 9, 10, 12 and 13, against an application that echoes.
//!
//! Written from RFC 6455 and from what the suite says of each case; numbers are the suite's. Run with a client that reads
//! at once, and with one that waits before each read: what is slow must lose nothing.

mod compression;
mod echo;
mod messages;
mod text;

use std::{io::Write, thread::JoinHandle, time::Duration};

use proptest::prelude::*;

use super::packing::{self, PACKED, Packer};
use crate::support::{
    Client, Proxy, Replica, target,
    websocket::{CLOSE, HANDSHAKE, PONG, Socket, close_of, masked},
};

/// Above this a client that waits before each read would take too long for a test.
const MOST_FOR_SLOW: usize = 300_000;

/// A case: what the client sends, in how large pieces, and what comes back.
struct Case {
    number: String,
    sent: Vec<u8>,
    /// Bytes of a write; 0: all at once.
    chop: usize,
    /// The extensions that the client offers.
    offer: &'static str,
    wanted: Vec<Wanted>,
}

#[derive(Clone)]
enum Wanted {
    /// The opcode and the data of a message.
    Message(u8, Vec<u8>),
    /// The same, if the application was quicker than what ended the connection.
    Maybe(u8, Vec<u8>),
    Pong(Vec<u8>),
    /// The end, with this code.
    Close(u16),
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;

fn case(number: &str, sent: &[Vec<u8>], wanted: Vec<Wanted>) -> Case {
    Case {
        number: number.to_owned(),
        sent: sent.concat(),
        chop: 0,
        offer: "",
        wanted,
    }
}

impl Case {
    fn chopped(mut self, chop: usize) -> Self {
        self.chop = chop;
        self
    }

    fn offering(mut self, offer: &'static str) -> Self {
        self.offer = offer;
        self
    }
}

/// Sends while others read.
fn send(client: &Client, case: &Case) -> JoinHandle<()> {
    let mut stream = client.stream.try_clone().unwrap();
    let (sent, chop) = (case.sent.clone(), case.chop);
    std::thread::spawn(move || {
        let chop = if chop == 0 { sent.len().max(1) } else { chop };
        for piece in sent.chunks(chop) {
            // A server that has failed the connection takes no more.
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    })
}

enum Came {
    Message(u8, Vec<u8>),
    Pong(Vec<u8>),
    Close(u16),
}

/// The next message, over all its frames, or what controls.
fn next(
    socket: &mut Socket,
    packer: &mut Packer,
    gathered: &mut Option<(u8, Vec<u8>)>,
) -> Option<Came> {
    loop {
        let (first, payload) = socket.frame()?;
        match first {
            CLOSE => return Some(Came::Close(close_of(&payload).0)),
            PONG => return Some(Came::Pong(payload)),
            _ => {}
        }
        let message = gathered.get_or_insert((first & (PACKED | 15), Vec::new()));
        message.1.extend(payload);
        if first & 0x80 != 0 {
            let (opcode, data) = gathered.take()?;
            return Some(if opcode & PACKED != 0 {
                Came::Message(opcode & 15, packer.unpack(&data))
            } else {
                Came::Message(opcode, data)
            });
        }
    }
}

fn run(proxy: &Proxy, case: &Case, pause: Duration) -> Result<(), String> {
    let mut client = proxy.client();
    let fields = match case.offer {
        "" => String::new(),
        offer => format!("sec-websocket-extensions: {offer}\r\n"),
    };
    client.send(format!("{HANDSHAKE}{fields}\r\n"));
    let response = client.head();
    assert_eq!(response.status, 101);
    let agreed = response.header("sec-websocket-extensions");
    assert_eq!(agreed.is_some(), !case.offer.is_empty(), "{agreed:?}");
    client.pause = pause;
    let sender = send(&client, case);
    let mut socket = Socket { client };
    let mut wanted = case.wanted.clone();
    let fails = matches!(wanted.last(), Some(Wanted::Close(_)));
    if !fails {
        wanted.push(Wanted::Close(1000));
    }
    let mut wanted = wanted.into_iter().peekable();
    let (mut packer, mut gathered) = (Packer::new(false), None);
    while let Some(expected) = wanted.next() {
        if wanted.peek().is_none() {
            sender_ends(&mut socket, fails);
        }
        let came = next(&mut socket, &mut packer, &mut gathered);
        match (expected, came) {
            (Wanted::Message(opcode, data), Some(Came::Message(got, bytes)))
                if (opcode, &data) == (got, &bytes) => {}
            (Wanted::Pong(data), Some(Came::Pong(bytes))) if data == bytes => {}
            (Wanted::Close(code), Some(Came::Close(got))) if code == got => {}
            (Wanted::Maybe(opcode, data), Some(Came::Message(got, bytes)))
                if (opcode, &data) == (got, &bytes) => {}
            (Wanted::Maybe(..), Some(Came::Close(got))) if matches!(wanted.clone().last(), Some(Wanted::Close(code)) if code == got) =>
            {
                break;
            }
            (_, came) => return Err(shown(came)),
        }
    }
    sender.join().unwrap();
    if fails {
        socket.client.send_all(&masked(CLOSE, b"\x03\xe8"));
    }
    match socket.frame() {
        None => Ok(()),
        Some((first, _)) => Err(format!("a frame after the end: {first:#x}")),
    }
}

/// The client ends what the case does not end.
fn sender_ends(socket: &mut Socket, fails: bool) {
    if !fails {
        socket.send(CLOSE, b"\x03\xe8");
    }
}

fn shown(came: Option<Came>) -> String {
    match came {
        None => "the connection ended".to_owned(),
        Some(Came::Close(code)) => format!("close {code}"),
        Some(Came::Pong(data)) => format!("a pong of {} bytes", data.len()),
        Some(Came::Message(opcode, data)) => {
            format!("a message of {} bytes, opcode {opcode}", data.len())
        }
    }
}

fn run_all(cases: &[Case]) {
    let replica = Replica::serving("a", 100, echo::serve);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut problems = Vec::new();
    for case in cases {
        for pause_ms in [0, 5] {
            if pause_ms > 0 && case.sent.len() > MOST_FOR_SLOW {
                continue;
            }
            if let Err(problem) = run(&proxy, case, Duration::from_millis(pause_ms)) {
                problems.push(format!("{} ({pause_ms} ms): {problem}", case.number));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_sent_and_however_it_is_read_it_comes_back_and_then_the_end(
        messages in prop::collection::vec((any::<bool>(), 0..60_000_usize, 1..40_000_usize), 1..8),
        chop in 0..3000_usize,
        pause_ms in 0..4_u64,
    ) {
        let replica = Replica::serving("a", 100, echo::serve);
        let proxy = Proxy::serving(target("D", &[&replica]));
        let (mut sent, mut wanted) = (Vec::new(), Vec::new());
        for (is_text, length, fragment) in messages {
            let opcode = if is_text { TEXT } else { BINARY };
            let data = vec![b'*'; length];
            sent.extend(messages::split(opcode, &data, fragment));
            wanted.push(Wanted::Message(opcode, data));
        }
        let case = case("a case of chance", &sent, wanted).chopped(chop);
        prop_assert_eq!(run(&proxy, &case, Duration::from_millis(pause_ms)), Ok(()));
    }
}

#[test]
fn framing_pings_reserved_bits_and_opcodes() {
    run_all(&messages::plain());
    run_all(&messages::pings());
    run_all(&messages::reserved());
}

#[test]
fn fragments() {
    run_all(&messages::fragments());
}

#[test]
fn text_is_utf8() {
    run_all(&text::handling());
    run_all(&text::sequences());
}

#[test]
fn closing() {
    run_all(&messages::closing());
}

#[test]
fn large_and_many_messages() {
    run_all(&messages::limits());
}

#[test]
fn compressed_messages_of_many_kinds_and_sizes() {
    run_all(&compression::kinds());
}

#[test]
fn compression_agreed_to_in_many_ways() {
    run_all(&compression::offers());
}
