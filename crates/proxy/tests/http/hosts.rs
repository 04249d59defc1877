//! `allowed_hosts`: whoever asks for another host is not served, by whichever protocol.

use std::io::{Read, Write};

use eagleray_proxy::Options;

use crate::support::{Proxy, Replica, answer_all, raw, raw::Raw, target};

fn proxy(replica: &Replica, hosts: &[&str]) -> Proxy {
    let mut proxy = Proxy::with(Options {
        threads: 1.try_into().unwrap(),
        allowed_hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        ..Options::default()
    });
    proxy.snapshot(&[("/", target("D", &[replica]))]);
    proxy
}

fn status(proxy: &Proxy, request: &str) -> (u16, String) {
    let mut client = proxy.client();
    client.send(request);
    let response = client.response();
    (response.status, response.text().to_owned())
}

#[test]
fn a_request_for_another_host_is_421_in_words() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = proxy(&replica, &["localhost", "*.shop.test"]);
    for host in ["localhost", "LOCALHOST:8000", "a.shop.test:80"] {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(status(&proxy, &request).0, 200, "{host}");
    }
    for request in [
        "GET / HTTP/1.1\r\nhost: evil.test\r\n\r\n",
        "GET /-/routes HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n\r\n",
        "GET http://evil.test/ HTTP/1.1\r\nhost: evil.test\r\n\r\n",
        "GET http://evil.test/ HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: evil.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: evil.test\r\ncontent-length: 9\r\n\r\n",
    ] {
        let (status, text) = status(&proxy, request);
        assert_eq!(status, 421, "{request}");
        assert!(text.contains("allowed_hosts"), "{text}");
    }
    assert_eq!(proxy.counter("hosts_refused"), 8);
    // What asks for health knows an address at most.
    let health = "GET /-/healthz HTTP/1.1\r\nhost: 10.1.2.3:8000\r\n\r\n";
    assert_eq!(status(&proxy, health), (200, "success".to_owned()));
}

#[test]
fn a_stream_for_another_host_is_421_and_its_connection_goes_on() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = proxy(&replica, &["test"]);
    let mut client = Raw::connect(proxy.http2);
    let mut fields = raw::GET.to_vec();
    fields[3] = (":authority", "evil.test");
    client.head(1, raw::END_STREAM, &fields);
    let (status, text) = client.answer(1);
    assert_eq!(status, 421, "{text:?}");
    client.get(3);
    assert_eq!(client.expect_on(3, raw::HEADERS).status(), 200);
}

#[test]
fn without_a_list_any_host_will_do() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = proxy(&replica, &[]);
    let request = "GET / HTTP/1.1\r\nhost: evil.test\r\n\r\n";
    assert_eq!(status(&proxy, request).0, 200);
    let mut stream = std::net::TcpStream::connect(proxy.address).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
}
