//! From user code to the client: more of the answer is taken when what is put together is out.

use std::task::{Context, Poll};

use eagleray_router::service::Data;
use eagleray_types::ErrorCode;
use eagleray_wire::Flags;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, Stage};
use crate::{
    connection::Phase,
    tally::Outcome,
    websocket::{
        frame::{self, code},
        outgoing::Stuck,
    },
};

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
    /// Writes what is put together. True: something moved.
    pub(super) fn write(&mut self, context: &mut Context<'_>) -> bool {
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
    pub(super) fn answer(&mut self, context: &mut Context<'_>) -> bool {
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
                    self.record.settle(Outcome::of(failure.code));
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
        self.record.settle(Outcome::Answered);
        self.record
            .set_status(close.map_or(code::NONE, |(code, _)| code));
        self.put_close(close);
    }
}
