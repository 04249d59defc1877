//! Nodes of this machine: which one is meant, and one call to it or its controller, with a time limit.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use eagleray_supervisor::{
    environment,
    run_directory::{self, NodeRecord},
};
use eagleray_wire::{Decoder, Frame, Kind, check_peer};
use prost::Message;

use crate::{
    exit::Exit,
    trouble::{Outcome, Trouble},
};

/// Name of the resident node that the command line means.
pub const NODE_NAME: &str = "EAGLERAY_NODE_NAME";
pub const DEFAULT_NAME: &str = "default";
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Sends `request` and returns the first answer.
pub fn call<A: Message + Default>(socket: &Path, request: &impl Message) -> Result<A, String> {
    let describe = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!(
                "{} did not answer within {ANSWER_WITHIN:?}",
                socket.display()
            )
        }
        _ => format!("{}: {error}", socket.display()),
    };
    let answer = exchange(socket, request.encode_to_vec()).map_err(describe)?;
    A::decode(answer)
        .map_err(|error| format!("{}: the answer cannot be read: {error}", socket.display()))
}

fn exchange(socket: &Path, request: Vec<u8>) -> io::Result<Bytes> {
    let mut stream = UnixStream::connect(socket)?;
    check_peer(&stream)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let mut out = BytesMut::new();
    Frame::control(1, request).encode(&mut out);
    stream.write_all(&out)?;
    let mut buffer = BytesMut::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let frame = Decoder::control()
            .decode(&mut buffer)
            .map_err(|error| io::Error::other(error.to_string()))?;
        if let Some(frame) = frame.filter(|frame| frame.header.kind == Kind::Control) {
            return Ok(frame.payload);
        }
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => buffer.extend_from_slice(chunk.get(..length).unwrap_or_default()),
        }
    }
}

pub fn default_node_name() -> String {
    environment::set(NODE_NAME).unwrap_or_else(|| DEFAULT_NAME.to_owned())
}

/// The node that is meant: the one of that name; without a name the default one, else the only one that runs.
pub(crate) fn find(name: Option<&str>) -> Outcome<NodeRecord> {
    let root = run_directory::root();
    let mut records = run_directory::records(&root);
    let wanted = name.map_or_else(default_node_name, str::to_owned);
    if let Some(at) = records.iter().position(|record| record.name == wanted) {
        return Ok(records.swap_remove(at));
    }
    if name.is_none()
        && records.len() == 1
        && let Some(only) = records.pop()
    {
        return Ok(only);
    }
    let others: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    let others = if others.is_empty() {
        "none runs".to_owned()
    } else {
        format!("running: {}", others.join(", "))
    };
    let message = format!("no node {wanted:?} runs ({others})");
    Err(Trouble::new(Exit::Missing, "no_node", message).help("start one with `eagleray start`"))
}
