//! One connection to one replica: connect, HELLO, then read until it ends.
//!
//! A replica that cannot be reached is tried again, with growing pauses, for as long as the targets list it: only
//! proof of death takes it off them, and that proof comes to the controller, not to us. After a second it is reported,
//! and the controller sees for itself.

use std::{
    future::poll_fn,
    io,
    os::fd::AsFd,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{
    ClaimPage, Decoder, Flags, Frame, HEADER_BYTES, Header, Kind, LongFrame, PROTOCOL_VERSION,
    check_peer, recv_with_fds, region::Channel,
};
use tokio::{io::Interest, net::UnixStream};

use super::{
    Handle,
    socket::{self, Reader, Writer},
};
use crate::core::ConnectionKey;

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Before the next connection to a replica whose last one ended less than the longest pause ago.
const AFTER_END: Duration = Duration::from_millis(50);
/// How long a replica that cannot be reached is nobody's business but ours, and how often it is said from then on.
const REPORT_AFTER: Duration = Duration::from_secs(1);
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How long a replica may take to answer HELLO.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Room for one read. Answers of a whole turn come in one.
const READ_BYTES: usize = 64 * 1024;
/// While less than this comes at once, no more is asked for: the room is zeroed before it is read into.
const SHORT_READ_BYTES: usize = 8 * 1024;

/// What the state machine asked for.
#[derive(Clone, Debug)]
pub(super) struct Connect {
    pub(super) connection: ConnectionKey,
    pub(super) replica_id: String,
    pub(super) socket_path: String,
}

/// Runs one connection until it ends or is no longer wanted (then the task is aborted).
pub(super) async fn run(handle: Handle, connect: Connect) {
    let key = connect.connection;
    let mut pause = SHORTEST_PAUSE;
    // A replica that accepts and hangs up must not make this a busy loop.
    let last_end = handle
        .state
        .borrow_mut()
        .links()
        .last_end(&connect.replica_id);
    if last_end.is_some_and(|end| end.elapsed() < LONGEST_PAUSE) {
        tokio::time::sleep(AFTER_END).await;
    }
    let regions = handle.state.borrow().wants_regions();
    let mut complaint = Complaint::new(&handle, &connect.replica_id);
    let ((read, write), hello) = loop {
        let attempt = tokio::time::timeout(HELLO_WITHIN, open(&connect, regions));
        let error = match complaint.during(attempt).await {
            Ok(Ok(opened)) => break opened,
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        tracing::debug!(replica = connect.replica_id, %error, "cannot connect to replica");
        complaint.reason = error.to_string();
        complaint.during(tokio::time::sleep(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    let Hello {
        header,
        page,
        channel,
        rest,
    } = hello;
    let now = Instant::now();
    handle
        .state
        .borrow_mut()
        .connected(now, key, write, (page, channel), &header);
    handle.settle_at(now);
    match receive(&handle, key, read, rest).await {
        Ok(()) => tracing::debug!(
            replica = connect.replica_id,
            "replica closed its connection"
        ),
        Err(error) => {
            tracing::warn!(replica = connect.replica_id, %error, "connection to replica failed");
        }
    }
    {
        let mut state = handle.state.borrow_mut();
        state.links().note_end(connect.replica_id, Instant::now());
        state.disconnected(key);
    }
    handle.settle();
}

async fn receive(
    handle: &Handle,
    key: ConnectionKey,
    read: Reader,
    mut buffer: BytesMut,
) -> io::Result<()> {
    let mut most = SHORT_READ_BYTES;
    loop {
        if !buffer.is_empty() {
            take(handle, key, &mut buffer)?;
        }
        // Whoever keeps its data would else keep a read buffer that had to grow for it.
        while let Some(mut frame) = LongFrame::begin(Decoder::data(), &mut buffer) {
            while !frame.is_whole() {
                if read.read_long(&mut frame).await? == 0 {
                    return Ok(());
                }
            }
            buffer = frame.into_bytes();
            take(handle, key, &mut buffer)?;
            // Its owner writes it now, while it is in the processor's cache, and its memory is free for the next. What
            // is not read yet waits in the socket.
            give_way().await;
        }
        // When all slices of earlier answers are gone this takes the old memory back.
        buffer.reserve(READ_BYTES);
        let length = read.read_more(&mut buffer, most).await?;
        if length == 0 {
            return Ok(());
        }
        most = if length == most {
            READ_BYTES
        } else {
            SHORT_READ_BYTES
        };
    }
}

/// Lets the tasks run that are ready. (The runtime's own `yield_now` looks for new events first: a system call.)
async fn give_way() {
    let mut has_given = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn take(handle: &Handle, key: ConnectionKey, buffer: &mut BytesMut) -> io::Result<()> {
    let now = Instant::now();
    let received = handle.state.borrow_mut().received(now, key, buffer);
    handle.settle_at(now);
    // What these frames freed was granted to requests that waited: they go before the answers do, so that the
    // replica works while this thread writes to clients.
    handle.write_early();
    received.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Says that a replica cannot be reached, from [`REPORT_AFTER`] on.
struct Complaint<'a> {
    handle: &'a Handle,
    replica_id: &'a str,
    at: tokio::time::Instant,
    /// Of the last attempt.
    reason: String,
}

impl<'a> Complaint<'a> {
    fn new(handle: &'a Handle, replica_id: &'a str) -> Self {
        Self {
            handle,
            replica_id,
            at: tokio::time::Instant::now() + REPORT_AFTER,
            reason: "it does not answer".to_owned(),
        }
    }

    /// Does something that takes its time, and complains meanwhile if it is time for that.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep_until(self.at) => {
                    self.at += REPORT_EVERY;
                    let state = self.handle.state.borrow();
                    state.cannot_reach(self.replica_id, &self.reason);
                }
            }
        }
    }
}

/// HELLO as it came, and what came after it.
struct Hello {
    header: Header,
    page: ClaimPage,
    channel: Option<Channel>,
    rest: BytesMut,
}

async fn open(connect: &Connect, regions: bool) -> io::Result<((Reader, Writer), Hello)> {
    let stream = UnixStream::connect(&connect.socket_path).await?;
    check_peer(&stream)?;
    let mut out = BytesMut::new();
    let mut header = Header::new(Kind::Hello, 0, 0);
    header.a = PROTOCOL_VERSION;
    header.b = u32::from(regions);
    header.c = 1;
    Frame::new(header, Bytes::new()).encode(&mut out);
    while !out.is_empty() {
        stream.writable().await?;
        match stream.try_write(&out) {
            Ok(written) => bytes::Buf::advance(&mut out, written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let mut rest = BytesMut::with_capacity(READ_BYTES);
    let mut descriptors = Vec::new();
    loop {
        let mut bytes = [0; HEADER_BYTES + 256];
        let (length, fds) = stream
            .async_io(Interest::READABLE, || recv_with_fds(&stream, &mut bytes))
            .await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        descriptors.extend(fds);
        rest.extend_from_slice(&bytes[..length]);
        let decoded = Decoder::data().decode(&mut rest);
        let Some(frame) =
            decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        else {
            continue;
        };
        check(&frame, connect)?;
        let mut descriptors = descriptors.into_iter();
        let descriptor = descriptors
            .next()
            .ok_or_else(|| invalid("HELLO came without a claim page".to_owned()))?;
        let page = ClaimPage::open(descriptor.as_fd(), frame.header.b)?;
        // Without it, values go as DATA.
        let channel = descriptors
            .next()
            .filter(|_| regions)
            .and_then(|descriptor| Channel::new(descriptor).ok());
        let hello = Hello {
            header: frame.header,
            page,
            channel,
            rest,
        };
        return Ok((socket::split(stream.into_std()?)?, hello));
    }
}

fn check(frame: &Frame, connect: &Connect) -> io::Result<()> {
    if frame.header.kind != Kind::Hello || frame.header.flags != Flags::NONE {
        return Err(invalid(format!(
            "the first frame is {:?}, not HELLO",
            frame.header.kind
        )));
    }
    if frame.header.a != PROTOCOL_VERSION {
        return Err(invalid(format!(
            "it speaks protocol version {}, we {PROTOCOL_VERSION}",
            frame.header.a
        )));
    }
    if frame.payload != connect.replica_id.as_bytes() {
        return Err(invalid("another replica answers at its socket".to_owned()));
    }
    Ok(())
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
