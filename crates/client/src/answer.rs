//! The answer to a call, put together from the frames that it comes in.

use bytes::{Bytes, BytesMut};
use eagleray_router::service::{Data, Exchange, Failure};
use eagleray_types::ErrorCode;
use eagleray_wire::{
    Flags,
    region::{self, Arrival, Attachment},
};

use crate::{
    call::{Call, Outcome},
    content::Content,
};

/// An answer that is one value.
pub(crate) async fn collect(exchange: Exchange) -> Result<Outcome, Failure> {
    let value = exchange.collect().await?;
    let content = content(value.data, value.attachments)?;
    Ok(Outcome::Answer(content, value.is_error))
}

/// The body of an answer, which has no attachments but itself.
fn content(data: Bytes, attachments: Vec<Attachment>) -> Result<Content, Failure> {
    let (content, others) = Content::of(data, attachments);
    if others.is_empty() {
        Ok(content)
    } else {
        Err(Failure::new(ErrorCode::Internal))
    }
}

/// What comes next of an answer.
pub(crate) enum Item {
    Whole(Content),
    /// The pickled exception that ends it.
    Error(Content),
    End,
}

/// An answer as items, each put together from as many frames as it came in.
pub(crate) struct Items {
    pub(crate) exchange: Exchange,
    begun: bool,
    ended: bool,
}

impl Items {
    pub(crate) const fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            begun: false,
            ended: false,
        }
    }

    /// Gives items to the caller, as far as that takes them, until the end.
    pub(crate) async fn hand_over(mut self, call: &Call) -> Result<Outcome, Failure> {
        loop {
            call.room().await;
            match self.next().await? {
                Item::Whole(item) => call.push(item),
                Item::Error(error) => return Ok(Outcome::Answer(error, true)),
                Item::End => return Ok(Outcome::End),
            }
        }
    }

    /// The next item, whole.
    pub(crate) async fn next(&mut self) -> Result<Item, Failure> {
        let mut parts = Parts::default();
        loop {
            let Some(Data {
                flags,
                bytes,
                arrivals,
            }) = self.piece().await?
            else {
                return Ok(Item::End);
            };
            parts.add(bytes);
            parts.arrivals.extend(arrivals);
            if flags.contains(Flags::ERROR) {
                return Ok(Item::Error(parts.join()?));
            }
            if flags.contains(Flags::END_OF_MESSAGE) {
                return Ok(Item::Whole(parts.join()?));
            }
        }
    }

    /// Data and the flags that it came with; `None` at the end. ERROR: it is the last, of a pickled exception.
    async fn piece(&mut self) -> Result<Option<Data>, Failure> {
        if !self.begun {
            self.begun = true;
            let answer = self.exchange.answer().await?;
            let data = answer.parse().map(|parsed| parsed.data(&answer.payload));
            let data = data.map_err(|_| Failure::new(ErrorCode::Internal))?;
            self.ended = answer.is_complete();
            let nothing =
                data.is_empty() && answer.arrivals.is_empty() && self.ended && !answer.is_error();
            return Ok((!nothing).then_some(Data {
                flags: answer.flags,
                bytes: data,
                arrivals: answer.arrivals,
            }));
        }
        if self.ended {
            return Ok(None);
        }
        match self.exchange.data().await {
            Some(Ok(data)) => Ok(Some(data)),
            // The flag of the last frame: what was collected is the pickled exception.
            Some(Err(failure)) if failure.code == ErrorCode::UserCode => Ok(Some(Data {
                flags: Flags::ERROR,
                bytes: Bytes::new(),
                arrivals: Vec::new(),
            })),
            Some(Err(failure)) => Err(failure),
            None => Ok(None),
        }
    }
}

/// Bytes that are mostly one piece.
#[derive(Default)]
struct Parts {
    first: Bytes,
    rest: BytesMut,
    arrivals: Vec<Arrival>,
}

impl Parts {
    fn add(&mut self, bytes: Bytes) {
        if self.first.is_empty() {
            self.first = bytes;
        } else {
            if self.rest.is_empty() {
                self.rest.extend_from_slice(&self.first);
            }
            self.rest.extend_from_slice(&bytes);
        }
    }

    fn join(self) -> Result<Content, Failure> {
        let data = if self.rest.is_empty() {
            self.first
        } else {
            self.rest.freeze()
        };
        if self.arrivals.is_empty() {
            return Ok(Content::Bytes(data));
        }
        let assembled = region::assemble(data, self.arrivals);
        let (data, attachments) = assembled.ok_or(Failure::new(ErrorCode::Internal))?;
        content(data, attachments)
    }
}
