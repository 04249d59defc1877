//! The client's body, on its way to the router: read when the replica has room for it, within the limits on bodies.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use eagleray_router::service::{Exchange, Failure, Room};
use eagleray_types::ErrorCode;
use http::HeaderMap;
use http_body::Frame;

use super::incoming::Incoming;
use crate::connection::{Connection, Progress};

/// The client's body, as far as it has not come yet.
#[derive(Debug)]
pub(super) struct Upload {
    incoming: Option<Incoming>,
    connection: Rc<Connection>,
    /// Its place among the bodies that the connection waits for, once it has been waited for.
    watched: Option<(usize, Rc<Progress>)>,
    received: u64,
    limit: Option<u64>,
    /// The client sends nothing before it is told to, and user code has not asked for it yet.
    waits_for_word: bool,
}

/// One step of reading a body.
pub(super) enum Step {
    Data(Bytes),
    /// Data, and nothing after it.
    Last(Bytes),
    End,
}

impl Upload {
    /// `limit`: of a body that must be whole, so wanted at once. `expects`: its client waits for a word before it sends.
    pub(super) fn new(
        incoming: Incoming,
        limit: Option<u64>,
        expects: bool,
        connection: Rc<Connection>,
    ) -> Self {
        let incoming = (!http_body::Body::is_end_stream(&incoming)).then_some(incoming);
        Self {
            waits_for_word: expects && limit.is_none() && incoming.is_some(),
            incoming,
            connection,
            watched: None,
            received: 0,
            limit,
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn is_over(&self) -> bool {
        self.incoming.is_none()
    }

    /// Whether reading it now would tell the client to send what nobody has asked for.
    pub(super) fn waits_for_word(&self) -> bool {
        self.waits_for_word
    }

    pub(super) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// All of it has come.
    fn ends(&mut self) {
        self.incoming = None;
        self.connection.is_unread.set(false);
    }

    /// The rest is not wanted: the request has failed.
    pub(super) fn give_up(&mut self, code: ErrorCode) -> Failure {
        if self.incoming.take().is_some() {
            self.connection.is_last.set(true);
        }
        Failure::new(code)
    }

    /// Trailers of a request are dropped. hyper ends their block at a bare LF and drops what it read after it, which
    /// another reader may have taken for a request: so nothing more is read after trailers.
    fn drop_trailers(&mut self, frame: &Frame<Bytes>) -> Result<(), Failure> {
        self.connection.is_last.set(true);
        if frame.trailers_ref().is_some_and(HeaderMap::is_empty) {
            let mut failure = self.give_up(ErrorCode::BadRequest);
            failure.message = "its trailers have no field".into();
            return Err(failure);
        }
        Ok(())
    }

    /// Notes that the client has to send; false when it has taken too long.
    fn wait(&mut self, context: &Context<'_>) -> bool {
        let (_, progress) = self
            .watched
            .get_or_insert_with(|| self.connection.watch_body());
        progress.waits_in(context);
        !progress.is_too_slow()
    }

    /// Reads the next chunk.
    pub(super) fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<Step, Failure>> {
        loop {
            let Some(incoming) = &mut self.incoming else {
                return Poll::Ready(Ok(Step::End));
            };
            let frame = match http_body::Body::poll_frame(Pin::new(&mut *incoming), context) {
                Poll::Pending if self.wait(context) => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Err(self.give_up(ErrorCode::RequestTimeout))),
                Poll::Ready(None) => {
                    self.ends();
                    return Poll::Ready(Ok(Step::End));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.give_up(ErrorCode::BadRequest);
                    let message = format!("its body broke off: {error}").into();
                    return Poll::Ready(Err(Failure {
                        code: ErrorCode::BadRequest,
                        message,
                    }));
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => match self.drop_trailers(&frame) {
                    Ok(()) => continue,
                    Err(failure) => return Poll::Ready(Err(failure)),
                },
            };
            self.received += data.len() as u64;
            if let Some((_, progress)) = &self.watched {
                progress.moved(data.len());
            }
            if self.limit.is_some_and(|limit| self.received > limit) {
                return Poll::Ready(Err(self.give_up(ErrorCode::PayloadTooLarge)));
            }
            let incoming = self.incoming.as_ref();
            if incoming.is_none_or(http_body::Body::is_end_stream) {
                self.ends();
                return Poll::Ready(Ok(Step::Last(data)));
            }
            return Poll::Ready(Ok(Step::Data(data)));
        }
    }

    /// Hands to the router what has come and fits.
    pub(super) fn pump(
        &mut self,
        exchange: &mut Exchange,
        context: &mut Context<'_>,
    ) -> Result<(), Failure> {
        if self.waits_for_word {
            if exchange.poll_asked(context).is_pending() {
                return Ok(());
            }
            self.waits_for_word = false;
        }
        while self.incoming.is_some() {
            match exchange.poll_room(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Room::Closed) => self.incoming = None,
                Poll::Ready(Room::Wanted) => match self.poll_step(context) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(step) => match step? {
                        Step::Data(data) => exchange.push_body(data),
                        Step::Last(data) => {
                            exchange.push_body(data);
                            exchange.end_body();
                        }
                        Step::End => exchange.end_body(),
                    },
                },
            }
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some((key, _)) = self.watched {
            self.connection.forget_body(key);
        }
    }
}
