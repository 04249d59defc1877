use std::{
    fs::File,
    io::{ErrorKind, IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use rustix::{
    io::FdFlags,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};

use super::{check_peer, peer_uid, recv_with_fd, send_with_fd};

fn pipe() -> (File, File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (read.into(), write.into())
}

#[test]
fn a_descriptor_arrives_beside_its_bytes_and_is_close_on_exec() {
    let (here, there) = UnixStream::pair().unwrap();
    let (mut read, write) = pipe();
    send_with_fd(&here, b"hello", write.as_fd()).unwrap();
    drop(write);
    let mut buffer = [0; 64];
    let (bytes, fd) = recv_with_fd(&there, &mut buffer).unwrap();
    assert_eq!(&buffer[..bytes], b"hello");
    let fd = fd.expect("a descriptor came");
    assert!(
        rustix::io::fcntl_getfd(&fd)
            .unwrap()
            .contains(FdFlags::CLOEXEC)
    );
    let mut write = File::from(fd);
    write.write_all(b"through").unwrap();
    drop(write);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[test]
fn plain_bytes_come_without_a_descriptor() {
    let (mut here, there) = UnixStream::pair().unwrap();
    here.write_all(b"plain").unwrap();
    let (bytes, fd) = recv_with_fd(&there, &mut [0; 64]).unwrap();
    assert_eq!((bytes, fd.is_none()), (5, true));
}

#[test]
fn a_read_does_not_run_into_the_next_descriptor() {
    let (here, there) = UnixStream::pair().unwrap();
    let (_read, write) = pipe();
    send_with_fd(&here, b"first", write.as_fd()).unwrap();
    send_with_fd(&here, b"second", write.as_fd()).unwrap();
    for length in [5, 6] {
        let (bytes, fd) = recv_with_fd(&there, &mut [0; 64]).unwrap();
        assert_eq!((bytes, fd.is_some()), (length, true));
    }
}

#[test]
fn the_end_of_the_stream_is_zero_bytes() {
    let (here, there) = UnixStream::pair().unwrap();
    drop(here);
    let (bytes, fd) = recv_with_fd(&there, &mut [0; 8]).unwrap();
    assert_eq!((bytes, fd.is_none()), (0, true));
}

#[test]
fn a_closed_peer_is_an_error_not_a_signal() {
    let (here, there) = UnixStream::pair().unwrap();
    drop(there);
    let (_read, write) = pipe();
    assert_eq!(
        send_with_fd(&here, b"x", write.as_fd()).unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
}

#[test]
fn a_full_nonblocking_socket_says_so() {
    let (mut here, _there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    while here.write(&[0; 4096]).is_ok() {}
    let (_read, write) = pipe();
    assert_eq!(
        send_with_fd(&here, b"x", write.as_fd()).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn a_descriptor_without_bytes_is_refused() {
    let (here, _there) = UnixStream::pair().unwrap();
    assert_eq!(
        send_with_fd(&here, b"", here.as_fd()).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn surplus_descriptors_of_a_hostile_peer_are_closed() {
    let (here, there) = UnixStream::pair().unwrap();
    let (mut read, write) = pipe();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: [BorrowedFd<'_>; 8] = [write.as_fd(); 8];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(
        &here,
        &[IoSlice::new(b"x")],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .unwrap();
    drop(write);
    let (_, fd) = recv_with_fd(&there, &mut [0; 8]).unwrap();
    drop(fd.expect("the first is kept"));
    // End of file: no copy of the write end is left in this process.
    assert_eq!(read.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn the_peer_has_our_user_id() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(peer_uid(&server).unwrap(), uid);
    assert_eq!(peer_uid(&client).unwrap(), uid);
}

#[test]
fn one_who_connects_to_another_users_socket_sends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let ours = UnixListener::bind(&path).unwrap();
    check_peer(UnixStream::connect(&path).unwrap()).unwrap();
    drop(ours);
    std::fs::remove_file(&path).unwrap();
    if !rustix::process::geteuid().is_root() {
        // Only root can be somebody else.
        return;
    }
    let everybody = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
    std::fs::set_permissions(directory.path(), everybody).unwrap();
    // The user id is the thread's own, and ends with it.
    let theirs = path.clone();
    let listener = std::thread::spawn(move || {
        let other = rustix::process::Uid::from_raw(12345);
        rustix::thread::set_thread_res_uid(other, other, other).unwrap();
        UnixListener::bind(theirs).unwrap()
    });
    let _listener = listener.join().unwrap();
    let error = check_peer(UnixStream::connect(&path).unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("user 12345"), "{error}");
}
