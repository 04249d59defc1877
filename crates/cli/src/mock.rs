//! A control port for tests: answers in the order that they were given, and remembers what it was asked.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::mpsc::{self, Receiver},
    thread,
};

use crate::{api::Api, find::Found};

/// `POST /path?query` with its headers, and its body.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

#[derive(Debug)]
pub(crate) struct Mock {
    pub(crate) api: Api,
    asked: Receiver<Asked>,
}

impl Mock {
    /// Answers one connection with each of these: status and body.
    pub(crate) fn new(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let (send, asked) = mpsc::channel();
        thread::spawn(move || {
            for (status, body) in answers {
                let Ok((mut stream, _)) = listener.accept() else {
                    return;
                };
                let Some(request) = read(&mut BufReader::new(&stream)) else {
                    return;
                };
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                if stream.write_all((head + &body).as_bytes()).is_err()
                    || send.send(request).is_err()
                {
                    return;
                }
            }
        });
        let api = Api::to(Found {
            address,
            token: Some("secret".to_owned()),
            token_from: "the test".to_owned(),
            local: true,
        });
        Self { api, asked }
    }

    /// What was asked, in order. All answers were taken.
    pub(crate) fn asked(self) -> Vec<Asked> {
        self.asked.iter().collect()
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader
            .read_line(&mut line)
            .ok()
            .filter(|length| *length > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked {
        line,
        headers: lines,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
