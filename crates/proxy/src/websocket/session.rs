//! An accepted WebSocket, until both sides know its end.
//!
//! One task with one loop: write what is put together, take more of the answer when that is out (not before the transport
//! has sent what it took), read when the replica has room. So a slow client stops the answer and a slow replica stops the client, each at a bounded cost. Pings are
//! answered here. The end travels as the data of a closing frame does: code and reason. Whoever ends it, user code is
//! told before the exchange is let go, in order after the messages that came before.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use eagleray_router::service::{Data, Exchange};
use eagleray_types::ErrorCode;
use eagleray_wire::Flags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{
    deflate::Inflater,
    extension::Agreed,
    frame::{self, Broken, Decoder, Event, code},
    outgoing::{Compression, Outgoing, Stuck},
    output::Output,
};
use crate::{
    connection::{Connection, Phase},
    exchange::Record,
    shard::Shard,
};

const READ_BYTES: usize = 16 * 1024;
/// Steps before anybody else of the thread gets a turn.
const STEPS: usize = 64;
/// The same for steps that compress or inflate: less than a millisecond of them.
const PACKING_STEPS: usize = 8;
/// Most that is read and thrown away while the client's closing frame is awaited.
const MOST_DISCARDED: usize = 4 * 1024 * 1024;

/// A request that user code has accepted; hyper has still to write the answer.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) exchange: Exchange,
    pub(crate) record: Record,
    /// What came with the head.
    pub(crate) first: Option<Data>,
    /// `None`: no compression.
    pub(crate) agreed: Option<Agreed>,
}

/// How far the two sides are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Our closing frame is put together, theirs is awaited.
    Closing,
    /// The client broke a rule, and was told: our half is ended, what comes is thrown away.
    Failed,
    /// The client's last word was heard: what is put together is written, and that is the end of the connection.
    Closed,
    /// The connection is gone; user code is still to be told.
    Gone,
    Over,
}

struct Session<S> {
    stream: Option<S>,
    shard: Rc<Shard>,
    connection: Rc<Connection>,
    exchange: Exchange,
    record: Record,
    first: Option<Data>,
    /// `None`: what comes cannot be understood any more.
    decoder: Option<Decoder>,
    input: BytesMut,
    outgoing: Outgoing,
    output: Output,
    stage: Stage,
    /// Steps that may still compress or inflate in this turn.
    packing_steps: usize,
    /// The end was said to user code, or is user code's own.
    has_ended: bool,
    /// A ping of ours has not been answered by anything.
    pinged: bool,
    /// The last ping that was not answered yet, as too much waits to be sent; those before it need no answer.
    pong: Option<BytesMut>,
    discarded: usize,
}

/// Carries an accepted WebSocket to its end. `input`: what was read after the request.
pub(crate) async fn serve<S>(
    shard: Rc<Shard>,
    connection: Rc<Connection>,
    stream: S,
    input: Bytes,
    accepted: Accepted,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    shard.counters.websockets_accepted.add();
    let _open = Open::new(&shard);
    connection.phase.set(Phase::WebSocket(shard.tick()));
    let mut session = Session {
        stream: Some(stream),
        exchange: accepted.exchange,
        record: accepted.record,
        first: accepted.first,
        decoder: Some(Decoder::new(
            shard.limits.websocket_message_bytes,
            accepted.agreed.map(Inflater::new),
        )),
        input: BytesMut::from(&input[..]),
        outgoing: Outgoing::new(accepted.agreed.map(|agreed| Compression {
            deflaters: Rc::clone(&shard.deflaters),
            window_bits: agreed.server_bits(),
            from_bytes: shard.limits.websocket_compress_bytes,
        })),
        output: Output::default(),
        stage: Stage::Open,
        packing_steps: PACKING_STEPS,
        has_ended: false,
        pinged: false,
        pong: None,
        discarded: 0,
        shard: Rc::clone(&shard),
        connection,
    };
    session.exchange.lift_deadline();
    session.record.set_status(code::BROKEN_OFF);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| session.poll(context))) {
            Ok(poll) => poll,
            Err(_panic) => {
                shard.count_panic();
                Poll::Ready(())
            }
        },
    )
    .await;
}

/// Counted while it lives.
struct Open(Rc<Shard>);

impl Open {
    fn new(shard: &Rc<Shard>) -> Self {
        shard.counters.websockets_open.add();
        Self(Rc::clone(shard))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.websockets_open.remove();
    }
}

/// Why the answer broke off, for the client.
const fn words(code: ErrorCode) -> (u16, &'static str) {
    match code {
        ErrorCode::ReplicaDied => (code::INTERNAL_ERROR, "the replica died"),
        ErrorCode::Draining => (code::RESTART, "this proxy is shutting down"),
        _ => (code::INTERNAL_ERROR, "the code of the deployment failed"),
    }
}

impl<S> Session<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.connection.wake_by(context.waker());
        self.packing_steps = PACKING_STEPS;
        for _ in 0..STEPS {
            if self.packing_steps == 0 {
                break;
            }
            self.look_at_connection();
            let moved = match self.stage {
                Stage::Over => return Poll::Ready(()),
                Stage::Gone => self.tell(context),
                Stage::Closed => self.write(context) | self.shut_down(context),
                Stage::Closing => self.write(context) | self.fail(context) | self.read(context),
                Stage::Failed => self.read(context),
                Stage::Open => self.write(context) | self.answer(context) | self.read(context),
            };
            // Steps that brought nothing yet have moved something all the same.
            if !moved && self.packing_steps > 0 {
                if self.input.is_empty() {
                    // An idle connection keeps no buffer.
                    self.input = BytesMut::new();
                }
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// What the sweep of the thread, or its drain, wants.
    fn look_at_connection(&mut self) {
        if self.connection.is_to_end() && self.stage != Stage::Gone {
            self.hang_up();
        }
        if self.shard.is_draining() {
            match self.stage {
                Stage::Open => self.close(code::RESTART, b"this proxy is shutting down"),
                Stage::Gone => self.stage = Stage::Over,
                _ => {}
            }
        }
        if self.stage == Stage::Open && self.connection.wants_ping() && !self.pinged {
            self.pinged = true;
            frame::put_ping(&mut self.output.bytes);
        }
    }

    // --- the end ------------------------------------------------------------------------------------------------

    /// Closes from our side, and tells user code.
    fn close(&mut self, code: u16, reason: &[u8]) {
        self.end(Some((code, reason)));
        self.put_close(Some((code, reason)));
    }

    /// Tells user code that the client has ended it.
    fn end(&mut self, close: Option<(u16, &[u8])>) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        self.record
            .set_status(close.map_or(code::NONE, |(code, _)| code));
        let mut last = BytesMut::new();
        if let Some((code, reason)) = close {
            last.put_u16(code);
            last.put_slice(reason);
        }
        self.exchange.end_messages(last.freeze());
    }

    /// Nothing is sent after this but what the client's closing frame asks for.
    fn put_close(&mut self, close: Option<(u16, &[u8])>) {
        frame::put_close(&mut self.output.bytes, close);
        self.stage = Stage::Closing;
        self.outgoing = Outgoing::new(None);
        if let Some(decoder) = &mut self.decoder {
            decoder.ignore_messages();
        }
        // How fast it goes out is judged at the socket.
        self.connection.phase.set(Phase::Busy);
    }

    /// The connection is of no more use.
    fn hang_up(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        self.end(Some((code::BROKEN_OFF, b"")));
        self.stream = None;
        self.output = Output::default();
        self.outgoing = Outgoing::new(None);
        self.input = BytesMut::new();
        self.decoder = None;
        self.stage = Stage::Gone;
        self.connection.phase.set(Phase::Busy);
        self.connection.answer.moved(0);
    }

    /// Lets user code come to the end: what it still sends is thrown away, so that it does not wait for room.
    fn tell(&mut self, context: &mut Context<'_>) -> bool {
        let told = self.exchange.poll_sent(context).is_ready();
        let answer = self.exchange.poll_data(context);
        if told || matches!(answer, Poll::Ready(None | Some(Err(_)))) {
            self.stage = Stage::Over;
        }
        told || answer.is_ready()
    }

    /// Ends our half of a connection on which nothing more is understood, so not the client's closing frame either.
    fn fail(&mut self, context: &mut Context<'_>) -> bool {
        if self.decoder.is_some() || !self.output.is_out() {
            return false;
        }
        let Some(stream) = self.stream.as_mut() else {
            return false;
        };
        match pin!(stream).poll_shutdown(context) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => self.stage = Stage::Failed,
            Poll::Ready(Err(_)) => self.hang_up(),
        }
        true
    }

    fn shut_down(&mut self, context: &mut Context<'_>) -> bool {
        if !self.output.is_out() {
            return false;
        }
        let Some(stream) = self.stream.as_mut() else {
            return false;
        };
        let done = pin!(stream).poll_shutdown(context).is_ready();
        if done {
            self.hang_up();
        }
        done
    }

    // --- out ----------------------------------------------------------------------------------------------------

    /// Writes what is put together. True: something moved.
    fn write(&mut self, context: &mut Context<'_>) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let Ok(moved) = self.output.send(stream, context) else {
            self.hang_up();
            return true;
        };
        if moved && self.stage == Stage::Closing && self.output.is_out() {
            // From here on the client has to answer.
            self.connection
                .phase
                .set(Phase::Lingering(self.shard.tick()));
        }
        moved
    }

    /// Puts together what may be sent next. True: there was something.
    fn answer(&mut self, context: &mut Context<'_>) -> bool {
        let before = self.output.bytes.len();
        while self.stage == Stage::Open && self.output.has_room() && self.packing_steps > 0 {
            if let Some(payload) = self.pong.take() {
                frame::put_pong(&mut self.output.bytes, &payload);
            }
            let begun = self.outgoing.take_rest().or_else(|| self.first.take());
            let next = match begun {
                Some(data) => Some(Ok(data)),
                None => match self.exchange.poll_data(context) {
                    Poll::Ready(next) => next,
                    Poll::Pending => break,
                },
            };
            match next {
                Some(Ok(data)) if data.flags.contains(Flags::END) => {
                    self.closed_by_user(&data.bytes);
                }
                Some(Ok(data)) => self.put_data(data),
                Some(Err(failure)) => {
                    let (code, reason) = words(failure.code);
                    self.close(code, reason.as_bytes());
                }
                None => self.closed_by_user(&[]),
            }
        }
        self.output.bytes.len() > before
    }

    fn put_data(&mut self, data: Data) {
        match self.outgoing.put(data, &mut self.output.bytes) {
            Ok(true) => self.packing_steps -= 1,
            Ok(false) => {}
            Err(Stuck) => self.close(code::INTERNAL_ERROR, b"a message could not be compressed"),
        }
    }

    fn closed_by_user(&mut self, last: &[u8]) {
        let close = last
            .split_first_chunk::<2>()
            .map(|(code, reason)| (u16::from_be_bytes(*code), reason));
        self.has_ended = true;
        self.record
            .set_status(close.map_or(code::NONE, |(code, _)| code));
        self.put_close(close);
    }

    // --- in -----------------------------------------------------------------------------------------------------

    /// Reads, unless the replica has no room. True: something came.
    fn read(&mut self, context: &mut Context<'_>) -> bool {
        let before = self.input.len();
        let took_all = self.take_input(context);
        let took = self.input.len() < before;
        if !took_all && self.packing_steps == 0 {
            return true;
        }
        match self.stage {
            Stage::Open => {
                if self.exchange.poll_room(context).is_pending() {
                    // Its silence is our doing.
                    self.connection.phase.set(Phase::Busy);
                    return took;
                }
                if !self.output.is_out() {
                    // It may have no ping to answer yet, and is judged by what it takes.
                    self.connection.phase.set(Phase::Busy);
                } else if self.connection.phase.get() == Phase::Busy {
                    self.heard();
                }
            }
            Stage::Closing | Stage::Failed => {}
            Stage::Closed | Stage::Gone | Stage::Over => return true,
        }
        self.fill(context) || took
    }

    fn heard(&mut self) {
        self.pinged = false;
        self.connection
            .phase
            .set(Phase::WebSocket(self.shard.tick()));
    }

    /// Reads from the socket. True: something came, if only the end.
    fn fill(&mut self, context: &mut Context<'_>) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        self.input.reserve(READ_BYTES);
        match pin!(stream.read_buf(&mut self.input)).poll(context) {
            Poll::Ready(Ok(bytes)) if bytes > 0 => {
                if self.stage == Stage::Open {
                    self.heard();
                } else {
                    self.discarded += bytes;
                    if self.discarded > MOST_DISCARDED {
                        self.hang_up();
                    }
                }
                true
            }
            Poll::Ready(Ok(_)) if self.stage == Stage::Closing => {
                // It says nothing more, and may still listen.
                self.stage = Stage::Closed;
                true
            }
            Poll::Ready(_) => {
                self.hang_up();
                true
            }
            Poll::Pending => false,
        }
    }

    /// Takes what is whole out of what was read, and inflates as much as there is room for. False: there is more.
    fn take_input(&mut self, context: &mut Context<'_>) -> bool {
        while matches!(self.stage, Stage::Open | Stage::Closing | Stage::Failed) {
            let Some(decoder) = &mut self.decoder else {
                self.input.clear();
                return true;
            };
            if decoder.is_inflating() {
                if self.packing_steps == 0 || self.exchange.poll_room(context).is_pending() {
                    return false;
                }
                self.packing_steps -= 1;
            }
            match decoder.decode(&mut self.input) {
                Ok(None) => return true,
                Ok(Some(event)) => self.on_event(event),
                Err(broken) => self.on_broken(broken),
            }
        }
        true
    }

    fn on_event(&mut self, event: Event) {
        let is_open = self.stage == Stage::Open;
        match event {
            Event::Data {
                bytes,
                is_text,
                is_complete,
            } if is_open && (is_complete || !bytes.is_empty()) => {
                self.exchange.push_message(&bytes, is_text, is_complete);
            }
            Event::Ping(payload) if is_open && self.output.takes_pong() => {
                frame::put_pong(&mut self.output.bytes, &payload);
            }
            Event::Ping(payload) if is_open => self.pong = Some(payload),
            Event::Data { .. } | Event::Ping(_) | Event::Pong => {}
            Event::Close(close) => {
                if is_open {
                    let close = close.as_ref().map(|(code, reason)| (*code, &reason[..]));
                    self.end(close);
                    self.put_close(close);
                }
                self.stage = Stage::Closed;
            }
        }
    }

    fn on_broken(&mut self, broken: Broken) {
        self.decoder = None;
        if self.stage != Stage::Open {
            return;
        }
        let counters = &self.shard.counters;
        if broken.code == code::TOO_LONG {
            counters.websocket_messages_too_long.add();
        } else {
            counters.websocket_errors.add();
        }
        self.close(broken.code, broken.reason.as_bytes());
    }
}
