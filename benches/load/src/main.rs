//! `eagleray-bench-load`: closed-loop HTTP/1.1 load over keep-alive connections, one thread, one line of JSON. Or messages
//! of WebSockets that are echoed, and either over TLS.
//!
//! It sits beside the server on a machine of two cores, so what it costs itself decides what can be measured: one
//! thread on epoll, one write and one read a request, no allocation a request.

mod connection;
mod engine;
mod histogram;
mod response;
mod stream;
mod websocket;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

use engine::{Engine, Limit};
use stream::Dial;
use websocket::WebSocket;

#[derive(Debug, Parser)]
#[command(about = "Closed-loop HTTP/1.1 load over keep-alive connections; prints one line of JSON")]
struct Options {
    /// Where to connect, as address:port.
    address: SocketAddr,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Measure this many requests instead.
    #[arg(long)]
    requests: Option<u64>,
    /// Load before the measurement begins.
    #[arg(long, default_value_t = 0.0)]
    warmup: f64,
    #[arg(long, default_value = "GET")]
    method: String,
    #[arg(long, default_value = "/")]
    path: String,
    /// The body, or @FILE.
    #[arg(long, default_value = "")]
    body: String,
    /// NAME: VALUE, may be repeated.
    #[arg(long)]
    header: Vec<String>,
    /// Count equal response bodies (the first 64 distinct ones).
    #[arg(long)]
    tally: bool,
    /// Over TLS, whatever the certificate.
    #[arg(long)]
    tls: bool,
    /// Messages of a WebSocket of so many bytes, instead of requests; each is to come back.
    #[arg(long)]
    websocket: Option<usize>,
    /// They are compressed, and what comes back may be.
    #[arg(long, requires = "websocket")]
    compress: bool,
}

impl Options {
    fn request(&self) -> io::Result<Vec<u8>> {
        let body = match self.body.strip_prefix('@') {
            Some(path) => fs::read(path)?,
            None => self.body.as_bytes().to_vec(),
        };
        let mut lines = vec![
            format!("{} {} HTTP/1.1", self.method, self.path),
            format!("Host: {}", self.address),
        ];
        lines.extend(self.header.iter().cloned());
        if !body.is_empty() || self.method == "POST" {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        let mut request = lines.join("\r\n");
        request.push_str("\r\n\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(&body);
        Ok(request)
    }
}

fn run(options: &Options) -> io::Result<()> {
    let limit = match options.requests {
        Some(requests) => Limit::Requests(requests),
        None => Limit::Time(Duration::from_secs_f64(options.seconds)),
    };
    let websocket = options
        .websocket
        .map(|bytes| WebSocket::new(&options.path, bytes, options.compress));
    let request = match &websocket {
        Some(websocket) => websocket.message.clone(),
        None => options.request()?,
    };
    let dial = Dial::new(options.address, options.tls, websocket);
    let mut engine = Engine::new(dial, request, options.connections, options.tally)?;
    if options.warmup > 0.0 {
        engine.run(Limit::Time(Duration::from_secs_f64(options.warmup)))?;
    }
    let report = engine.run(limit)?;
    let mut line = serde_json::to_vec(&report)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if stderr is closed.
            drop(writeln!(
                io::stderr(),
                "error: {}: {error}",
                options.address
            ));
            ExitCode::FAILURE
        }
    }
}
