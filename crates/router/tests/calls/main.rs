//! Calls through the service, as a Python process makes them: real unix sockets, a replica on a thread.

use std::{
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use eagleray_router::service::Value;
use eagleray_router::service::{Applied, Handle, Options, Outgoing, Room};
use eagleray_types::{
    DeploymentKey, ErrorCode,
    control::{DeploymentTarget, ReplicaTarget, TargetUpdate, VersionTarget},
};
use eagleray_wire::{
    Attachments, CallHead, ClaimPage, Claims, Decoder, Flags, Frame, Header, Kind,
    PROTOCOL_VERSION, RequestHead,
    region::{Channel, Named},
    send_with_fds,
};
use tokio::runtime::{Builder, LocalOptions};

mod regions;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

struct Replica {
    stream: UnixStream,
    page: ClaimPage,
    /// If the router wants one.
    channel: Option<Channel>,
    buffer: BytesMut,
}

impl Replica {
    fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().expect("a router connects");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes a time limit");
        let (page, fd) = ClaimPage::create(64).expect("a page can be made");
        let mut replica = Self {
            stream,
            page,
            channel: None,
            buffer: BytesMut::new(),
        };
        let wants_channel = replica.expect(Kind::Hello).header.b == 1;
        let mut descriptors = vec![fd.as_fd()];
        let end = wants_channel.then(|| {
            let (channel, end) = Channel::pair().expect("a channel can be made");
            replica.channel = Some(channel);
            end
        });
        descriptors.extend(end.as_ref().map(AsFd::as_fd));
        let mut header = Header::new(Kind::Hello, 0, 0);
        (header.a, header.b, header.c) = (PROTOCOL_VERSION, 64, 1);
        let mut hello = BytesMut::new();
        Frame::new(header, Bytes::from_static(b"r")).encode(&mut hello);
        send_with_fds(&replica.stream, &hello, &descriptors).expect("HELLO is sent");
        replica
    }

    fn expect(&mut self, kind: Kind) -> Frame {
        loop {
            let frame = self.frame(kind);
            if frame.header.kind == kind {
                return frame;
            }
        }
    }

    /// The next frame; `kind` is what is waited for.
    fn frame(&mut self, kind: Kind) -> Frame {
        loop {
            if let Some(frame) = Decoder::data()
                .decode(&mut self.buffer)
                .expect("the router sends frames")
            {
                return frame;
            }
            let mut chunk = vec![0; 64 * 1024];
            let length = self
                .stream
                .read(&mut chunk)
                .expect("something comes in time");
            assert_ne!(length, 0, "closed before {kind:?}");
            self.buffer.extend_from_slice(&chunk[..length]);
        }
    }

    /// Takes a request and its whole body, with credit as it is needed.
    fn request(&mut self) -> (Frame, Vec<u8>) {
        let request = self.expect(Kind::Request);
        assert!(
            self.page
                .start(request.header.slot, request.header.sequence)
        );
        let (_, data) = RequestHead::decode(&request.payload).expect("a head");
        let mut body = data.to_vec();
        let mut over = request.header.flags.contains(Flags::END);
        while !over {
            self.send(&request, Kind::Credit, Flags::NONE, 64 * 1024, b"");
            let more = self.expect(Kind::Body);
            body.extend_from_slice(&more.payload);
            over = more.header.flags.contains(Flags::END);
        }
        (request, body)
    }

    fn send(&mut self, request: &Frame, kind: Kind, flags: Flags, a: u32, payload: &[u8]) {
        let mut header = Header::new(kind, request.header.slot, request.header.sequence);
        (header.flags, header.a, header.c) = (flags, a, 1);
        let mut out = BytesMut::new();
        Frame::new(header, Bytes::copy_from_slice(payload)).encode(&mut out);
        self.stream.write_all(&out).expect("the router reads");
    }
}

fn key() -> DeploymentKey {
    DeploymentKey::new("app", "D")
}

fn update(path: &std::path::Path) -> TargetUpdate {
    let replica = ReplicaTarget {
        replica_id: "r".to_owned(),
        socket_path: path.to_str().expect("a path of text").to_owned(),
        epoch: 1,
    };
    TargetUpdate {
        epoch: 1,
        number: 1,
        snapshot: true,
        deployments: vec![DeploymentTarget {
            key: key(),
            max_queued_requests: -1,
            versions: vec![VersionTarget {
                weight: 1,
                max_ongoing_requests: 1,
                replicas: vec![replica],
                ..VersionTarget::default()
            }],
            ..DeploymentTarget::default()
        }],
        ..TargetUpdate::default()
    }
}

fn call_head() -> Bytes {
    call_head_with(&[])
}

fn call_head_with(named: &[Named]) -> Bytes {
    let mut table = BytesMut::new();
    let mut head = BytesMut::new();
    RequestHead::Call(CallHead {
        request_id: b"id",
        traceparent: b"",
        priority: 0,
        method: b"__call__",
        multiplexed_model_id: b"",
        session_id: b"",
        stream: false,
        route: b"",
        attachments: Attachments::build(&mut table, named.iter().copied()).expect("there are few"),
    })
    .encode(&mut head)
    .expect("the head fits");
    head.freeze()
}

/// Runs `caller` with a router beside a replica that does `serve`.
fn with_replica<F: Future>(
    serve: impl FnOnce(Replica) + Send + 'static,
    caller: impl FnOnce(Handle) -> F,
) -> F::Output {
    with_replica_and(Options::default(), serve, caller)
}

fn with_replica_and<F: Future>(
    options: Options,
    serve: impl FnOnce(Replica) + Send + 'static,
    caller: impl FnOnce(Handle) -> F,
) -> F::Output {
    let target = |handle: &Handle, path: &Path| {
        assert_eq!(handle.apply(&update(path)), Applied::Applied);
    };
    with_replica_known_by(options, target, serve, caller)
}

/// The same, where `set_up` tells the router of the replica.
fn with_replica_known_by<F: Future>(
    options: Options,
    set_up: impl FnOnce(&Handle, &Path),
    serve: impl FnOnce(Replica) + Send + 'static,
    caller: impl FnOnce(Handle) -> F,
) -> F::Output {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path: PathBuf = folder.path().join("r.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let replica = std::thread::spawn(move || serve(Replica::accept(&listener)));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime");
    let output = runtime.block_on(async {
        let handle = Handle::new(options);
        set_up(&handle, &path);
        tokio::time::timeout(PATIENCE, caller(handle))
            .await
            .expect("the call ends in time")
    });
    replica.join().expect("the replica does as it should");
    output
}

#[test]
fn large_arguments_and_results_pass_whole() {
    let argument: Bytes = (0..2_000_000_u32).map(|number| number as u8).collect();
    let expected = argument.clone();
    let serve = |mut replica: Replica| {
        let (request, body) = replica.request();
        let last = body.len().div_ceil(50_000) - 1;
        let mut credit = 64 * 1024;
        for (number, chunk) in body.chunks(50_000).enumerate() {
            while credit < chunk.len() {
                credit += replica.expect(Kind::Credit).header.a as usize;
            }
            credit -= chunk.len();
            let flags = if number == last {
                Flags::END.with(Flags::DONE)
            } else {
                Flags::NONE
            };
            replica.send(&request, Kind::Response, flags, 0, chunk);
        }
    };
    let Value {
        data: result,
        is_error,
        ..
    } = with_replica(serve, |handle| async move {
        let call = handle.submit(
            Instant::now(),
            &key(),
            Outgoing::whole(call_head(), argument),
        );
        call.expect("it is taken")
            .collect()
            .await
            .expect("it is answered")
    });
    assert!(result == expected);
    assert!(!is_error);
}

#[test]
fn a_view_is_called_like_a_deployment_and_outlives_snapshots() {
    let set_up = |handle: &Handle, path: &Path| {
        handle.add_view(&update(path).deployments[0]);
        let nothing = TargetUpdate {
            deployments: Vec::new(),
            ..update(path)
        };
        assert_eq!(handle.apply(&nothing), Applied::Applied);
    };
    let serve = |mut replica: Replica| {
        let (request, body) = replica.request();
        let flags = Flags::END.with(Flags::DONE);
        replica.send(&request, Kind::Response, flags, 0, &body);
    };
    with_replica_known_by(Options::default(), set_up, serve, |handle| async move {
        let call = |body| Outgoing::whole(call_head(), Bytes::from_static(body));
        let answer = handle
            .submit(Instant::now(), &key(), call(b"asked"))
            .expect("it is taken")
            .collect()
            .await;
        let answer = answer.expect("there is an answer");
        assert_eq!((&answer.data[..], answer.is_error), (&b"asked"[..], false));
        handle.remove_view(&key());
        let refused = handle.submit(Instant::now(), &key(), call(b"late"));
        assert_eq!(refused.expect_err("it is gone").code, ErrorCode::NotFound);
    });
}

#[test]
fn a_replica_that_cannot_be_reached_is_reported_again_and_again() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (unreachable, mut reports) = tokio::sync::mpsc::channel(1);
        let handle = Handle::new(Options {
            unreachable: Some(unreachable),
            ..Options::default()
        });
        let nowhere = Path::new("/nowhere/r.sock");
        assert_eq!(handle.apply(&update(nowhere)), Applied::Applied);
        for _ in 0..2 {
            let report = tokio::time::timeout(PATIENCE, reports.recv()).await;
            let report = report.expect("it comes").expect("the router is there");
            assert_eq!(report.replica_id, "r");
            assert!(report.error.contains("No such file"), "{report:?}");
        }
    });
}

#[test]
fn a_pickled_exception_comes_with_its_flag() {
    let serve = |mut replica: Replica| {
        for parts in [&[&b"whole"[..]][..], &[b"in ", b"parts"]] {
            let (request, _) = replica.request();
            for (number, part) in parts.iter().enumerate() {
                let last = number + 1 == parts.len();
                let flags = if last {
                    Flags::END.with(Flags::DONE).with(Flags::ERROR)
                } else {
                    Flags::NONE
                };
                replica.send(&request, Kind::Response, flags, 0, part);
            }
        }
    };
    with_replica(serve, |handle| async move {
        for expected in ["whole", "in parts"] {
            let call = handle.submit(
                Instant::now(),
                &key(),
                Outgoing::whole(call_head(), Bytes::new()),
            );
            let answer = call
                .expect("it is taken")
                .collect()
                .await
                .expect("it is answered");
            assert_eq!(
                (answer.data, answer.is_error),
                (Bytes::from(expected), true)
            );
        }
    });
}

#[test]
fn a_body_that_was_full_while_it_waited_goes_on_when_it_is_sent() {
    let serve = |mut replica: Replica| {
        let (first, _) = replica.request();
        // The other one waits, with its window full, until this slot is free.
        replica.expect(Kind::Wait);
        replica.send(
            &first,
            Kind::Response,
            Flags::END.with(Flags::DONE).with(Flags::GRANT),
            0,
            b"first",
        );
        let (second, body) = replica.request();
        assert_eq!(body.len(), 64 * 1024 + 3);
        replica.send(
            &second,
            Kind::Response,
            Flags::END.with(Flags::DONE),
            0,
            b"second",
        );
    };
    with_replica(serve, |handle| async move {
        let now = Instant::now();
        let first = handle
            .submit(now, &key(), Outgoing::whole(call_head(), Bytes::new()))
            .expect("taken");
        let mut begun = Outgoing::whole(call_head(), Bytes::from(vec![1; 64 * 1024]));
        begun.complete = false;
        let mut second = handle.submit(now, &key(), begun).expect("taken");
        let pushing = async {
            let room = std::future::poll_fn(|context| second.poll_room(context)).await;
            assert_eq!(room, Room::Wanted);
            second.push_body(Bytes::from_static(b"end"));
            second.end_body();
            second.collect().await.expect("answered").data
        };
        let (first, second) = tokio::join!(first.collect(), pushing);
        assert_eq!(
            (first.expect("answered").data, second),
            (Bytes::from("first"), Bytes::from("second"))
        );
    });
}

#[test]
fn dropping_a_call_cancels_it() {
    let serve = |mut replica: Replica| {
        let (request, _) = replica.request();
        replica.send(&request, Kind::Response, Flags::NONE, 0, b"begun");
        let cancel = replica.expect(Kind::Cancel);
        assert_eq!(cancel.header.sequence, request.header.sequence);
    };
    with_replica(serve, |handle| async move {
        let call = handle.submit(
            Instant::now(),
            &key(),
            Outgoing::whole(call_head(), Bytes::new()),
        );
        let mut call = call.expect("it is taken");
        call.answer().await.expect("it begins");
        drop(call);
        // The frame leaves when the loop turns; the replica waits for it.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    });
}

#[test]
fn a_deployment_that_is_not_known_refuses_at_once() {
    let serve = |mut replica: Replica| {
        let (request, _) = replica.request();
        replica.send(
            &request,
            Kind::Response,
            Flags::END.with(Flags::DONE),
            0,
            b"known",
        );
    };
    with_replica(serve, |handle| async move {
        let call = |name| {
            let whole = Outgoing::whole(call_head(), Bytes::new());
            handle.submit(Instant::now(), &DeploymentKey::new("app", name), whole)
        };
        assert_eq!(
            call("Other").expect_err("nobody is there").code,
            ErrorCode::NotFound
        );
        let answer = call("D").expect("it is taken").collect().await;
        assert_eq!(answer.expect("it is answered").data, "known");
    });
}

#[test]
fn what_a_full_socket_holds_up_goes_on_though_its_replica_speaks_meanwhile() {
    const ALL: usize = 8 << 20;
    let serve = |mut replica: Replica| {
        let request = replica.expect(Kind::Request);
        assert!(
            replica
                .page
                .start(request.header.slot, request.header.sequence)
        );
        // More than the socket holds, all at once; and news while nothing is read.
        replica.send(&request, Kind::Credit, Flags::NONE, ALL as u32, b"");
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(2));
            replica.send(&request, Kind::Credit, Flags::NONE, 1, b"");
        }
        let (_, first) = RequestHead::decode(&request.payload).expect("a head");
        let mut length = first.len();
        loop {
            let body = replica.expect(Kind::Body);
            length += body.payload.len();
            if body.header.flags.contains(Flags::END) {
                break;
            }
        }
        let flags = Flags::END.with(Flags::DONE);
        let text = length.to_string();
        replica.send(&request, Kind::Response, flags, 0, text.as_bytes());
    };
    with_replica(serve, |handle| async move {
        let mut long = Outgoing::whole(call_head(), Bytes::new());
        long.complete = false;
        let mut exchange = handle.submit(Instant::now(), &key(), long).expect("taken");
        for _ in 0..ALL / (64 * 1024) {
            let room = std::future::poll_fn(|context| exchange.poll_room(context)).await;
            assert_eq!(room, Room::Wanted);
            exchange.push_body(Bytes::from(vec![1; 64 * 1024]));
        }
        exchange.end_body();
        let answer = exchange.collect().await.expect("answered");
        assert_eq!(answer.data, Bytes::from(ALL.to_string()));
    });
}
