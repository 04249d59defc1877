//! How a WebSocket ends: whoever ends it, the other side is told, and what it said before comes first.

use std::{
    pin::pin,
    task::{Context, Poll},
};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, Stage};
use crate::{
    connection::Phase,
    websocket::{
        frame::{self, code},
        outgoing::Outgoing,
        output::Output,
    },
};

impl<S> Session<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Closes from our side, and tells user code.
    pub(super) fn close(&mut self, code: u16, reason: &[u8]) {
        self.end(Some((code, reason)));
        self.put_close(Some((code, reason)));
    }

    /// Tells user code that the client has ended it.
    pub(super) fn end(&mut self, close: Option<(u16, &[u8])>) {
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
    pub(super) fn put_close(&mut self, close: Option<(u16, &[u8])>) {
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
    pub(super) fn hang_up(&mut self) {
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
    pub(super) fn tell(&mut self, context: &mut Context<'_>) -> bool {
        let told = self.exchange.poll_sent(context).is_ready();
        let answer = self.exchange.poll_data(context);
        if told || matches!(answer, Poll::Ready(None | Some(Err(_)))) {
            self.stage = Stage::Over;
        }
        told || answer.is_ready()
    }

    /// Ends our half of a connection on which nothing more is understood, so not the client's closing frame either.
    pub(super) fn fail(&mut self, context: &mut Context<'_>) -> bool {
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

    pub(super) fn shut_down(&mut self, context: &mut Context<'_>) -> bool {
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
}
