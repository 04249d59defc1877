//! The body of one stream's request, on its way in.
//!
//! What is read is given back to the windows at once. A client that sends a burst and then nothing for half as long again,
//! while user code waits, is far away and held up by its window: that is asked to grow. A body that is let go of is not reset at once:
//! [`drain`] reads on for a moment, so that a client that only looks at its answer when it has sent everything sees it.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use tokio::time::{Instant, Sleep};

use super::windows::{Share, Windows};
use crate::connection::linger::{LINGER, MOST_DISCARDED};

/// The shortest wait for a client that may be one for the network.
const PAUSE: Duration = Duration::from_millis(2);
/// What comes later belongs to another burst: nobody is further away.
const LONGEST_BURST: Duration = Duration::from_secs(1);
/// Bytes that come at least before the first pause of a client whose window holds it up: most of what it has by default.
const FIRST_BURST: u64 = 48 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// `None` once it is let go of.
    stream: Option<RecvStream>,
    /// As the head says.
    length: Option<u64>,
    received: u64,
    share: Option<Share>,
    /// Since when nothing has come.
    waits_since: Option<Instant>,
    /// When the present burst began, and its bytes.
    burst_since: Option<Instant>,
    burst: u64,
    /// Wider windows were asked for.
    has_asked: bool,
    pause: Option<Pin<Box<Sleep>>>,
    is_wanted: Option<Rc<Cell<bool>>>,
}

impl Inbound {
    /// Of a stream whose head has these fields; h2 holds it to the length that they say. `is_wanted` is set when
    /// somebody waits for it.
    pub(super) fn new(
        mut stream: RecvStream,
        headers: &HeaderMap,
        windows: &Rc<Windows>,
        is_wanted: Option<Rc<Cell<bool>>>,
    ) -> Self {
        let share = (!stream.is_end_stream()).then(|| windows.open(&mut stream));
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            stream: Some(stream),
            length,
            received: 0,
            share,
            waits_since: None,
            burst_since: None,
            burst: 0,
            has_asked: false,
            pause: None,
            is_wanted,
        }
    }

    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        let Poll::Ready(data) = stream.poll_data(context) else {
            if let Some(is_wanted) = &self.is_wanted {
                is_wanted.set(true);
            }
            self.wait(context);
            return Poll::Pending;
        };
        let Some(Ok(data)) = data else {
            return Poll::Ready(data);
        };
        // What is read here goes on at once, or is in a bounded place: as much again may come.
        if let Err(error) = stream.flow_control().release_capacity(data.len()) {
            return Poll::Ready(Some(Err(error)));
        }
        self.took(data.len());
        Poll::Ready(Some(Ok(data)))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    /// What the head says, or that there is none.
    pub(crate) fn length(&self) -> Option<u64> {
        if self.is_end_stream() {
            Some(0)
        } else {
            self.length
        }
    }

    fn left(&self) -> Option<u64> {
        self.length
            .map(|length| length.saturating_sub(self.received))
    }

    fn took(&mut self, bytes: usize) {
        self.waits_since = None;
        let now = Instant::now();
        let since = *self.burst_since.get_or_insert(now);
        if self.burst == 0 || now - since > LONGEST_BURST {
            self.burst_since = Some(now);
            self.burst = 0;
        }
        self.burst += bytes as u64;
        self.received += bytes as u64;
        if let Some(share) = &self.share {
            share.read(bytes, self.left());
        }
    }

    /// Nothing is there. Asks for wider windows if a burst came before and nothing comes in the time of a pause.
    fn wait(&mut self, context: &mut Context<'_>) {
        let Some(share) = &self.share else { return };
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        let full = if self.has_asked {
            share.room() / 2
        } else {
            FIRST_BURST
        };
        if self.burst < full {
            return;
        }
        let lasted = self.burst_since.map_or(PAUSE, |began| since - began);
        let end = since + PAUSE.max(lasted / 2);
        let pause = self
            .pause
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if pause.deadline() < end {
            pause.as_mut().reset(end);
        }
        if pause.as_mut().poll(context).is_ready() {
            // Once a burst.
            self.burst = 0;
            self.has_asked = true;
            share.ask(self.left());
        }
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let (Some(stream), Some(share)) = (self.stream.take(), self.share.take())
            && !stream.is_end_stream()
        {
            share.windows().let_go(stream);
        }
    }
}

/// Reads on what nobody wants: to its end, or for as long and as much as a client of HTTP/1.1 is listened to. If it has
/// not ended then, h2 resets the stream.
pub(super) async fn drain(mut stream: RecvStream) {
    let mut discarded = 0;
    let read = std::future::poll_fn(|context| {
        while discarded < MOST_DISCARDED {
            let Some(Ok(data)) = ready!(stream.poll_data(context)) else {
                break;
            };
            discarded += data.len();
            if stream.flow_control().release_capacity(data.len()).is_err() {
                break;
            }
        }
        Poll::Ready(())
    });
    if tokio::time::timeout(LINGER, read).await.is_err() {
        tracing::debug!(discarded, "a client went on sending what nobody wants");
    }
}
