//! An accepted WebSocket, until both sides know its end.
//!
//! One task with one loop: write what is put together, take more of the answer when that is out (not before the transport
//! has sent what it took: [`sending`]), read when the replica has room ([`receiving`]). So a slow client stops the answer and
//! a slow replica stops the client, each at a bounded cost. Pings are answered here. The end travels as the data of a closing
//! frame does: code and reason. Whoever ends it, user code is told before the exchange is let go, in order after the
//! messages that came before ([`ending`]).

mod ending;
mod receiving;
mod sending;

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use eagleray_router::service::{Data, Exchange};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    deflate::Inflater,
    extension::Agreed,
    frame::{self, Decoder, code},
    outgoing::{Compression, Outgoing},
    output::Output,
};
use crate::{
    connection::{Connection, Phase},
    exchange::Record,
    shard::Shard,
    tally::Outcome,
};

/// Steps before anybody else of the thread gets a turn.
const STEPS: usize = 64;
/// The same for steps that compress or inflate: about a fifth of a millisecond of them.
const PACKING_STEPS: usize = 2;
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
    /// The last read brought as much as a short one may.
    has_read_much: bool,
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
            shard.settings().limits.websocket_message_bytes,
            accepted.agreed.map(Inflater::new),
        )),
        input: BytesMut::from(&input[..]),
        has_read_much: false,
        outgoing: Outgoing::new(accepted.agreed.map(|agreed| Compression {
            deflaters: Rc::clone(&shard.deflaters),
            window_bits: agreed.server_bits(),
            from_bytes: shard.settings().limits.websocket_compress_bytes,
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
                Stage::Open => {
                    self.record.settle(Outcome::Failed);
                    self.close(code::RESTART, b"this proxy is shutting down");
                }
                Stage::Gone => self.stage = Stage::Over,
                _ => {}
            }
        }
        if self.stage == Stage::Open && self.connection.wants_ping() && !self.pinged {
            self.pinged = true;
            frame::put_ping(&mut self.output.bytes);
        }
    }
}
