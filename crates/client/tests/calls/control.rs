//! Questions to a node or a controller, which may be restarted meanwhile.

use std::{
    io::{ErrorKind, Write as _},
    os::unix::net::UnixListener,
    time::Instant,
};

use bytes::BytesMut;
use eagleray_client::Asking;
use eagleray_wire::Frame;

use crate::harness::{BOUND, read_frame};

#[test]
fn a_question_is_asked_again_when_its_connection_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.sock");
    let listener = UnixListener::bind(&path).expect("a socket can be made");
    let answering = std::thread::spawn(move || {
        for ends in [true, false] {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let question = read_frame(&mut stream);
            assert_eq!(&question.payload[..], b"how are you?");
            if !ends {
                let mut out = BytesMut::new();
                Frame::control(question.header.sequence, b"well".to_vec()).encode(&mut out);
                stream.write_all(&out).expect("the answer is sent");
            }
        }
    });
    let path = path.to_string_lossy();
    let mut asking = Asking::new(&path, b"how are you?");
    let until = Instant::now() + BOUND;
    let answer = loop {
        assert!(Instant::now() < until, "no answer");
        if let Some(answer) = asking.step().expect("the second connection holds") {
            break answer;
        }
    };
    assert_eq!(&answer[..], b"well");
    answering.join().expect("it was asked twice");
}

#[test]
fn nobody_there_is_an_error_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.sock");
    let error = Asking::new(&path.to_string_lossy(), b"")
        .step()
        .expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
