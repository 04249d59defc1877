//! A panic of ours costs its stream, or its connection, and is counted; the proxy goes on.

use std::time::Instant;

use eagleray_proxy::Options;

use crate::conformance::answer_when_whole;
use crate::support::{
    PATIENCE, Proxy, Replica,
    raw::{self, Raw},
    target,
};

fn counted(proxy: &mut Proxy, name: &str, number: u64) {
    let end = Instant::now() + PATIENCE;
    while proxy.counter(name) != number {
        assert!(Instant::now() < end, "{name}: {}", proxy.counter(name));
    }
}

#[test]
fn a_panic_ends_its_stream_or_its_connection_and_nothing_else() {
    let replica = Replica::serving("a", 1000, answer_when_whole);
    let mut proxy = Proxy::with(Options {
        threads: 1.try_into().unwrap(),
        test_panic_path: Some("/panic"),
        ..Options::default()
    });
    proxy.snapshot(&[("/", target("D", &[&replica]))]);
    let path = |path| {
        let mut fields = raw::GET.to_vec();
        let known = fields.iter_mut().find(|field| field.0 == ":path");
        known.unwrap().1 = path;
        fields
    };
    let mut client = Raw::connect(proxy.http2);
    client.head(1, raw::END_STREAM, &path("/panic/later"));
    client.expect_on(1, raw::RST_STREAM);
    client.get(3);
    assert_eq!(
        client.answer(3).0,
        200,
        "the others of its connection go on"
    );
    counted(&mut proxy, "panics", 1);
    let mut ended = Raw::connect(proxy.http2);
    ended.head(1, raw::END_STREAM, &path("/panic"));
    while ended.next().is_some() {}
    counted(&mut proxy, "panics", 2);
    for (number, path) in [(3, "/panic"), (4, "/panic/later")] {
        let mut plain = proxy.client();
        plain.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        assert!(plain.is_closed(), "HTTP/1.1 has one request at a time");
        counted(&mut proxy, "panics", number);
    }
    client.get(5);
    assert_eq!(client.answer(5).0, 200);
    drop(client);
    counted(&mut proxy, "connections_open", 0);
}
