//! What the controller says of deployments, for the router of a Python process and for the handles that ask.
//!
//! A call to one certain replica is a call to a *view*: a deployment that only this router knows, whose one replica that
//! is. So it waits for a free slot, moves, fails and is granted as any other, on a connection of its own, and
//! `max_ongoing_requests` holds for it too; `max_queued_requests` does not. A view goes when its replica leaves the
//! deployment.

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use eagleray_router::service::{Applied, Handle, Reporter, view_of as view_name};
use eagleray_types::{
    DeploymentKey,
    control::{
        ApiRequest, ApiResponse, DeploymentTarget, Empty, TargetUpdate, Unreachable, VersionTarget,
        api_request, api_response,
    },
};
use eagleray_wire::{Decoder, Frame, check_peer};
use parking_lot::{Condvar, Mutex};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{mpsc, watch},
    time::sleep,
};

const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_LAST: Duration = Duration::from_secs(1);

/// Shared by the router's thread, which writes, and by threads that ask.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    known: Mutex<BTreeMap<DeploymentKey, DeploymentTarget>>,
    changed: Condvar,
    /// Views by the name under which the router knows them.
    views: Mutex<BTreeMap<DeploymentKey, (DeploymentKey, String)>>,
}

impl Targets {
    /// Replicas of a deployment, in a stable order; `None` if it is not known by `until`.
    pub(crate) fn replicas(&self, key: &DeploymentKey, until: Instant) -> Option<Vec<String>> {
        let mut known = self.known.lock();
        loop {
            if let Some(target) = known.get(key) {
                let replicas = target.versions.iter().flat_map(|version| &version.replicas);
                return Some(replicas.map(|replica| replica.replica_id.clone()).collect());
            }
            if self.changed.wait_until(&mut known, until).timed_out() {
                return None;
            }
        }
    }

    /// `max_queued_requests`, and status and seconds of the HTTP answer, for a queue that is full.
    pub(crate) fn refusal(&self, key: &DeploymentKey) -> Option<(i64, u32, u32)> {
        let known = self.known.lock();
        let target = known.get(key)?;
        Some((
            target.max_queued_requests,
            target.backpressure_status,
            target.retry_after_seconds,
        ))
    }

    /// The view of one replica, made if need be. `None`: the deployment has no such replica.
    pub(crate) fn view(
        &self,
        handle: &Handle,
        key: &DeploymentKey,
        replica_id: &str,
    ) -> Option<DeploymentKey> {
        let name = view_name(key, replica_id);
        let target = view_of(self.known.lock().get(key)?, &name, replica_id)?;
        let mut views = self.views.lock();
        if !views.contains_key(&name) {
            handle.add_view(&target);
            views.insert(name.clone(), (key.clone(), replica_id.to_owned()));
        }
        Some(name)
    }

    fn apply(&self, handle: &Handle, update: TargetUpdate) {
        {
            let mut known = self.known.lock();
            if update.snapshot {
                known.clear();
            }
            for key in &update.removed {
                known.remove(key);
            }
            for target in update.deployments {
                known.insert(target.key.clone(), target);
            }
            self.views.lock().retain(|name, (key, replica_id)| {
                let target = known
                    .get(key)
                    .and_then(|target| view_of(target, name, replica_id));
                match &target {
                    Some(target) => handle.add_view(target),
                    None => handle.remove_view(name),
                }
                target.is_some()
            });
        }
        self.changed.notify_all();
    }
}

fn view_of(
    target: &DeploymentTarget,
    name: &DeploymentKey,
    replica_id: &str,
) -> Option<DeploymentTarget> {
    for version in &target.versions {
        let replica = version
            .replicas
            .iter()
            .find(|replica| replica.replica_id == replica_id);
        if let Some(replica) = replica {
            let version = VersionTarget {
                weight: 1,
                replicas: vec![replica.clone()],
                ..version.clone()
            };
            return Some(DeploymentTarget {
                key: name.clone(),
                max_queued_requests: -1,
                versions: vec![version],
                ..target.clone()
            });
        }
    }
    None
}

/// A router whose targets are the controller's.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) handle: Handle,
    pub(crate) reporter: Reporter,
}

/// Applies the controller's targets for as long as the thread lives, and passes on what the router has to do, and which
/// replicas it cannot reach.
pub(crate) async fn follow(
    path: &str,
    router: &Followed,
    targets: &Targets,
    news: watch::Sender<u64>,
    mut unreachable: mpsc::Receiver<Unreachable>,
) {
    let pause = Cell::new(RECONNECT_FIRST);
    loop {
        // Every end is the same to us: connect again, and a snapshot comes first.
        drop(follow_once(path, router, targets, &news, &mut unreachable, &pause).await);
        sleep(pause.get()).await;
        pause.set((pause.get() * 2).min(RECONNECT_LAST));
    }
}

async fn follow_once(
    path: &str,
    router: &Followed,
    targets: &Targets,
    news: &watch::Sender<u64>,
    unreachable: &mut mpsc::Receiver<Unreachable>,
    pause: &Cell<Duration>,
) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    check_peer(&stream)?;
    ask(&mut stream, api_request::Body::WatchTargets(Empty {})).await?;
    // It may be another controller, which knows nothing of what goes on here.
    ask(
        &mut stream,
        api_request::Body::Loads(router.reporter.whole()),
    )
    .await?;
    let decoder = Decoder::control();
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = decoder.decode(&mut buffer).map_err(std::io::Error::other)? {
            let response = ApiResponse::decode(frame.payload).map_err(std::io::Error::other)?;
            let Some(api_response::Body::Target(update)) = response.body else {
                continue;
            };
            match router.handle.apply(&update) {
                Applied::Gap => return Ok(()),
                Applied::Stale => continue,
                Applied::Applied => targets.apply(&router.handle, update),
            }
            pause.set(RECONNECT_FIRST);
            news.send_modify(|number| *number += 1);
        }
        tokio::select! {
            read = stream.read_buf(&mut buffer) => {
                if read? == 0 {
                    return Ok(());
                }
            }
            Some(report) = unreachable.recv() => {
                ask(&mut stream, api_request::Body::Unreachable(report)).await?;
            }
            loads = router.reporter.next() => {
                ask(&mut stream, api_request::Body::Loads(loads)).await?;
            }
        }
    }
}

/// Every answer on this connection is an update of targets, so one number is enough.
async fn ask(stream: &mut UnixStream, body: api_request::Body) -> std::io::Result<()> {
    let mut out = BytesMut::new();
    let request = ApiRequest { body: Some(body) };
    Frame::control(1, request.encode_to_vec()).encode(&mut out);
    stream.write_all(&out).await
}
