//! A front proxy as a child process, told to let through what it can; and answers, cut from a stream of bytes.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::PATIENCE;

/// As open as it can be. It waits a second for the rest of what it does not take for a whole request.
const NGINX: &str = "
daemon off;
master_process off;
pid DIRECTORY/pid;
error_log DIRECTORY/errors;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path DIRECTORY/bodies;
    proxy_temp_path DIRECTORY/answers;
    fastcgi_temp_path DIRECTORY/f;
    uwsgi_temp_path DIRECTORY/u;
    scgi_temp_path DIRECTORY/s;
    client_header_timeout 1s;
    client_body_timeout 1s;
    keepalive_timeout 1s;
    lingering_close off;
    large_client_header_buffers 8 128k;
    client_max_body_size 0;
    underscores_in_headers on;
    ignore_invalid_headers off;
    merge_slashes off;
    upstream ours { server UPSTREAM; keepalive 1; }
    server {
        listen ADDRESS;
        location / {
            proxy_pass http://ours;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_set_header Host $http_host;
            proxy_request_buffering off;
            proxy_next_upstream off;
        }
    }
}
";
/// The same for `HAProxy`.
const HAPROXY: &str = "
global
    nbthread 1
    maxconn 256
    tune.bufsize 131072
    tune.http.maxhdr 1000
defaults
    mode http
    option accept-invalid-http-request
    http-reuse always
    timeout connect 10s
    timeout client 1s
    timeout http-request 1s
    timeout http-keep-alive 1s
    timeout server 10s
listen front
    bind ADDRESS
    server ours UPSTREAM pool-purge-delay 1h
";

/// A running front proxy, ended when it is dropped.
pub(super) struct Front {
    pub(super) address: SocketAddr,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Front {
    /// nginx before `upstream`; `None` if it is not installed.
    pub(super) fn nginx(upstream: SocketAddr) -> Option<Self> {
        Self::start("nginx", &["-e", "stderr", "-c"], NGINX, upstream)
    }

    /// `HAProxy` before `upstream`; `None` if it is not installed.
    pub(super) fn haproxy(upstream: SocketAddr) -> Option<Self> {
        Self::start("haproxy", &["-db", "-f"], HAPROXY, upstream)
    }

    fn start(name: &str, options: &[&str], config: &str, upstream: SocketAddr) -> Option<Self> {
        let program = find(name)?;
        // Neither takes port 0, and a port that is free now may be taken a moment later.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("config");
            let text = config
                .replace("DIRECTORY", directory.path().to_str().unwrap())
                .replace("UPSTREAM", &upstream.to_string())
                .replace("ADDRESS", &address.to_string());
            std::fs::write(&file, text).unwrap();
            let child = Command::new(&program)
                .args(options)
                .arg(&file)
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let mut front = Self {
                address,
                child,
                _directory: directory,
            };
            if front.is_up() {
                return Some(front);
            }
        }
        panic!("{name} does not start");
    }

    /// Waits until it takes connections; false if it has ended.
    fn is_up(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where a program is, among what PATH names and where Debian keeps servers.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder: PathBuf| folder.join(name))
        .find(|program: &PathBuf| Path::is_file(program))
}

/// What came back for one request.
#[derive(Debug)]
pub(super) struct Answer {
    /// 9 for the bare text with which HTTP/0.9 is answered.
    status: u16,
    body: String,
}

impl Answer {
    /// The path that the replica answered, if it was the replica that answered.
    pub(super) fn path(&self) -> Option<&str> {
        ([9, 200].contains(&self.status) && self.body.starts_with(['/', '*'])).then_some(&self.body)
    }
}

/// All answers of a connection, without those that are only on their way (1xx).
pub(super) fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (answer, rest) = first_answer(bytes);
        if answer.status == 9 || answer.status >= 200 {
            found.push(answer);
        }
        bytes = rest;
    }
    found
}

fn first_answer(bytes: &[u8]) -> (Answer, &[u8]) {
    let bare = || Answer {
        status: 9,
        body: String::from_utf8_lossy(bytes).into_owned(),
    };
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some((head, rest)) = end.map(|at| bytes.split_at(at + 4)) else {
        return (bare(), &[]);
    };
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut lines = head.lines();
    let Some(status) = lines
        .next()
        .and_then(|line| line.strip_prefix("http/1."))
        .and_then(|line| line.get(2..5)?.parse().ok())
    else {
        return (bare(), &[]);
    };
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    assert_eq!(
        field("transfer-encoding"),
        None,
        "short answers have a length"
    );
    let length = field("content-length").map_or(rest.len(), |text| text.parse().unwrap());
    let length = if status < 200 {
        0
    } else {
        length.min(rest.len())
    };
    let (body, rest) = rest.split_at(length);
    let body = String::from_utf8_lossy(body).into_owned();
    (Answer { status, body }, rest)
}
