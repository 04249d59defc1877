//! One client connection, from its first byte to its end: TLS, the protocol that it speaks, its place in the thread's list.
//!
//! hyper's own head timer would arm a timer for every request and would count an idle connection as a slow head.
//! Here each connection notes in a cell what it is doing and since which tick ([`state`]), and one sweep a tick looks at
//! all of them ([`patience`]): no cost on the path of a request, and every limit is exact to one tick. What moves too
//! slowly is noted in the same way ([`progress`]).
//!
//! The connection's future runs user-controlled input, so a panic in it is caught here, counted, and costs this
//! connection only. [`http1`] and [`http2`] are what it speaks.

mod http1;
mod http2;
mod io;
mod linger;
mod patience;
mod peers;
mod progress;
mod socket;
mod state;

use std::{net::SocketAddr, rc::Rc};

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::{gate::Place, shard::Shard, tls};

pub(crate) use http2::Inbound;
pub(crate) use patience::Patience;
pub(crate) use progress::Progress;
pub(crate) use state::{Connection, Phase};

use peers::Peers;
use socket::{Socket, Transport};

/// Bytes of an answer that may wait in the kernel. With more, a slow reader costs more, and seems to move only once
/// in a long while.
const UNSENT_BYTES: u32 = 128 * 1024;
/// What TLS holds that the socket has not taken: what one turn makes of an answer, and what frames and records add.
const TLS_BYTES: usize = 68 * 1024;

/// Serves one connection until it ends.
pub(crate) async fn serve(shard: Rc<Shard>, stream: TcpStream, client: SocketAddr, place: Place) {
    if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "the kernel buffers answers as it likes");
    }
    let (state, tls) = {
        let settings = shard.settings();
        let peers = Peers::of(&stream, client, &settings.trusted_proxies);
        let hears_half_closes = !settings.limits.half_close_s.is_zero();
        let tls = settings.tls.clone();
        let state = Connection::new(peers, tls.is_some(), hears_half_closes, shard.tick());
        (Rc::new(state), tls)
    };
    let _listed = Listed {
        key: shard.list(&state),
        shard: Rc::clone(&shard),
        _place: place,
    };
    match tls {
        None => {
            let socket = Socket::new(stream, Rc::clone(&state), true);
            speak(shard, state, socket, Protocol::Unknown).await;
        }
        // Boxed, like all that is rarer: a task of plain HTTP/1.1 does not hold room for it.
        Some(tls) => Box::pin(secure(shard, state, stream, tls)).await,
    }
}

/// Takes the TLS handshake, which chooses the protocol.
async fn secure(shard: Rc<Shard>, state: Rc<Connection>, stream: TcpStream, tls: tls::Server) {
    let socket = Socket::new(stream, Rc::clone(&state), false);
    let handshake = tls.accept(socket);
    let limit = shard.settings().limits.tls_handshake_s;
    let mut stream = match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            shard.counters.tls_handshakes_failed.add();
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_elapsed) => {
            shard.counters.tls_handshakes_timed_out.add();
            return;
        }
    };
    let protocol = if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2) {
        Protocol::Http2
    } else {
        Protocol::Http1
    };
    stream.get_mut().1.set_buffer_limit(Some(TLS_BYTES));
    stream.socket().meter();
    state.phase.set(Phase::Idle(shard.tick()));
    speak(shard, state, stream, protocol).await;
}

/// What is known before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// The first bytes say it.
    Unknown,
    Http1,
    Http2,
}

async fn speak<S>(shard: Rc<Shard>, state: Rc<Connection>, stream: S, protocol: Protocol)
where
    S: Transport,
{
    let http2 = if protocol == Protocol::Http2 {
        Some((stream, Bytes::new()))
    } else {
        let is_known = protocol == Protocol::Http1;
        http1::serve(Rc::clone(&shard), Rc::clone(&state), stream, is_known).await
    };
    if let Some((stream, first)) = http2 {
        Box::pin(http2::serve(shard, state, stream, first)).await;
    }
}

/// The place in the thread's list, given back however the task ends.
struct Listed {
    shard: Rc<Shard>,
    key: usize,
    _place: Place,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shard.unlist(self.key);
    }
}
