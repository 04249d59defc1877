//! What the node answers on `node.sock`: who it is, what its replicas print, what its proxy counts, and that it shall
//! end.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use bytes::Bytes;
use eagleray_types::control::{
    ApiError, Empty, NodeCounters, NodeInfo, NodeRequest, NodeResponse, node_request,
    node_response::Body,
};
use prost::Message;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    task::{JoinSet, spawn_local},
    time,
};

use crate::{link, output::Watchers};

/// Connections at a time. One more waits in the backlog.
const CONNECTIONS: usize = 256;
/// Watches of one connection.
const WATCHES: usize = 4;
const AFTER_ACCEPT_ERROR: std::time::Duration = std::time::Duration::from_millis(100);

/// A proxy that is there counts within this time; one that is stopped does not.
const COUNTED_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Somebody asks the node to end.
#[derive(Debug)]
pub(crate) struct ShutdownWanted;

/// Somebody asks what the proxy has counted. Dropped without an answer when there is none.
pub(crate) type CountersWanted = oneshot::Sender<NodeCounters>;

#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) info: Rc<RefCell<NodeInfo>>,
    pub(crate) watchers: Rc<Watchers>,
    pub(crate) shutdown: mpsc::Sender<ShutdownWanted>,
    pub(crate) counters: mpsc::Sender<CountersWanted>,
}

impl Api {
    /// Serves until the node ends.
    pub(crate) async fn serve(self, listener: UnixListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let own_uid = rustix::process::geteuid().as_raw();
        let mut said = false;
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => {
                    said = false;
                    stream
                }
                Err(error) => {
                    // Out of descriptors, most likely: some come back when others leave.
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(%error, "connections to node.sock cannot be accepted");
                    }
                    time::sleep(AFTER_ACCEPT_ERROR).await;
                    continue;
                }
            };
            // The run directory keeps others out already; this holds even if somebody opens it up.
            if eagleray_wire::peer_uid(&stream).is_ok_and(|uid| uid == own_uid || uid == 0) {
                let api = self.clone();
                spawn_local(async move {
                    api.answer(stream).await;
                    drop(place);
                });
            }
        }
    }

    async fn answer(self, stream: UnixStream) {
        let (sender, mut receiver) = link::split(stream);
        // Ended with the connection: a watch that has nothing to pass on would hold its descriptor open.
        let mut watches = JoinSet::new();
        while let Ok(Some((sequence, message))) = receiver.next().await {
            let request = NodeRequest::decode(message)
                .ok()
                .and_then(|request| request.body);
            let body = match request {
                Some(node_request::Body::Info(Empty {})) => Body::Info(self.info.borrow().clone()),
                Some(node_request::Body::WatchOutput(Empty {})) if watches.len() < WATCHES => {
                    watches.spawn_local(watch(self.watchers.watch(), sender.clone(), sequence));
                    continue;
                }
                Some(node_request::Body::WatchOutput(Empty {})) => Body::Error(ApiError {
                    kind: "invalid".to_owned(),
                    message: format!("{WATCHES} watches are open on this connection already"),
                }),
                Some(node_request::Body::Shutdown(Empty {})) => Body::Done(Empty {}),
                Some(node_request::Body::Count(Empty {})) => self.count().await,
                None => Body::Error(ApiError {
                    kind: "invalid".to_owned(),
                    message:
                        "the node does not know this request; the client may be of a newer release"
                            .to_owned(),
                }),
            };
            let ends = matches!(body, Body::Done(_));
            if !sender.send_patiently(sequence, encode(body)).await {
                return;
            }
            if ends && self.shutdown.send(ShutdownWanted).await.is_err() {
                return;
            }
        }
    }
}

impl Api {
    async fn count(&self) -> Body {
        let (sender, receiver) = oneshot::channel();
        let asked = self.counters.send(sender).await;
        match time::timeout(COUNTED_WITHIN, receiver).await {
            Ok(Ok(counters)) if asked.is_ok() => Body::Counters(counters),
            _ => Body::Error(ApiError {
                kind: "conflict".to_owned(),
                message: "the proxy is not there to say what it has counted; ask again when `eagleray status` shows \
                          it HEALTHY"
                    .to_owned(),
            }),
        }
    }
}

/// Passes lines on, as fast as the watcher reads. The queue before it loses what does not fit.
async fn watch(
    mut lines: mpsc::Receiver<eagleray_types::control::Output>,
    sender: link::Sender,
    sequence: u64,
) {
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = sender.ended() => None,
        };
        let Some(line) = line else { return };
        if !sender
            .send_patiently(sequence, encode(Body::Output(line)))
            .await
        {
            return;
        }
    }
}

fn encode(body: Body) -> Bytes {
    NodeResponse { body: Some(body) }.encode_to_vec().into()
}
