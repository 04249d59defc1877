//! HTTP/1.1 on one connection: hyper, and the task that drives it.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    io::Io,
    socket::Transport,
    state::{Connection, End},
};
use crate::{counters::Counters, exchange::Service, shard::Shard, websocket};

/// Serves a connection until it ends. `is_known`: it is HTTP/1.1, whatever it begins with. Gives it back, with the
/// bytes that were read, if it speaks HTTP/2.
pub(super) async fn serve<S>(
    shard: Rc<Shard>,
    state: Rc<Connection>,
    stream: S,
    is_known: bool,
) -> Option<(S, Bytes)>
where
    S: Transport,
{
    let service = Service::new(Rc::clone(&shard), Rc::clone(&state));
    let io = Io::new(stream, is_known, Rc::clone(&shard), Rc::clone(&state));
    let (header_bytes, header_count) = {
        let settings = shard.settings();
        let limits = &settings.limits;
        (limits.header_bytes as usize, limits.header_count as usize)
    };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        // What is buffered of a body and of an answer. It is not exact, so heads (and trailers, which are dropped)
        // have their own.
        .max_buf_size(header_bytes)
        .max_header_size(header_bytes)
        // A client that closes its sending half is a client that left: most that leave can be told by nothing else.
        .half_close(false)
        .header_read_timeout(None);
    // Given to hyper only if it differs: its own default is as much, and kept on the stack.
    if header_count != 100 {
        builder.max_headers(header_count);
    }
    let mut task = Task {
        connection: Some(builder.serve_connection(io, service)),
        state,
        shard,
        told_to_end: false,
        ended_well: false,
    };
    (&mut task).await;
    let (shard, state) = (task.shard, task.state);
    let parts = task.connection?.into_parts();
    if let Some(accepted) = parts.service.into_accepted().filter(|_| task.ended_well) {
        let stream = parts.io.into_stream();
        // Boxed, like all that is rarer.
        Box::pin(websocket::serve(
            shard,
            state,
            stream,
            parts.read_buf,
            *accepted,
        ))
        .await;
        return None;
    }
    if (state.may_upgrade.get() && task.ended_well) || state.has_broken_off() {
        let mut io = parts.io;
        poll_fn(|context| {
            state.wake_by(context.waker());
            if state.is_to_end() {
                return Poll::Ready(());
            }
            hyper::rt::Write::poll_shutdown(Pin::new(&mut io), context).map(drop)
        })
        .await;
        return None;
    }
    parts.io.into_http2()
}

struct Task<S>
where
    S: Transport,
{
    /// Taken away when nothing of it may be used any more.
    connection: Option<hyper::server::conn::http1::Connection<Io<S>, Service>>,
    state: Rc<Connection>,
    shard: Rc<Shard>,
    told_to_end: bool,
    /// hyper has done all that it had to do.
    ended_well: bool,
}

impl<S> Future for Task<S>
where
    S: Transport,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        if let Some(end) = task.state.end.get() {
            if let (Some(connection), End::Late) = (task.connection.take(), end) {
                connection.into_parts().io.say_late();
            }
            return Poll::Ready(());
        }
        task.state.wake_by(context.waker());
        let Some(connection) = &mut task.connection else {
            debug_assert!(false, "who has ended is not polled");
            return Poll::Ready(());
        };
        let mut connection = Pin::new(connection);
        let is_last = task.state.is_last.get();
        if !task.told_to_end && (is_last || task.shard.ends(task.state.has_asked.get())) {
            task.told_to_end = true;
            connection.as_mut().graceful_shutdown();
        }
        match catch_unwind(AssertUnwindSafe(|| connection.poll(context))) {
            Ok(Poll::Pending) => {
                if !task.told_to_end && task.state.is_last.get() {
                    // hyper must know before the answer ends: its head may be out already, with no word of that.
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Ok(Poll::Ready(Ok(()))) => {
                task.ended_well = true;
                Poll::Ready(())
            }
            Ok(Poll::Ready(Err(error))) => {
                count(&error, &task.shard.counters);
                tracing::debug!(%error, "connection ended early");
                Poll::Ready(())
            }
            Err(_panic) => {
                task.connection = None;
                self.shard.count_panic();
                Poll::Ready(())
            }
        }
    }
}

/// What hyper refused by itself.
fn count(error: &hyper::Error, counters: &Counters) {
    if error.is_parse_too_large() {
        counters.heads_too_large.add();
    } else if error.is_parse() {
        counters.heads_malformed.add();
    }
}
