//! Unix sockets: one message with descriptors beside it, and who is at the other end.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
    },
};

#[cfg(test)]
mod tests;

/// Descriptors beside one message at most.
const MOST: usize = 2;
/// The same, of what is sent to a Python process.
const MOST_SENT: usize = 4;

/// What a socket may hold of what is sent, where the kernel allows it: several long frames.
const SEND_BYTES: usize = 1 << 20;

/// Lets the kernel hold more of what is sent, so that a sender of long frames waits less often. Where it does not, nothing
/// is lost.
pub fn widen(socket: impl AsFd) {
    sockopt::set_socket_send_buffer_size(socket, SEND_BYTES).ok();
}

/// [`send_with_fds`] with one descriptor.
pub fn send_with_fd(socket: impl AsFd, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    send_with_fds(socket, bytes, &[fd])
}

/// [`recv_with_fds`] of a message with one descriptor; others are closed.
pub fn recv_with_fd(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let (length, fds) = recv_with_fds(socket, buffer)?;
    Ok((length, fds.into_iter().next()))
}

/// Sends `bytes` with `fds` (one to four) beside them. `bytes` is short (a HELLO) and not empty, so a partial send is
/// an error.
///
/// # Errors
/// `WouldBlock` on a nonblocking socket that is full; otherwise as `sendmsg(2)`.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a descriptor travels beside bytes, not alone",
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SENT))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for so many descriptors"));
    }
    let socket = socket.as_fd();
    let sent = retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
    })?;
    if sent != bytes.len() {
        return Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "the message was cut",
        ));
    }
    Ok(())
}

/// Receives bytes, and up to two descriptors if they came with them (close-on-exec). Returns 0 bytes at end of file.
///
/// A read ends before bytes that carry other descriptors, so each is met with the message it came with. Of
/// more than two beside one message the first are kept and the others are closed.
pub fn recv_with_fds(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let socket = socket.as_fd();
    let mut slices = [IoSliceMut::new(buffer)];
    let message =
        retry_on_intr(|| recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC))?;
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .take(MOST)
        .collect();
    Ok((message.bytes, fds))
}

/// Fails unless the process at the other end belongs to this user or to root: one who connects asks it before the first
/// byte, so that nobody gets what is meant for us by listening at our path.
pub fn check_peer(socket: impl AsFd) -> io::Result<()> {
    let (theirs, ours) = (peer_uid(socket)?, rustix::process::geteuid().as_raw());
    if theirs == ours || theirs == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "user {theirs} listens there, not this one (user {ours}) or root; nothing was sent"
        ),
    ))
}

/// The user id of the process at the other end, as the kernel recorded it when the connection was made.
pub fn peer_uid(socket: impl AsFd) -> io::Result<u32> {
    Ok(sockopt::socket_peercred(socket)?.uid.as_raw())
}
