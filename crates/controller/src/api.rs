//! The controller's socket: calls of drivers and of the command line, and watchers of targets.
//!
//! One task a connection turns frames into [`ClientEvent`]s and writes answers; everything is decided by the
//! service loop. Bounds: [`CONNECTIONS`] at once (further ones wait in the socket's backlog), [`EVENTS`] events on
//! their way to the loop (then connections are not read), [`ANSWERS`] answers that a client has not read. A client
//! that leaves more unread is cut off, except that a watcher of targets is merely passed over: it gets one
//! snapshot when it has caught up.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use eagleray_types::control::{
    ApiError, ApiRequest, ApiResponse, TargetUpdate, api_request, api_response,
};
use eagleray_wire::{Decoder, Frame, Kind, peer_uid};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use crate::core::CallId;

mod local;

pub use local::{LocalCalls, NoAnswer};

const CONNECTIONS: usize = 1024;
const EVENTS: usize = 256;
const ANSWERS: usize = 64;
/// Watches of targets of one connection.
const WATCHES: usize = 16;
/// Answers are gathered into one write up to this size.
const GATHER_BYTES: usize = 64 * 1024;
/// Pause after `accept` failed (no descriptor left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and soon taken apart"
)]
pub(crate) enum ClientEvent {
    Connected {
        connection: u64,
        client: Client,
    },
    Call {
        call: CallId,
        body: api_request::Body,
    },
    /// A frame that cannot be read as a request.
    Bad {
        call: CallId,
        message: String,
    },
    /// It has read everything after having been passed over.
    CaughtUp {
        connection: u64,
    },
    Gone {
        connection: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Client {
    answers: mpsc::Sender<Frame>,
    /// Read by the connection's task: tell the loop when the queue is empty.
    behind: Arc<AtomicBool>,
    watches: Vec<Watch>,
}

#[derive(Debug)]
struct Watch {
    sequence: u64,
    /// Updates were left out: a snapshot comes next.
    behind: bool,
}

/// All clients, as the loop sees them. Dropping it ends their tasks.
#[derive(Debug)]
pub(crate) struct Clients {
    events: mpsc::Receiver<ClientEvent>,
    /// Of which the local calls have copies.
    sender: mpsc::Sender<ClientEvent>,
    listeners: mpsc::Sender<UnixListener>,
    open: BTreeMap<u64, Client>,
    _tasks: JoinSet<()>,
}

impl Clients {
    /// Begins to accept. Must be called within a runtime.
    pub(crate) fn new(listener: UnixListener) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        let (listeners, next) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, next, sender.clone()));
        Self {
            events,
            sender,
            listeners,
            open: BTreeMap::new(),
            _tasks: tasks,
        }
    }

    /// For who calls from within this process.
    pub(crate) fn local(&self) -> LocalCalls {
        LocalCalls::new(self.sender.clone())
    }

    /// Accepts from another listener from now on. Connections that are open stay.
    pub(crate) fn accept_from(&mut self, listener: UnixListener) {
        // Full: one that nobody has looked at yet is on its way, and the node says again what is missing.
        drop(self.listeners.try_send(listener));
    }

    /// The next event of any client. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<ClientEvent> {
        self.events.recv().await
    }

    pub(crate) fn connected(&mut self, connection: u64, client: Client) {
        self.open.insert(connection, client);
    }

    /// Forgets the client and ends its connection.
    pub(crate) fn gone(&mut self, connection: u64) {
        self.open.remove(&connection);
    }

    pub(crate) fn answer(&mut self, call: CallId, response: &ApiResponse) {
        let Some(client) = self.open.get(&call.connection) else {
            return;
        };
        let frame = Frame::control(call.sequence, response.encode_to_vec());
        if client.answers.try_send(frame).is_err() {
            tracing::warn!(
                connection = call.connection,
                "client does not read its answers and is cut off"
            );
            self.gone(call.connection);
        }
    }

    /// A new watch. A client has a few at most, since each is written every update.
    pub(crate) fn watch(&mut self, call: CallId, snapshot: Option<TargetUpdate>) {
        if let Some(client) = self.open.get_mut(&call.connection) {
            if client.watches.len() >= WATCHES {
                let message = format!("{WATCHES} watches are open on this connection already");
                let error = ApiError {
                    kind: "invalid".to_owned(),
                    message,
                };
                return self.answer(
                    call,
                    &ApiResponse {
                        body: Some(api_response::Body::Error(error)),
                    },
                );
            }
            client.watches.push(Watch {
                sequence: call.sequence,
                behind: true,
            });
            catch_up(client, snapshot.map(target_message).as_ref());
        }
    }

    /// One more update for every watcher that has kept up. A snapshot reaches those that have not, too.
    pub(crate) fn publish(&mut self, update: &TargetUpdate) {
        if self.open.values().all(|client| client.watches.is_empty()) {
            return;
        }
        let message = target_message(update.clone());
        for client in self.open.values_mut() {
            for watch in client
                .watches
                .iter_mut()
                .filter(|watch| update.snapshot || !watch.behind)
            {
                watch.behind = client
                    .answers
                    .try_send(Frame::control(watch.sequence, message.clone()))
                    .is_err();
                client.behind.fetch_or(watch.behind, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn caught_up(&mut self, connection: u64, snapshot: Option<TargetUpdate>) {
        if let Some(client) = self.open.get_mut(&connection) {
            catch_up(client, snapshot.map(target_message).as_ref());
        }
    }
}

fn target_message(update: TargetUpdate) -> Bytes {
    ApiResponse {
        body: Some(api_response::Body::Target(update)),
    }
    .encode_to_vec()
    .into()
}

/// Sends `snapshot` to the watches that are behind. Before there is one, they wait for the first update, which is
/// a snapshot.
fn catch_up(client: &mut Client, snapshot: Option<&Bytes>) {
    let Some(message) = snapshot else { return };
    for watch in client.watches.iter_mut().filter(|watch| watch.behind) {
        watch.behind = client
            .answers
            .try_send(Frame::control(watch.sequence, message.clone()))
            .is_err();
        // Relaxed: both sides run on one thread; the flag only needs interior mutability.
        client.behind.fetch_or(watch.behind, Ordering::Relaxed);
    }
}

async fn accept(
    mut listener: UnixListener,
    mut listeners: mpsc::Receiver<UnixListener>,
    events: mpsc::Sender<ClientEvent>,
) {
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let own_uid = rustix::process::geteuid().as_raw();
    let mut said = false;
    for connection in 1.. {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(next) = listeners.recv() => {
                listener = next;
                continue;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => {
                said = false;
                stream
            }
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "connections to controller.sock cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match peer_uid(&stream) {
            Ok(uid) if uid == own_uid => {}
            Ok(uid) => {
                tracing::warn!(uid, "connection of another user is refused");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "connection whose user is not known is refused");
                continue;
            }
        }
        let events = events.clone();
        connections.spawn(async move {
            serve(connection, stream, &events).await;
            drop(permit);
        });
    }
}

/// One connection, to its end.
async fn serve(connection: u64, stream: UnixStream, events: &mpsc::Sender<ClientEvent>) {
    let (answers, queue) = mpsc::channel(ANSWERS);
    let behind = Arc::new(AtomicBool::new(false));
    let client = Client {
        answers,
        behind: Arc::clone(&behind),
        watches: Vec::new(),
    };
    if events
        .send(ClientEvent::Connected { connection, client })
        .await
        .is_err()
    {
        return;
    }
    let (read, write) = stream.into_split();
    let ended = tokio::select! {
        ended = read_calls(connection, read, events) => ended,
        ended = write_answers(connection, write, queue, &behind, events) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(connection, %error, "connection broke");
    }
    // When the loop is gone, nobody needs to know.
    drop(events.send(ClientEvent::Gone { connection }).await);
}

async fn read_calls(
    connection: u64,
    mut stream: OwnedReadHalf,
    events: &mpsc::Sender<ClientEvent>,
) -> io::Result<()> {
    let decoder = Decoder::control();
    let mut buffer = BytesMut::new();
    while stream.read_buf(&mut buffer).await? > 0 {
        while let Some(frame) = decoder.decode(&mut buffer).map_err(io::Error::other)? {
            if frame.header.kind != Kind::Control {
                continue;
            }
            let call = CallId {
                connection,
                sequence: frame.header.sequence,
            };
            let event = match ApiRequest::decode(frame.payload) {
                Ok(ApiRequest { body: Some(body) }) => ClientEvent::Call { call, body },
                Ok(ApiRequest { body: None }) => {
                    let message = "the controller does not know this request; is the client newer?"
                        .to_owned();
                    ClientEvent::Bad { call, message }
                }
                Err(error) => ClientEvent::Bad {
                    call,
                    message: format!("the request cannot be read: {error}"),
                },
            };
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn write_answers(
    connection: u64,
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Frame>,
    behind: &AtomicBool,
    events: &mpsc::Sender<ClientEvent>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        frame.encode(&mut buffer);
        while buffer.len() < GATHER_BYTES
            && let Ok(frame) = queue.try_recv()
        {
            frame.encode(&mut buffer);
        }
        stream.write_all_buf(&mut buffer).await?;
        if queue.is_empty()
            && behind.swap(false, Ordering::Relaxed)
            && events
                .send(ClientEvent::CaughtUp { connection })
                .await
                .is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}
