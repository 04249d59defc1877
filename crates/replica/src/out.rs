//! The outgoing side of a connection, written by any thread.
//!
//! *The thread that has an answer writes it.* When nothing is buffered the frame goes out in one nonblocking send;
//! what the socket does not take stays in the buffer and the I/O thread, told by epoll, sends the rest. When the
//! I/O thread says that it is watching (it wakes within [`WATCH`]) and answers follow each other closely, they are
//! put together and leave in one send: under load the system call is the largest part of an answer's cost, and
//! alone nothing ever waits. Pieces of a stream are not put off: a client may have each before the next is made.
//!
//! Bounded by flow control: response data by credit, control frames by the slots of the connection.

use std::{
    io::IoSlice,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use eagleray_wire::Header;
use parking_lot::Mutex;
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, send, sendmsg},
};

use crate::poller::Poller;

/// The longest that a frame put off for company can wait for the I/O thread to send it.
pub(crate) const WATCH: Duration = Duration::from_millis(1);
/// Answers closer together than this share a send.
const CLOSE: Duration = Duration::from_micros(50);
const BATCH_FRAMES: u32 = 16;
const BATCH_BYTES: usize = 32 * 1024;
/// Data of so many bytes is not copied before it is sent.
const LONG: usize = 16 * 1024;
/// A buffer that grew beyond this is given back when it is empty.
const KEEP_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Outgoing {
    socket: Arc<OwnedFd>,
    poller: Arc<Poller>,
    token: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    buffer: BytesMut,
    /// epoll tells the I/O thread when the socket takes more; until then nobody else tries.
    blocked: bool,
    closed: bool,
    /// Frames in the buffer that nobody has tried to send.
    put_off: u32,
    last: Instant,
}

impl Outgoing {
    pub(crate) fn new(socket: Arc<OwnedFd>, poller: Arc<Poller>, token: u64, now: Instant) -> Self {
        let state = State {
            buffer: BytesMut::new(),
            blocked: false,
            closed: false,
            put_off: 0,
            last: now,
        };
        Self {
            socket,
            poller,
            token,
            state: Mutex::new(state),
        }
    }

    /// Sends a frame whose payload is `first` then `second`. `together`: the I/O thread is watching.
    pub(crate) fn frame(
        &self,
        now: Instant,
        together: bool,
        mut header: Header,
        first: &[u8],
        second: &[u8],
    ) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        header.length = (first.len() + second.len()) as u32;
        if second.len() >= LONG && state.buffer.is_empty() {
            state.last = now;
            return self.send_long(&mut state, header, first, second);
        }
        state
            .buffer
            .reserve(eagleray_wire::HEADER_BYTES + header.length as usize);
        header.encode(&mut state.buffer);
        state.buffer.extend_from_slice(first);
        state.buffer.extend_from_slice(second);
        let close = now.saturating_duration_since(state.last) < CLOSE;
        state.last = now;
        if state.blocked {
            return;
        }
        state.put_off += 1;
        if together && close && state.put_off < BATCH_FRAMES && state.buffer.len() < BATCH_BYTES {
            return;
        }
        self.send(&mut state);
    }

    /// Sends what was put off.
    pub(crate) fn flush(&self) {
        let mut state = self.state.lock();
        if state.put_off > 0 && !state.blocked {
            self.send(&mut state);
        }
    }

    /// The socket takes more (told by epoll).
    pub(crate) fn writable(&self) {
        let mut state = self.state.lock();
        if state.blocked {
            state.blocked = false;
            self.send(&mut state);
            if !state.blocked {
                self.poller.watch_reads(&self.socket, self.token);
            }
        }
    }

    /// Nothing is sent from now on.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.buffer = BytesMut::new();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().buffer.is_empty()
    }

    /// Sends a frame from where it lies; what the socket does not take is copied.
    fn send_long(&self, state: &mut State, header: Header, first: &[u8], second: &[u8]) {
        let mut head = BytesMut::with_capacity(eagleray_wire::HEADER_BYTES + first.len());
        header.encode(&mut head);
        head.extend_from_slice(first);
        let sent = sendmsg(
            &*self.socket,
            &[IoSlice::new(&head), IoSlice::new(second)],
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        );
        // An error is met again below, where it is known what to do.
        let sent = sent.unwrap_or(0);
        let of_head = sent.min(head.len());
        state.buffer.extend_from_slice(&head[of_head..]);
        state.buffer.extend_from_slice(&second[sent - of_head..]);
        self.send(state);
    }

    fn send(&self, state: &mut State) {
        state.put_off = 0;
        while !state.buffer.is_empty() {
            match send(
                &*self.socket,
                &state.buffer,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(sent) => state.buffer.advance(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !state.blocked {
                        state.blocked = true;
                        self.poller.watch_both(&self.socket, self.token);
                    }
                    return;
                }
                // The reader sees the end of the connection and ends its requests; here only the bytes go.
                Err(_) => {
                    state.closed = true;
                    state.buffer = BytesMut::new();
                    return;
                }
            }
        }
        if state.buffer.capacity() > KEEP_BYTES {
            state.buffer = BytesMut::new();
        } else {
            state.buffer.clear();
        }
    }
}
