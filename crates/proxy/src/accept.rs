//! Connections, from the listening socket to tasks of their own.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use crate::{connection, shard::Shard};

/// Connections taken before anybody else gets a turn.
const ACCEPT_BATCH: usize = 16;

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
