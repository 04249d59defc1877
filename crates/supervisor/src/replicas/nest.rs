//! What a zygote and the node say to each other, on a socket that keeps messages apart.
//!
//! A replica's process that may become a zygote says one of these when it has imported the replica's code: `R`, it can be
//! forked and is no replica any more, or `U` and why it cannot (nothing: its import failed): then it is the replica that
//! it was started as, and closes the socket. A zygote is asked for one fork at a time: the message is the replica's id,
//! and beside it are the descriptors that the replica is to have. It answers `F` and the number of the process, or `E` and
//! why there is none. The end of the socket is the end of the zygote.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use eagleray_wire::send_with_fds;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use tokio::io::{Interest, unix::AsyncFd};

use super::berth::{Berth, file_of};
use crate::descriptor::number;

/// Longer words are cut.
const MOST_BYTES: usize = 4096;

/// The ends of the process.
pub(super) struct Nest {
    socket: OwnedFd,
    /// The command that it would be started with, as the replica that it is started as.
    command: File,
    /// What stands for it in the environment, in the place of a replica's id: as long, and no replica's.
    id: String,
}

impl Nest {
    pub(super) fn variable(&self) -> String {
        let (socket, command) = (number(&self.socket), number(&self.command));
        format!("{socket}:{command}:{}", self.id)
    }

    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.socket.as_fd(), self.command.as_fd()]
    }
}

/// The node's end.
#[derive(Debug)]
pub(super) struct Line(AsyncFd<OwnedFd>);

/// What the process says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    CanFork,
    CannotFork(String),
    Forked(u32),
    NotForked(String),
}

/// Makes both ends.
pub(super) fn make(first_command: &[u8], id: String) -> io::Result<(Nest, Line)> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let nest = Nest {
        socket: theirs,
        command: file_of("eagleray-start", first_command)?,
        id,
    };
    Ok((nest, Line::register(ours)?))
}

impl Line {
    #[expect(
        unsafe_code,
        reason = "tokio asks for a promise about the descriptor that an owned one keeps by its type"
    )]
    fn register(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open and refers to the same file until it is dropped, which the `AsyncFd` does,
        // and its `as_raw_fd` always returns the same number.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// The next word; `None` when there will be no more, or it is none. Cancel safe.
    pub(super) async fn next(&self) -> Option<Word> {
        let mut buffer = [0; MOST_BYTES];
        loop {
            let mut ready = self.0.readable().await.ok()?;
            let received = ready.try_io(|socket| {
                Ok(recv(socket.get_ref(), &mut buffer[..], RecvFlags::empty())?.0)
            });
            if let Ok(received) = received {
                return Word::parse(buffer.get(..received.ok()?)?);
            }
        }
    }

    /// Asks for a fork. Not sent: the process does not read, or is gone.
    pub(super) fn ask(&self, replica_id: &str, berth: &Berth) -> io::Result<()> {
        let listener = berth.listener.as_ref().map(AsFd::as_fd);
        let fds: Vec<_> = [&berth.stdout, &berth.stderr]
            .map(AsFd::as_fd)
            .into_iter()
            .chain([berth.control.as_fd()])
            .chain(listener)
            .collect();
        send_with_fds(self.0.get_ref(), replica_id.as_bytes(), &fds)
    }
}

impl Word {
    fn parse(message: &[u8]) -> Option<Self> {
        let (kind, rest) = message.split_first()?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        Some(match kind {
            b'R' => Self::CanFork,
            b'U' => Self::CannotFork(text()),
            b'F' => Self::Forked(text().parse().ok()?),
            b'E' => Self::NotForked(text()),
            _ => return None,
        })
    }
}
