//! Connections, from the listening socket to tasks of their own.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::{connection, shard::Shard};

/// Connections taken before anybody else gets a turn.
const ACCEPT_BATCH: usize = 16;
/// A congestion control that sends as soon as the window allows. Every Linux has it, and lets everybody choose it.
const UNPACED: &[u8] = b"reno";

/// Lets a listener that only this machine reaches have connections that are not paced.
///
/// Where BBR is the machine's choice, it spaces what is sent over time, which spares queues on a way that others share.
/// On loopback there is neither, but each 64 KiB of a long answer then wait for a timer that interrupts this
/// thread. Connections take this over from their listener; once a connection is open, its pacing stays.
pub(crate) fn unpace(listener: &TcpListener) {
    let is_local = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    if is_local && let Err(error) = SockRef::from(listener).set_tcp_congestion(UNPACED) {
        tracing::debug!(%error, "connections are paced as the kernel likes");
    }
}

/// Takes connections until the thread drains, and then those that the kernel has taken for it.
pub(crate) async fn accept(shard: Rc<Shard>, listener: TcpListener) {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
    const LONGEST_PAUSE: Duration = Duration::from_millis(100);
    let mut pause = SHORTEST_PAUSE;
    let mut batch = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = shard.told_to_drain() => break,
        };
        match accepted {
            Ok((stream, client)) => {
                pause = SHORTEST_PAUSE;
                batch += 1;
                if batch == ACCEPT_BATCH {
                    batch = 0;
                    tokio::task::yield_now().await;
                }
                begin(&shard, stream, client);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                // Descriptors or memory are used up: wait for some to come back, and say so once.
                shard.counters.accept_errors.add();
                if pause == SHORTEST_PAUSE {
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    // The kernel has told these clients that they are connected, and would reset them with the socket.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, client)) = listener.accept() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                begin(&shard, stream, client);
            }
        }
    }
}

/// Serves a connection in a task of its own, if there is room for it; else it is closed at once.
fn begin(shard: &Rc<Shard>, stream: TcpStream, client: SocketAddr) {
    let Some(place) = shard.gate.enter(client.ip()) else {
        return;
    };
    if let Err(error) = stream.set_nodelay(true) {
        // The client has left already.
        tracing::debug!(%error, "connection ended before it began");
        return;
    }
    tokio::task::spawn_local(connection::serve(Rc::clone(shard), stream, client, place));
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_from_this_machine_alone_are_not_paced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        unpace(&listener);
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let name = SockRef::from(&accepted).tcp_congestion().unwrap();
        assert_eq!(name.split(|byte| *byte == 0).next(), Some(UNPACED));
        drop(client);

        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let before = SockRef::from(&listener).tcp_congestion().unwrap();
        unpace(&listener);
        assert_eq!(SockRef::from(&listener).tcp_congestion().unwrap(), before);
    }
}
