//! Cancellation, requests taken back, ends of connections, drain.

use std::{net::Shutdown, time::Duration};

use eagleray_replica::{Body, Ended, Event};
use eagleray_types::control::{
    CheckHealth, ReplicaCommand, ReplicaEvent, replica_command, replica_event,
};
use eagleray_wire::{Claims, Decoder, Flags, Frame, Kind, SlotState};
use prost::Message;

use crate::harness::Replica;

#[test]
fn cancel_before_the_start_frees_the_slot_at_once() {
    let replica = Replica::start(1);
    let mut router = replica.router();
    let name = router.get();
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    assert!(router.done(name).header.flags.contains(Flags::END));
    assert_eq!(router.state(name), SlotState::Taken);
    assert!(!replica.request().claim());
    assert_eq!(replica.handle.ongoing(), 0);
}

#[test]
fn cancel_after_the_start_is_an_event_and_the_slot_is_free_when_user_code_ends() {
    let replica = Replica::start(1);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    assert!(matches!(replica.event(), Event::Cancelled(serial) if serial == request.serial()));
    assert!(request.is_cancelled());
    assert_eq!(request.read(), Body::Disconnected);
    assert_eq!(replica.handle.ongoing(), 1);
    request.respond(200, [], b"nobody wants it", true).unwrap();
    let frame = router.done(name);
    assert_eq!(frame.header.flags, Flags::END.with(Flags::DONE));
    assert!(frame.payload.is_empty());
}

#[test]
fn a_request_taken_back_is_dropped_without_a_word() {
    let replica = Replica::start(1);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(router.page.take(name.slot, name.sequence));
    assert!(!request.claim());
    assert_eq!(replica.handle.ongoing(), 0);
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    let next = router.get();
    let request = replica.request();
    assert!(request.claim());
    request.respond(200, [], b"", true).unwrap();
    router.done(next);
}

#[test]
fn the_end_of_a_router_takes_what_is_queued_and_cancels_what_runs() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let runs = router.get();
    let queued = router.get();
    let (first, second) = (replica.request(), replica.request());
    assert!(first.claim());
    router.stream.shutdown(Shutdown::Both).unwrap();
    assert!(matches!(replica.event(), Event::Cancelled(serial) if serial == first.serial()));
    assert!(!second.claim());
    assert_eq!(
        (router.state(runs), router.state(queued)),
        (SlotState::Started, SlotState::Taken)
    );
    assert_eq!(replica.handle.ongoing(), 1);
    first.done();
    assert_eq!(replica.handle.ongoing(), 0);
}

#[test]
fn drain_says_gone_rejects_what_comes_and_tells_when_it_is_over() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    replica.handle.drain();
    router.frame(Kind::Gone);
    router.get();
    router.frame(Kind::Reject);
    replica.router().frame(Kind::Gone);
    request.respond(200, [], b"", true).unwrap();
    router.done(name);
    assert!(matches!(replica.event(), Event::Drained));
}

#[test]
fn an_idle_replica_is_drained_at_once() {
    let replica = Replica::start(10);
    replica.handle.drain();
    assert!(matches!(replica.event(), Event::Drained));
}

#[test]
fn the_end_of_the_node_ends_the_service() {
    let mut replica = Replica::start(10);
    replica.control.shutdown(Shutdown::Both).unwrap();
    assert_eq!(replica.ended(), Ended::NodeGone);
}

#[test]
fn commands_come_in_and_events_go_out() {
    use std::io::{Read, Write};
    let replica = Replica::start(10);
    let command = ReplicaCommand {
        body: Some(replica_command::Body::CheckHealth(CheckHealth { id: 7 })),
    };
    let mut bytes = bytes::BytesMut::new();
    Frame::control(1, command.encode_to_vec()).encode(&mut bytes);
    // In pieces, as a stream may bring it.
    let (first, second) = bytes.split_at(10);
    (&replica.control).write_all(first).unwrap();
    (&replica.control).write_all(second).unwrap();
    assert!(matches!(replica.event(), Event::Command(got) if *got == command));

    let event = ReplicaEvent {
        body: Some(replica_event::Body::Drained(
            eagleray_types::control::Empty {},
        )),
    };
    replica.handle.tell(&event);
    replica
        .control
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut input = bytes::BytesMut::new();
    let frame = loop {
        if let Some(frame) = Decoder::control().decode(&mut input).unwrap() {
            break frame;
        }
        let mut bytes = [0; 1024];
        let length = (&replica.control).read(&mut bytes).unwrap();
        input.extend_from_slice(&bytes[..length]);
    };
    assert_eq!(ReplicaEvent::decode(frame.payload).unwrap(), event);
}

#[test]
fn stop_lets_answers_leave() {
    let mut replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    request.respond(200, [], &vec![1; 200_000], true).unwrap();
    replica.handle.stop();
    router.done(name);
    assert_eq!(replica.ended(), Ended::Stopped);
}
