//! From the client to user code: read when the replica has room, and at its end thrown away.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{Session, Stage};
use crate::{
    connection::Phase,
    tally::Outcome,
    websocket::frame::{self, Broken, Event, code},
};

const READ_BYTES: usize = 16 * 1024;
/// Where reads are full: a socket that is emptied in small pieces hardly opens its window, and then its sender waits for
/// a timer of the kernel.
const LONG_READ_BYTES: usize = 128 * 1024;
/// Most that is read and thrown away while the client's closing frame is awaited.
const MOST_DISCARDED: usize = 4 * 1024 * 1024;

impl<S> Session<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Reads, unless the replica has no room. True: something came.
    pub(super) fn read(&mut self, context: &mut Context<'_>) -> bool {
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
        self.input.reserve(if self.has_read_much {
            LONG_READ_BYTES
        } else {
            READ_BYTES
        });
        match pin!(stream.read_buf(&mut self.input)).poll(context) {
            Poll::Ready(Ok(bytes)) if bytes > 0 => {
                self.has_read_much = bytes >= READ_BYTES;
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
                    self.record.settle(Outcome::Answered);
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
        self.record.settle(Outcome::Left);
        self.close(broken.code, broken.reason.as_bytes());
    }
}
