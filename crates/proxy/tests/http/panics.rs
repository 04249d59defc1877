//! A panic of ours costs its stream, or its connection, and is counted; the proxy goes on.
//!
//! What panics is the log: here it does that at lines about requests of a certain id. One is written while a head is
//! looked at that breaks a rule, one while an answer is waited for that cannot be read.

use std::{fmt::Debug, time::Instant};

use eagleray_proxy::Options;
use eagleray_wire::{Flags, Kind, RequestHead};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::support::{
    Connection, PATIENCE, Proxy, Replica,
    raw::{self, Raw},
    target,
};

const ID: &str = "the-log-panics-at-this";
/// No head may ask for this.
const AT_ONCE: &str = "/..";
/// The replica says nothing that can be read to this.
const LATER: &str = "/unreadable";

struct PanickingLog;

impl Subscriber for PanickingLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("eagleray_proxy")
    }

    fn event(&self, event: &Event<'_>) {
        struct NamesId(bool);
        impl Visit for NamesId {
            fn record_debug(&mut self, _field: &Field, value: &dyn Debug) {
                self.0 |= format!("{value:?}").contains(ID);
            }
        }
        let mut names_id = NamesId(false);
        event.record(&mut names_id);
        assert!(!names_id.0, "a test asked for this");
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}

fn serve(mut connection: Connection) {
    while let Some(request) = connection.try_frame() {
        if request.header.kind != Kind::Request || !connection.start(&request) {
            continue;
        }
        let Ok((RequestHead::Http(head), _)) = RequestHead::decode(&request.payload) else {
            panic!("not http")
        };
        if head.path == LATER.as_bytes() {
            let whole = Flags::HEAD.with(Flags::END).with(Flags::DONE);
            connection.respond(&request, whole, b"?");
        } else {
            connection.answer(&request, 200, &[], b"hello");
        }
    }
}

fn counted(proxy: &mut Proxy, name: &str, number: u64) {
    let end = Instant::now() + PATIENCE;
    while proxy.counter(name) != number {
        assert!(Instant::now() < end, "{name}: {}", proxy.counter(name));
    }
}

#[test]
fn a_panic_ends_its_stream_or_its_connection_and_nothing_else() {
    tracing::subscriber::set_global_default(PanickingLog).unwrap();
    let replica = Replica::serving("a", 1000, serve);
    let mut proxy = Proxy::with(Options {
        threads: 1.try_into().unwrap(),
        ..Options::default()
    });
    proxy.snapshot(&[("/", target("D", &[&replica]))]);
    let get = |path| {
        let mut fields = raw::GET.to_vec();
        let known = fields.iter_mut().find(|field| field.0 == ":path");
        known.unwrap().1 = path;
        fields.push(("x-request-id", ID));
        fields
    };
    let mut client = Raw::connect(proxy.http2);
    client.head(1, raw::END_STREAM, &get(LATER));
    client.expect_on(1, raw::RST_STREAM);
    client.get(3);
    assert_eq!(
        client.answer(3).0,
        200,
        "the others of its connection go on"
    );
    counted(&mut proxy, "panics", 1);
    let mut ended = Raw::connect(proxy.http2);
    ended.head(1, raw::END_STREAM, &get(AT_ONCE));
    while ended.next().is_some() {}
    counted(&mut proxy, "panics", 2);
    for (number, path) in [(3, AT_ONCE), (4, LATER)] {
        let mut plain = proxy.client();
        plain.send(format!(
            "GET {path} HTTP/1.1\r\nhost: test\r\nx-request-id: {ID}\r\n\r\n"
        ));
        assert!(plain.is_closed(), "HTTP/1.1 has one request at a time");
        counted(&mut proxy, "panics", number);
    }
    client.get(5);
    assert_eq!(client.answer(5).0, 200);
    drop(client);
    counted(&mut proxy, "connections_open", 0);
}
