//! Other limits while connections live: what holds for whom, and that nobody is ended by the change.

use crate::support::{Proxy, Replica, answer_all, raw::Raw, target};

fn proxy(replica: &Replica) -> Proxy {
    Proxy::serving(target("D", &[replica]))
}

fn with_fields(count: usize) -> String {
    let fields = "x: 1\r\n".repeat(count);
    format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
}

#[test]
fn a_connection_that_lives_keeps_its_buffers_and_its_requests_go_by_the_new_limits() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = proxy(&replica);
    let mut alive = proxy.client();
    assert_eq!(alive.get("/").status, 200);
    assert_eq!(proxy.configure("header_count=20 uri_bytes=100"), "");
    // How many fields are parsed was settled when it began.
    alive.send(with_fields(50));
    assert_eq!(alive.response().status, 200);
    let mut new = proxy.client();
    new.send(with_fields(50));
    assert_eq!(new.response().status, 431);
    assert_eq!(alive.get(&format!("/{}", "a".repeat(200))).status, 414);
    assert_eq!(proxy.configure(""), "");
    let mut again = proxy.client();
    again.send(with_fields(50));
    assert_eq!(again.response().status, 200);
    assert_eq!(again.get(&format!("/{}", "a".repeat(200))).status, 200);
}

#[test]
fn limits_that_cannot_be_read_are_said_and_change_nothing() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = proxy(&replica);
    assert_eq!(proxy.configure("uri_bytes=100"), "");
    let said = proxy.configure("uri_bytes=100000000");
    assert!(said.contains("uri_bytes must be"), "{said}");
    assert_eq!(
        proxy.client().get(&format!("/{}", "a".repeat(200))).status,
        414
    );
}

#[test]
fn fewer_connections_refuse_those_that_come_and_end_none_that_is_there() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = proxy(&replica);
    let mut alive: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut alive {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(proxy.configure("connections=2"), "");
    assert!(proxy.client().is_closed());
    for client in &mut alive {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(proxy.configure(""), "");
    assert_eq!(proxy.client().get("/").status, 200);
}

#[test]
fn a_shorter_look_at_connections_ends_none_that_the_longer_one_let_be() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = proxy(&replica);
    let mut alive = proxy.client();
    assert_eq!(alive.get("/").status, 200);
    // Each makes ticks of another length, by which nobody may have waited for too long.
    for limits in [
        "header_read_s=0.05",
        "",
        "body_idle_s=0.1",
        "half_close_s=0.01",
        "",
    ] {
        assert_eq!(proxy.configure(limits), "");
        assert_eq!(alive.get("/").status, 200, "{limits}");
    }
    assert_eq!(proxy.counter("connections_idle"), 0);
}

#[test]
fn open_streams_of_http2_go_on_and_new_ones_are_answered() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = proxy(&replica);
    let mut client = Raw::connect(proxy.http2);
    client.get(1);
    assert_eq!(client.answer(1).0, 200);
    let narrow = "h2_stream_window_bytes=65535 h2_connection_window_bytes=65535 h2_windows_bytes=0 h2_streams=1";
    for (stream, limits) in [
        (3, narrow),
        (5, ""),
        (7, "h2_resets=1 h2_control_frames=100"),
    ] {
        assert_eq!(proxy.configure(limits), "");
        client.get(stream);
        assert_eq!(client.answer(stream).0, 200, "{limits}");
    }
}
