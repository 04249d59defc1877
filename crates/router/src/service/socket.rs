//! A connection's socket, in two directions that are watched apart.
//!
//! Reading is watched always, writing only while the socket is full. Where both are watched, as the runtime's own
//! `UnixStream` does, the kernel tells whenever the other side has read something: that woke this thread once more for
//! every call, with nothing to do.
//!
//! A child that this process forks has no copy of it: the other side must see the end of this process by the end of file.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    os::unix::net::UnixStream,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use eagleray_wire::{
    LongFrame,
    fork::{self, Listed},
    widen,
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};
use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor that is closed in forked children. A process with more than fit into their list forks none: a proxy.
#[derive(Debug)]
struct Socket {
    _listed: Option<Listed>,
    descriptor: OwnedFd,
}

impl Socket {
    fn new(descriptor: OwnedFd) -> Arc<Self> {
        Arc::new(Self {
            _listed: fork::list(&descriptor),
            descriptor,
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Makes both directions of a nonblocking socket.
pub(super) fn split(stream: UnixStream) -> io::Result<(Reader, Writer)> {
    widen(&stream);
    let socket = Socket::new(OwnedFd::from(stream));
    let reader = Reader {
        socket: watch(Arc::clone(&socket), Interest::READABLE)?,
    };
    let full = None;
    Ok((reader, Writer { socket, full }))
}

/// Lets the runtime watch a descriptor, for one direction.
#[expect(
    unsafe_code,
    reason = "the runtime cannot know that a descriptor stays open"
)]
fn watch(descriptor: Arc<Socket>, interest: Interest) -> io::Result<AsyncFd<Arc<Socket>>> {
    // SAFETY: a `Socket` is open and names the same file until it is dropped; this one is not dropped while there is an
    // `Arc` of it, and the `AsyncFd` has one. It is always the same one: nobody changes what the `AsyncFd` holds.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    registered.map_err(io::Error::from)
}

/// What comes in.
#[derive(Debug)]
pub(super) struct Reader {
    socket: AsyncFd<Arc<Socket>>,
}

impl Reader {
    /// Waits, then reads what has come and has room in `buffer`. 0: nothing will come any more.
    ///
    /// Cancel safe: nothing has been read then.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.readable().await?;
            match recv(self.socket.get_ref(), &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    if length < buffer.len() {
                        // All there was: what comes later is told anew.
                        ready.clear_ready();
                    }
                    return Ok(length);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The same of a long frame.
    pub(super) async fn read_long(&self, frame: &mut LongFrame) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.readable().await?;
            match frame.receive(self.socket.get_ref(), RecvFlags::DONTWAIT) {
                Ok(length) => {
                    if !frame.is_full() {
                        ready.clear_ready();
                    }
                    return Ok(length);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The same to the end of `buffer`, at most `most` bytes. When it is cancelled `buffer` is of no more use.
    pub(super) async fn read_more(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        let before = buffer.len();
        buffer.resize(before + most, 0);
        let read = self.read(&mut buffer[before..]).await;
        buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }
}

/// What goes out. The other side is told of the end when it is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    socket: Arc<Socket>,
    /// While the socket is full: tells when it is not. A descriptor of its own, because epoll takes each only once.
    full: Option<AsyncFd<Arc<Socket>>>,
}

impl Writer {
    /// Writes what the socket takes at once.
    ///
    /// # Errors
    /// `WouldBlock`: nothing; and whatever is wrong with the connection.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(
                &*self.socket,
                bytes,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent?),
            }
        }
    }

    /// Writes what the socket takes; pending: nothing, and the task is woken when it takes more.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                let mut ready = ready!(full.poll_write_ready(context))?;
                match self.try_write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                    written => return Poll::Ready(written),
                }
                continue;
            }
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let own = Socket::new(self.socket.descriptor.try_clone()?);
                    self.full = Some(watch(own, Interest::WRITABLE)?);
                }
                written => return Poll::Ready(written),
            }
        }
    }

    /// Nothing is left to be written: until the socket is full again nobody watches.
    pub(super) fn drained(&mut self) {
        self.full = None;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It fails when the other side is gone, and then there is nobody to tell.
        shutdown(&*self.socket, Shutdown::Write).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Read, time::Duration};

    use super::*;

    /// Longer than any socket buffer.
    const LONG: usize = 8 << 20;

    fn pair() -> (Reader, Writer, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (reader, writer) = split(ours).unwrap();
        (reader, writer, theirs)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), test)
                .await
                .unwrap();
        });
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 / 7) as u8).collect()
    }

    async fn write_all(writer: &mut Writer, data: &[u8]) {
        let mut at = 0;
        while at < data.len() {
            at += poll_fn(|context| writer.poll_write(context, &data[at..]))
                .await
                .unwrap();
        }
    }

    #[test]
    fn a_full_socket_is_watched_until_it_is_drained_and_loses_nothing() {
        run(async {
            let (_reader, mut writer, mut theirs) = pair();
            let data = bytes(LONG);
            for _ in 0..3 {
                // Nobody reads before it is full.
                let mut at = 0;
                while let Poll::Ready(written) =
                    poll_fn(|context| Poll::Ready(writer.poll_write(context, &data[at..]))).await
                {
                    at += written.unwrap();
                }
                assert!(writer.full.is_some() && at < LONG);
                let reading = std::thread::spawn(move || {
                    let mut got = vec![0; LONG];
                    theirs.read_exact(&mut got).unwrap();
                    (got, theirs)
                });
                write_all(&mut writer, &data[at..]).await;
                assert!(writer.full.is_some());
                writer.drained();
                assert!(writer.full.is_none());
                let (got, again) = reading.join().unwrap();
                theirs = again;
                assert!(got == data);
            }
        });
    }

    #[test]
    fn a_full_socket_takes_nothing_and_says_so() {
        run(async {
            let (_reader, mut writer, theirs) = pair();
            let data = bytes(LONG);
            while writer.try_write(&data).is_ok() {}
            let error = writer.try_write(&data).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            let once = poll_fn(|context| Poll::Ready(writer.poll_write(context, &data))).await;
            assert!(once.is_pending());
            drop(theirs);
            let ended = poll_fn(|context| writer.poll_write(context, &data)).await;
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn what_comes_is_read_to_its_end_in_pieces_of_any_size() {
        run(async {
            for most in [1000, 8192, 1 << 20] {
                let (reader, _writer, theirs) = pair();
                let writing = std::thread::spawn(move || {
                    let mut theirs = theirs;
                    std::io::Write::write_all(&mut theirs, &bytes(LONG)).unwrap();
                });
                let mut buffer = BytesMut::new();
                while reader.read_more(&mut buffer, most).await.unwrap() > 0 {}
                writing.join().unwrap();
                assert!(buffer == bytes(LONG));
            }
        });
    }

    #[test]
    fn the_other_side_hears_of_the_end_of_the_writer() {
        run(async {
            let (_reader, writer, mut theirs) = pair();
            writer.try_write(b"last").unwrap();
            drop(writer);
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).unwrap();
            assert_eq!(got, b"last");
        });
    }

    #[test]
    fn reading_wakes_when_something_comes_later() {
        run(async {
            let (reader, _writer, mut theirs) = pair();
            let mut buffer = BytesMut::new();
            for round in 0..100_u8 {
                let writing = std::thread::spawn(move || {
                    std::io::Write::write_all(&mut theirs, &[round; 3]).unwrap();
                    theirs
                });
                while buffer.len() < 3 {
                    assert_ne!(reader.read_more(&mut buffer, 64).await.unwrap(), 0);
                }
                assert_eq!(&buffer[..], &[round; 3]);
                buffer.clear();
                theirs = writing.join().unwrap();
            }
        });
    }
}
