//! Connections to replicas as far as they are written to: one buffer each, and who must wake for them.
//!
//! A frame is appended at once and written later, by the driver, which is woken when the first buffer of a turn gets
//! something. A connection is *listed* while its buffer holds anything.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::{Buf, BytesMut};
use eagleray_wire::region::{Channel, Release};
use tokio::task::AbortHandle;

use super::{entry::EntryKey, socket::Writer};
use crate::core::ConnectionKey;

/// So many frames are not kept for the end of the turn.
const EARLY_FRAMES: u32 = 16;
/// With more than this in the buffer of a connection, bodies wait; control frames and new requests do not.
const MAX_BODY_BACKLOG: usize = 256 * 1024;
/// With more than this, the replica takes nothing any more and its connection is given up.
const MAX_BACKLOG: usize = 64 * 1024 * 1024;
/// Ends of connections that are remembered.
const NOTED_ENDS: usize = 64;

/// The part of a connection that regions take.
#[derive(Debug)]
pub(super) struct Regions {
    pub(super) channel: Channel,
    pub(super) release: Arc<dyn Release>,
}

/// A connection that has a socket.
#[derive(Debug)]
pub(super) struct Link {
    write: Writer,
    pub(super) out: BytesMut,
    /// Where descriptors of regions go, if the replica takes any, and the way back for those that come.
    pub(super) regions: Option<Regions>,
    /// Of user code, by their numbers less one; empty where the replica names none.
    pub(super) routes: Vec<Arc<str>>,
    listed: bool,
    /// Frames that were appended since the last write.
    appended: u32,
    /// Requests whose bodies wait for the buffer to empty.
    waiting_bodies: Vec<EntryKey>,
}

impl Link {
    /// Whether a body frame may be appended; if not, the body of this request is remembered.
    pub(super) fn takes_body(&mut self, entry: EntryKey) -> bool {
        let takes = self.out.len() <= MAX_BODY_BACKLOG;
        if !takes && self.waiting_bodies.last() != Some(&entry) {
            self.waiting_bodies.push(entry);
        }
        takes
    }

    /// Writes what the socket takes now. What is left, and an error, is for the driver, which has its turn still.
    fn write_early(&mut self) {
        self.appended = 0;
        if let Ok(written) = self.write.try_write(&self.out) {
            self.out.advance(written);
        }
    }

    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.appended = 0;
        while !self.out.is_empty() {
            match self.write.poll_write(context, &self.out) {
                Poll::Ready(Ok(written)) => self.out.advance(written),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        self.write.drained();
        Ok(())
    }
}

#[derive(Debug)]
struct Connection {
    key: ConnectionKey,
    task: AbortHandle,
    link: Option<Link>,
}

/// What a flush leaves to be done.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// Requests whose bodies may go on.
    pub(super) bodies: Vec<EntryKey>,
    /// Connections that are of no more use.
    pub(super) given_up: Vec<ConnectionKey>,
}

#[derive(Debug, Default)]
pub(super) struct Links {
    /// By [`ConnectionKey::index`].
    connections: Vec<Option<Connection>>,
    /// Indexes of connections with something to write.
    listed: Vec<usize>,
    driver: Option<Waker>,
    /// Replicas whose connections ended lately.
    ends: VecDeque<(String, Instant)>,
}

impl Links {
    /// A task works on the connection.
    pub(super) fn begin(&mut self, key: ConnectionKey, task: AbortHandle) {
        let at = key.index();
        if self.connections.len() <= at {
            self.connections.resize_with(at + 1, || None);
        }
        self.connections[at] = Some(Connection {
            key,
            task,
            link: None,
        });
    }

    fn connection(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(key.index())?.as_mut()?;
        (connection.key == key).then_some(connection)
    }

    /// The connection has a socket. False if nobody wants it any more.
    pub(super) fn open(
        &mut self,
        key: ConnectionKey,
        write: Writer,
        regions: Option<Regions>,
    ) -> bool {
        let Some(connection) = self.connection(key) else {
            return false;
        };
        connection.link = Some(Link {
            write,
            out: BytesMut::with_capacity(64 * 1024),
            regions,
            routes: Vec::new(),
            listed: false,
            appended: 0,
            waiting_bodies: Vec::new(),
        });
        true
    }

    pub(super) fn link(&mut self, key: ConnectionKey) -> Option<&mut Link> {
        self.connection(key)?.link.as_mut()
    }

    /// The link of a connection that the state machine takes for connected. It hears at once when a link is closed, so
    /// there is one.
    pub(super) fn known(&mut self, key: ConnectionKey) -> Option<&mut Link> {
        let link = self.link(key);
        debug_assert!(link.is_some(), "{key:?} is connected and has no link");
        link
    }

    /// Ends a connection and its task. False if it had ended.
    pub(super) fn close(&mut self, key: ConnectionKey) -> bool {
        let known = self.connection(key).is_some();
        if known && let Some(connection) = self.connections[key.index()].take() {
            connection.task.abort();
        }
        known
    }

    /// Something was appended to the connection's buffer.
    pub(super) fn list(&mut self, key: ConnectionKey) {
        let Some(link) = self.known(key) else {
            return;
        };
        link.appended += 1;
        if link.appended >= EARLY_FRAMES {
            link.write_early();
        }
        if !link.listed {
            link.listed = true;
            self.listed.push(key.index());
            self.wake_driver();
        }
    }

    pub(super) fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    pub(super) fn set_driver(&mut self, waker: &Waker) {
        let same = |driver: &Waker| driver.will_wake(waker);
        if !self.driver.as_ref().is_some_and(same) {
            self.driver = Some(waker.clone());
        }
    }

    /// Writes what sockets take at once. What is left is for the driver alone: it has its turn still, or waits for a socket
    /// that is full, and another task that waited for that would be woken in its place.
    pub(super) fn write_early(&mut self) {
        for at in &self.listed {
            if let Some(Some(connection)) = self.connections.get_mut(*at)
                && let Some(link) = &mut connection.link
            {
                link.write_early();
            }
        }
    }

    /// Writes what waits. Connections whose socket is full stay listed; their sockets wake the driver.
    pub(super) fn flush(&mut self, context: &mut Context<'_>, flushed: &mut Flushed) {
        let connections = &mut self.connections;
        self.listed.retain(|at| {
            let Some(Some(connection)) = connections.get_mut(*at) else {
                return false;
            };
            let Some(link) = &mut connection.link else {
                return false;
            };
            if let Err(error) = link.flush(context) {
                // The reader reports the end, after it has read what the replica still had to say.
                tracing::debug!(%error, "cannot write to a replica");
                link.out.clear();
            }
            if link.out.len() > MAX_BACKLOG {
                tracing::warn!(
                    bytes = link.out.len(),
                    "gave up a replica that reads nothing"
                );
                flushed.given_up.push(connection.key);
            }
            if link.out.len() < MAX_BODY_BACKLOG / 2 {
                flushed.bodies.append(&mut link.waiting_bodies);
            }
            link.listed = !link.out.is_empty();
            link.listed
        });
    }

    /// A connection to a replica ended.
    pub(super) fn note_end(&mut self, replica_id: String, now: Instant) {
        if self.ends.len() == NOTED_ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back((replica_id, now));
    }

    /// When the last connection to a replica ended, if that was lately.
    pub(super) fn last_end(&self, replica_id: &str) -> Option<Instant> {
        let mut ends = self.ends.iter().rev();
        ends.find(|(id, _)| id == replica_id).map(|(_, end)| *end)
    }
}
