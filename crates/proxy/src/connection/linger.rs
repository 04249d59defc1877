//! The end of a connection whose client may still be sending: what it sends is read and thrown away for a while.
//!
//! A socket that is closed over unread bytes is reset, and a reset overtakes what was written last: the answer, or the
//! GOAWAY, that says why.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, ReadBuf};

/// How long a refused client is listened to after the answer.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Most that is read and thrown away after the answer, within the time of lingering. A client that sends more than this
/// without reading is cut, and may never see the answer: so an upload that is too long by as much as is common still does.
pub(super) const MOST_DISCARDED: usize = 64 * 1024 * 1024;
const DISCARD_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Linger {
    discarded: usize,
}

impl Linger {
    /// Reads until the client ends or has sent too much; if nothing comes, only while `may_send`: it may be sending as far
    /// as is known.
    pub(super) fn poll<S>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        may_send: bool,
    ) -> Poll<()>
    where
        S: AsyncRead + Unpin,
    {
        let mut trash = [0; DISCARD_BYTES];
        while self.discarded < MOST_DISCARDED {
            let mut buffer = ReadBuf::new(&mut trash);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.discarded += buffer.filled().len();
                }
                Poll::Ready(_) => break,
                Poll::Pending if self.discarded == 0 && !may_send => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}
