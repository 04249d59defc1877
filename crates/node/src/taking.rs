//! A client's connection that is given up when the client takes nothing for a time.
//!
//! An answer may be long, or never end, and a place at the port is held for as long as it is written. A client that reads
//! slowly may be as slow as it likes; one that stopped reading, or whose machine is gone, gives its place back.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Sleep},
};

pub(crate) struct Taking<S> {
    stream: S,
    within: Duration,
    /// Runs while nothing can be written.
    limit: Option<Pin<Box<Sleep>>>,
}

impl<S> Taking<S> {
    pub(crate) const fn new(stream: S, within: Duration) -> Self {
        Self {
            stream,
            within,
            limit: None,
        }
    }

    fn judge(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.limit = None;
            return written;
        }
        let within = self.within;
        let limit = self
            .limit
            .get_or_insert_with(|| Box::pin(time::sleep(within)));
        limit
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taking<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taking<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A socket has nothing to flush, and is shut down at once.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        runtime::Builder,
    };

    use super::*;

    const BYTES: usize = 64;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let bounded = async { time::timeout(Duration::from_secs(30), future).await };
        runtime.block_on(bounded).expect("it ends")
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up() {
        block_on(async {
            let (_client, server) = duplex(BYTES);
            let mut server = Taking::new(server, Duration::from_millis(10));
            let error = server.write_all(&[0; BYTES + 1]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn whatever_is_taken_begins_the_time_anew() {
        block_on(async {
            let (mut client, server) = duplex(BYTES);
            let mut server = Taking::new(server, Duration::from_secs(3600));
            server.write_all(&[0; BYTES]).await.unwrap();
            assert!(server.limit.is_none());
            let mut writes = pin!(server.write_all(&[0]));
            assert!(poll_once(writes.as_mut()).await.is_pending());
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 1);
            writes.await.unwrap();
            assert!(server.limit.is_none());
        });
    }

    /// As it is now.
    async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }
}
