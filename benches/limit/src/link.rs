//! The socket to the replica: frames out, coalesced; frames in, each to the request that waits for it.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Poll, Waker},
};

use bytes::{BufMut, BytesMut};
use eagleray_wire::{Decoder, Flags, Frame, Header, Kind, NO_DEADLINE};
use slab::Slab;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

#[derive(Debug)]
pub(crate) struct Link {
    state: RefCell<State>,
    written: Notify,
}

#[derive(Debug)]
struct State {
    out: BytesMut,
    waiting: Slab<Waiting>,
    sequence: u64,
}

#[derive(Debug)]
enum Waiting {
    Asked(Option<Waker>),
    Answered(Frame),
}

impl Link {
    pub(crate) fn new() -> Rc<Self> {
        let state = State {
            out: BytesMut::new(),
            waiting: Slab::new(),
            sequence: 0,
        };
        Rc::new(Self {
            state: RefCell::new(state),
            written: Notify::new(),
        })
    }

    /// Sends a request's payload, which `encode` appends to the frame, and waits for the answer.
    pub(crate) async fn ask(&self, encode: impl FnOnce(&mut BytesMut)) -> Frame {
        let slot = {
            let state = &mut *self.state.borrow_mut();
            state.sequence += 1;
            let slot = state.waiting.insert(Waiting::Asked(None));
            let header = Header {
                flags: Flags::END,
                c: NO_DEADLINE,
                ..Header::new(Kind::Request, slot as u32, state.sequence)
            };
            let start = state.out.len();
            header.encode(&mut state.out);
            let payload = state.out.len();
            encode(&mut state.out);
            let length = (state.out.len() - payload) as u32;
            state.out[start..start + 4].copy_from_slice(&length.to_le_bytes());
            slot
        };
        // The writer runs when the tasks that are ready now have run, so their frames leave in one write.
        self.written.notify_one();
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            match state.waiting.remove(slot) {
                Waiting::Answered(frame) => Poll::Ready(frame),
                Waiting::Asked(_) => {
                    let again = state
                        .waiting
                        .insert(Waiting::Asked(Some(context.waker().clone())));
                    debug_assert_eq!(again, slot, "a slab hands out the last slot that was freed");
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn answered(&self, frame: Frame) {
        let mut state = self.state.borrow_mut();
        let slot = frame.header.slot as usize;
        if let Some(waiting) = state.waiting.get_mut(slot)
            && let Waiting::Asked(Some(waker)) =
                std::mem::replace(waiting, Waiting::Answered(frame))
        {
            waker.wake();
        }
    }
}

/// Moves bytes until the replica is gone.
pub(crate) async fn run(link: Rc<Link>, socket: UnixStream) -> io::Result<()> {
    let (read, write) = socket.into_split();
    tokio::select! {
        result = send(&link, write) => result,
        result = receive(&link, read) => result,
    }
}

async fn send(link: &Link, mut socket: OwnedWriteHalf) -> io::Result<()> {
    let mut out = BytesMut::new();
    loop {
        link.written.notified().await;
        loop {
            // The two buffers change places, so neither is allocated again.
            std::mem::swap(&mut out, &mut link.state.borrow_mut().out);
            if out.is_empty() {
                break;
            }
            socket.write_all(&out).await?;
            out.clear();
        }
    }
}

async fn receive(link: &Link, mut socket: OwnedReadHalf) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(64 * 1024);
        if socket.read_buf(&mut buffer.limit_read()).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the replica is gone",
            ));
        }
        while let Some(frame) = Decoder::data()
            .decode(&mut buffer)
            .map_err(io::Error::other)?
        {
            link.answered(frame);
        }
    }
}

trait LimitRead {
    fn limit_read(&mut self) -> bytes::buf::Limit<&mut BytesMut>;
}

impl LimitRead for BytesMut {
    /// As much as was reserved: a read never grows the buffer.
    fn limit_read(&mut self) -> bytes::buf::Limit<&mut BytesMut> {
        let spare = self.capacity() - self.len();
        self.limit(spare)
    }
}
