//! A client of raw bytes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::PATIENCE;

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// The last head said that the connection ends; in HTTP/1.0 saying nothing says that.
    pub(crate) is_told_to_end: bool,
    /// How long it waits before it reads.
    pub(crate) pause: Duration,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body broke off.
    pub(crate) cut: bool,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
            is_told_to_end: false,
            pause: Duration::ZERO,
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
        self.response()
    }

    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Response {
        self.send(format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ));
        self.send(body);
        self.response()
    }

    /// Reads a response with its body.
    pub(crate) fn response(&mut self) -> Response {
        self.response_to(false)
    }

    /// Reads a response; `is_head`: it has no body whatever it says.
    pub(crate) fn response_to(&mut self, is_head: bool) -> Response {
        let mut response = self.head();
        if is_head || response.status < 200 || response.status == 204 {
            return response;
        }
        if response.header("transfer-encoding").is_some() {
            loop {
                match self.chunk() {
                    Some(chunk) if chunk.is_empty() => break,
                    Some(chunk) => response.body.extend(chunk),
                    None => {
                        response.cut = true;
                        break;
                    }
                }
            }
        } else if let Some(length) = response
            .header("content-length")
            .map(|text| text.parse::<usize>().unwrap())
        {
            while self.buffer.len() < length && self.fill() {}
            response.cut = self.buffer.len() < length;
            response.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else {
            while self.fill() {}
            response.body = std::mem::take(&mut self.buffer);
        }
        response
    }

    /// So many bytes; `None`: the connection ends before.
    pub(crate) fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// Reads a head.
    pub(crate) fn head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at;
            }
            assert!(
                self.fill(),
                "closed inside a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let response = Response {
            status,
            headers,
            body: Vec::new(),
            cut: false,
        };
        let said = response.header("connection");
        self.is_told_to_end = if head.starts_with("HTTP/1.0") {
            said != Some("keep-alive")
        } else {
            said == Some("close")
        };
        response
    }

    /// Sends what the proxy takes; one that has answered and closed takes no more.
    pub(crate) fn send_all(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// Reads a response with its body, past any 100; `None` if the connection ended before it, 0 if nothing came
    /// within a time that is long for a proxy.
    pub(crate) fn status(&mut self) -> Option<u16> {
        loop {
            if self.buffer.is_empty() {
                self.stream
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .unwrap();
                match self.stream.peek(&mut [0]) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(0),
                    _ => {}
                }
                if !self.fill() {
                    return None;
                }
            }
            let response = self.response();
            if response.status != 100 {
                return (!response.cut).then_some(response.status);
            }
        }
    }

    /// Reads one chunk of a chunked body; empty at its end, `None` if it broke off.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line_end = loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if !self.fill() {
                return None;
            }
        };
        let length =
            usize::from_str_radix(std::str::from_utf8(&self.buffer[..line_end]).unwrap(), 16)
                .unwrap();
        self.buffer.drain(..line_end + 2);
        while self.buffer.len() < length + 2 {
            if !self.fill() {
                return None;
            }
        }
        let chunk = self.buffer.drain(..length).collect();
        self.buffer.drain(..2);
        Some(chunk)
    }

    /// Whether the proxy closed the connection, with nothing before it.
    pub(crate) fn is_closed(&mut self) -> bool {
        !self.fill() && self.buffer.is_empty()
    }

    fn fill(&mut self) -> bool {
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        let mut chunk = vec![0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                length > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}
