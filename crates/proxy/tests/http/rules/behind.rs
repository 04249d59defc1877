//! Scenario 37 behind the front proxies that people have: nginx and `HAProxy`, where they are installed.
//!
//! Smuggling takes two who count requests differently. So each case goes to a front proxy that lets through what it
//! can, over few connections that it keeps to ours, and three things are compared: the answers that the client got,
//! whose bodies name the request they are for; the requests that the replica saw; and what the next client gets, who
//! comes on a connection of its own but is served behind the same one of the front proxy.

mod front;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use eagleray_wire::{Kind, RequestHead};

use super::{
    MAX_BODY, Position, Seen,
    cases::{self, Case},
    get, shown,
};
use crate::support::{Connection, PATIENCE, Proxy, Replica, record, sync_target};
use front::{Answer, Front};

/// Answers each request with its path, and keeps the paths.
fn naming(seen: Seen) -> impl Fn(Connection) + Send + Sync + Clone + 'static {
    move |mut connection| {
        while let Some(frame) = connection.try_frame() {
            if frame.header.kind != Kind::Request || !connection.start(&frame) {
                continue;
            }
            connection.body(&frame);
            let Ok((RequestHead::Http(head), _)) = RequestHead::decode(&frame.payload) else {
                panic!("not http")
            };
            let path = String::from_utf8_lossy(head.path).into_owned();
            seen.lock().unwrap().push(path.clone());
            connection.answer(&frame, 200, &[], path.as_bytes());
        }
    }
}

/// A request that ends its connection.
fn last(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
}

/// Sends each of these once something came back for the one before it, then reads to the end of the connection.
fn ask(address: SocketAddr, writes: &[Vec<u8>]) -> Vec<Answer> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bytes = vec![0; 64 * 1024];
    let mut came = Vec::new();
    for (number, write) in writes.iter().enumerate() {
        // Whoever has answered and closed takes no more, or says so by a reset.
        if number > 0 {
            let length = stream.read(&mut bytes).unwrap_or(0);
            came.extend(&bytes[..length]);
        }
        stream.write_all(write).ok();
    }
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => came.extend(&bytes[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
    stream.shutdown(Shutdown::Both).ok();
    front::answers(&came)
}

fn run(front: &Front, case: &Case, position: Position) -> Vec<Answer> {
    let (before, last) = (get("/before").into_bytes(), last("/last").into_bytes());
    let case = [&case.bytes[..], &last].concat();
    match position {
        Position::First => ask(front.address, &[case]),
        Position::Second => ask(front.address, &[before, case]),
        Position::Pipelined => ask(front.address, &[[before, case].concat()]),
    }
}

/// What was counted behind one front proxy.
#[derive(Default)]
struct Counted {
    rounds: usize,
    let_through: usize,
    requests: usize,
    wrong: Vec<String>,
}

impl Counted {
    fn case(&mut self, front: &Front, seen: &Seen, case: &Case, position: Position) {
        let answers = run(front, case, position);
        let saw = std::mem::take(&mut *seen.lock().unwrap());
        let told: Vec<&str> = answers.iter().filter_map(Answer::path).collect();
        if told != saw {
            self.is_wrong(
                case,
                position,
                &format!("told {told:?}, saw {saw:?}"),
                &answers,
            );
        }
        let victim = format!("/victim{}", self.rounds);
        let got = ask(front.address, &[last(&victim).into_bytes()]);
        let next = std::mem::take(&mut *seen.lock().unwrap());
        let told: Vec<&str> = got.iter().filter_map(Answer::path).collect();
        if got.len() != 1 || told != [&victim] || next != [&*victim] {
            let what = format!("the next client got {got:?}, and the replica saw {next:?}");
            self.is_wrong(case, position, &what, &answers);
        }
        let meant = saw
            .iter()
            .filter(|path| !["/before", "/last"].contains(&path.as_str()));
        self.let_through += usize::from(meant.count() > 0);
        self.requests += saw.len() + next.len();
        self.rounds += 1;
    }

    fn is_wrong(&mut self, case: &Case, position: Position, what: &str, answers: &[Answer]) {
        let (rule, sent) = (case.rule, shown(&case.bytes));
        self.wrong.push(format!(
            "{position:?} {rule}: {sent}: {what}; answers {answers:?}"
        ));
    }
}

fn nothing_is_smuggled_behind(start: fn(SocketAddr) -> Option<Front>, name: &str) {
    let seen = Seen::default();
    let replica = Replica::serving("a", 100, naming(Arc::clone(&seen)));
    let mut proxy = Proxy::serving(sync_target("D", &[&replica], MAX_BODY));
    let Some(front) = start(proxy.address) else {
        // Past the test harness, which shows what a passing test prints to nobody.
        let line = format!("skipped: scenario 37 behind {name}, which is not installed\n");
        std::io::stderr().write_all(line.as_bytes()).ok();
        return;
    };
    let mut counted = Counted::default();
    for case in &cases::all() {
        for position in [Position::First, Position::Second, Position::Pipelined] {
            counted.case(&front, &seen, case, position);
        }
    }
    let wrong = &counted.wrong;
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let (requests, rounds) = (counted.requests, counted.rounds);
    assert!(
        counted.let_through > 100,
        "it lets {} through",
        counted.let_through
    );
    let connections = proxy.counter("connections_accepted") as usize;
    assert!(
        connections * 2 < requests,
        "{connections} connections for {requests} requests: it keeps none"
    );
    assert_eq!(proxy.counter("panics"), 0);
    record::scenario_of(
        37,
        name,
        &format!("the same cases behind {name}, which keeps its connections to us"),
        &[
            ("cases and places", rounds),
            ("let through", counted.let_through),
            ("connections", connections),
            ("requests seen", requests),
            ("requests seen that nobody was answered for", 0),
            ("wrong answers to the next client", 0),
        ],
    );
}

#[test]
fn nothing_is_smuggled_behind_nginx() {
    nothing_is_smuggled_behind(Front::nginx, "nginx");
}

#[test]
fn nothing_is_smuggled_behind_haproxy() {
    nothing_is_smuggled_behind(Front::haproxy, "haproxy");
}
