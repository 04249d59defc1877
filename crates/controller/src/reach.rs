//! Whether those who call a replica can reach it: connects as a router does, and waits for its HELLO.
//!
//! It says nothing of user code: the replica's I/O thread answers, whatever the event loop does.

use std::{future::pending, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{Decoder, Frame, Header, Kind, PROTOCOL_VERSION};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::timeout,
};

use crate::core::{Event, Reached};

/// Much more than a machine needs that has too much to do.
const WITHIN: Duration = Duration::from_secs(5);
/// Replicas that are connected to at a time; the others wait.
const AT_A_TIME: usize = 32;

/// Replicas that are being connected to: one at a time for each. Dropping it ends the attempts.
pub(crate) struct Reaching {
    attempts: JoinSet<(String, Reached)>,
    places: Arc<Semaphore>,
}

impl Reaching {
    pub(crate) fn new() -> Self {
        Self {
            attempts: JoinSet::new(),
            places: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    /// Must be called within a runtime.
    pub(crate) fn begin(&mut self, replica_id: String, socket_path: String) {
        let places = Arc::clone(&self.places);
        self.attempts.spawn(async move {
            // It is never closed.
            let _place = places.acquire_owned().await;
            let reached = reach(&socket_path, &replica_id, WITHIN).await;
            (replica_id, reached)
        });
    }

    /// What came of attempts: of all that have ended by then, one at least. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<Event>, JoinError> {
        let Some(first) = self.attempts.join_next().await else {
            return pending().await;
        };
        let mut events = vec![event(first?)];
        while let Some(next) = self.attempts.try_join_next() {
            events.push(event(next?));
        }
        Ok(events)
    }
}

fn event((replica_id, reached): (String, Reached)) -> Event {
    Event::Reached {
        replica_id,
        reached,
    }
}

async fn reach(socket_path: &str, replica_id: &str, within: Duration) -> Reached {
    match timeout(within, greet(socket_path, replica_id)).await {
        Ok(Ok(())) => Reached::Yes,
        Ok(Err(error)) if is_ours(&error) => Reached::Unknown,
        Ok(Err(error)) => Reached::No(error.to_string()),
        Err(_) => Reached::No(format!(
            "it did not accept a connection and answer within {within:?}; it may have no descriptors left \
                 (ulimit -n), or be stopped (SIGSTOP)"
        )),
    }
}

async fn greet(socket_path: &str, replica_id: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket_path).await?;
    let mut header = Header::new(Kind::Hello, 0, 0);
    header.a = PROTOCOL_VERSION;
    let mut out = BytesMut::new();
    Frame::new(header, Bytes::new()).encode(&mut out);
    stream.write_all(&out).await?;
    let mut buffer = BytesMut::new();
    loop {
        // Descriptors that come beside it are closed by the kernel, since nobody asks for them.
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::other("it closes the connection at once"));
        }
        if let Some(frame) = Decoder::data()
            .decode(&mut buffer)
            .map_err(io::Error::other)?
        {
            let is_it = frame.header.kind == Kind::Hello && frame.payload == replica_id.as_bytes();
            return if is_it {
                Ok(())
            } else {
                Err(io::Error::other("something else answers at its socket"))
            };
        }
    }
}

/// The error says something of this process, or of the machine, and nothing of the replica.
fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// What is said of a replica "r" whose listener gets one connection and does this with it.
    fn reached(answer: impl FnOnce(std::os::unix::net::UnixStream) + Send + 'static) -> Reached {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("r.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let replica = std::thread::spawn(move || answer(listener.accept().unwrap().0));
        let reached = runtime().block_on(reach(path.to_str().unwrap(), "r", WITHIN));
        replica.join().unwrap();
        reached
    }

    fn hello(stream: &mut std::os::unix::net::UnixStream, id: &'static str) {
        use std::io::{Read, Write};
        let mut bytes = [0; 64];
        assert!(stream.read(&mut bytes).unwrap() > 0);
        let mut out = BytesMut::new();
        let header = Header::new(Kind::Hello, 0, 0);
        Frame::new(header, Bytes::from_static(id.as_bytes())).encode(&mut out);
        stream.write_all(&out).unwrap();
    }

    #[test]
    fn who_answers_with_its_own_hello_is_reached() {
        assert_eq!(reached(|mut stream| hello(&mut stream, "r")), Reached::Yes);
        assert!(matches!(
            reached(|mut stream| hello(&mut stream, "other")),
            Reached::No(why) if why.contains("something else")
        ));
    }

    #[test]
    fn who_hangs_up_or_is_not_there_is_not() {
        assert!(matches!(reached(drop), Reached::No(_)));
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("r.sock");
        let nobody = || runtime().block_on(reach(path.to_str().unwrap(), "r", WITHIN));
        assert!(matches!(nobody(), Reached::No(why) if why.contains("No such file")));
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(nobody(), Reached::No(why) if why.contains("refused")));
    }

    #[test]
    fn who_does_not_accept_is_not_reached_and_the_causes_are_named() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("r.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let soon = Duration::from_millis(20);
        let reached = runtime().block_on(reach(path.to_str().unwrap(), "r", soon));
        assert!(matches!(reached, Reached::No(why) if why.contains("ulimit -n")));
    }

    #[test]
    fn what_is_short_here_says_nothing_of_the_replica() {
        assert!(is_ours(&rustix::io::Errno::MFILE.into()));
        assert!(!is_ours(&rustix::io::Errno::CONNREFUSED.into()));
    }
}
