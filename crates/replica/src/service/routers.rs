//! Routers that come and go.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use eagleray_wire::{
    ClaimPage, Decoder, Frame, Header, Kind, LongFrame, PROTOCOL_VERSION,
    fork::{self, Listed},
    peer_uid,
    region::Channel,
    send_with_fds, widen,
};
use rustix::{
    io::Errno,
    net::{RecvFlags, Shutdown, SocketFlags, accept_with, recv, send, shutdown},
};

use super::{FIRST_CONNECTION, LISTENER, Router, Service};
use crate::{admission::ConnectionKey, connection::Connection, out::Outgoing, request::Slots};

/// Fewest words of a claim page: a router may have more under way than a small limit lets start.
const FEWEST_SLOTS: u32 = 64;
/// Reads of long frames of one router before the others have a turn.
const LONG_FRAMES: usize = 8;
/// Between two tries to accept when there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Service {
    pub(super) fn accept(&mut self, now: Instant) {
        loop {
            match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => self.add(socket),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => {
                    self.cannot_accept = false;
                    return;
                }
                Err(error) => return self.pause_accepting(now, error),
            }
        }
    }

    /// No descriptors or no memory are left. The connection stays in the queue, so the listener would be ready without
    /// end: nobody looks at it for a while.
    fn pause_accepting(&mut self, now: Instant, error: Errno) {
        if !std::mem::replace(&mut self.cannot_accept, true) {
            self.shared.problem(format!(
                "cannot accept connections ({error}), so nobody new can reach this replica; files or sockets that are \
                 not closed use its descriptors up (ulimit -n)"
            ));
        }
        self.shared.poller.remove(&self.listener);
        self.accept_at = Some(now + ACCEPT_PAUSE);
    }

    /// Looks at the listener again after a pause.
    pub(super) fn resume_accepting(&mut self, now: Instant) {
        if self.accept_at.is_some_and(|at| at <= now) {
            let added = self.shared.poller.add(&self.listener, LISTENER);
            self.accept_at = added.err().map(|_| now + ACCEPT_PAUSE);
        }
    }

    fn add(&mut self, socket: OwnedFd) {
        if peer_uid(&socket).ok() != Some(self.own_uid) {
            self.shared
                .problem("a connection of another user was refused".into());
            return;
        }
        let Some(listed) = fork::list(&socket) else {
            self.shared
                .problem("too many connections: one was refused".into());
            return;
        };
        let index = self
            .routers
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.routers.len());
        if self
            .shared
            .poller
            .add(&socket, FIRST_CONNECTION + index as u64)
            .is_err()
        {
            return;
        }
        widen(&socket);
        let router = Router::New {
            socket: Arc::new(socket),
            input: BytesMut::new(),
            listed,
        };
        if index == self.routers.len() {
            self.routers.push(Some(router));
        } else {
            self.routers[index] = Some(router);
        }
    }

    pub(super) fn read_router(&mut self, now: Instant, index: usize) {
        let Some(Some(router)) = self.routers.get_mut(index) else {
            return;
        };
        let (socket, input) = match router {
            Router::New { socket, input, .. } => (&*socket, input),
            Router::Live {
                long: Some(long),
                slots,
                ..
            } => {
                let received = long.receive(&*slots.connection.socket, RecvFlags::empty());
                return self.on_long(now, index, received);
            }
            Router::Live { slots, input, .. } => (&slots.connection.socket, input),
        };
        match recv(&**socket, &mut self.scratch[..], RecvFlags::empty()) {
            Ok((0, _)) => return self.disconnect(now, index),
            Ok((length, _)) => input.extend_from_slice(&self.scratch[..length]),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.disconnect(now, index),
        }
        if !self.on_input(now, index) {
            self.disconnect(now, index);
        }
    }

    /// More of a long frame has come. Of a body that goes on much more may lie in the socket, so it is looked for until there
    /// is none, for a while.
    fn on_long(&mut self, now: Instant, index: usize, mut received: rustix::io::Result<usize>) {
        for read in 1..=LONG_FRAMES {
            match received {
                Ok(0) => return self.disconnect(now, index),
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => return self.disconnect(now, index),
            }
            let Some(Some(Router::Live { input, long, .. })) = self.routers.get_mut(index) else {
                return;
            };
            let was_full = long.as_ref().is_some_and(LongFrame::is_full);
            if let Some(whole) = long.take_if(|long| long.is_whole()) {
                *input = whole.into_bytes();
                if !self.on_input(now, index) {
                    return self.disconnect(now, index);
                }
            }
            let Some(Some(Router::Live {
                slots,
                long: Some(long),
                ..
            })) = self.routers.get_mut(index)
            else {
                return;
            };
            if !was_full || read == LONG_FRAMES {
                return;
            }
            received = long.receive(&*slots.connection.socket, RecvFlags::empty());
        }
    }

    /// False: the connection must end.
    fn on_input(&mut self, now: Instant, index: usize) -> bool {
        loop {
            let Some(Some(router)) = self.routers.get_mut(index) else {
                debug_assert!(
                    false,
                    "router {index} goes when a frame was refused, not while frames are read"
                );
                return true;
            };
            let input = match router {
                Router::New { input, .. } | Router::Live { input, .. } => input,
            };
            let frame = match Decoder::data().decode(input) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    if let Router::Live { input, long, .. } = router {
                        *long = LongFrame::begin(Decoder::data(), input);
                    }
                    return true;
                }
                Err(error) => {
                    self.shared
                        .problem(format!("a router broke the protocol: {error}"));
                    return false;
                }
            };
            let fine = match router {
                Router::New { .. } => self.on_hello(now, index, &frame),
                Router::Live { slots, .. } => {
                    let slots = Arc::clone(slots);
                    self.on_frame(now, &slots, frame)
                }
            };
            if !fine {
                return false;
            }
        }
    }

    fn on_hello(&mut self, now: Instant, index: usize, frame: &Frame) -> bool {
        let Some(serving) = self.shared.serving.lock().clone() else {
            debug_assert!(
                false,
                "a router is accepted once there is something to serve"
            );
            return false;
        };
        let Some(Some(Router::New {
            socket,
            input,
            listed,
        })) = self.routers.get_mut(index).map(Option::take)
        else {
            debug_assert!(
                false,
                "the first frame of router {index}, and it is none that is new"
            );
            return false;
        };
        let limit = self.shared.admission.lock().limit();
        let mut header = Header::new(Kind::Hello, 0, 0);
        header.a = PROTOCOL_VERSION;
        header.c = limit;
        let mut bytes = BytesMut::new();
        if frame.header.kind != Kind::Hello || frame.header.a != PROTOCOL_VERSION {
            self.shared.problem(format!(
                "a router speaks version {}, this replica {PROTOCOL_VERSION}",
                frame.header.a
            ));
            Frame::new(header, serving.replica_id.clone().into()).encode(&mut bytes);
            // Best effort: the router only shows it.
            send(&*socket, &bytes, rustix::net::SendFlags::NOSIGNAL).ok();
            return false;
        }
        let slots = limit
            .saturating_mul(2)
            .clamp(FEWEST_SLOTS, ClaimPage::MAX_SLOTS);
        header.b = slots;
        Frame::new(header, serving.replica_id.clone().into()).encode(&mut bytes);
        // A router that gets none sends its values as DATA.
        let (channel, end) = (frame.header.b == 1)
            .then(Channel::pair)
            .and_then(Result::ok)
            .unzip();
        let page = match ClaimPage::create(slots) {
            Ok((page, descriptor)) => {
                // Here for the router that reads it at once, and again when the connection is in the list.
                page.set_exempt(self.shared.exempt.load(Ordering::SeqCst));
                // The socket is new and empty, so a HELLO always fits.
                let mut descriptors = vec![descriptor.as_fd()];
                descriptors.extend(end.as_ref().map(AsFd::as_fd));
                match send_with_fds(&*socket, &bytes, &descriptors) {
                    Ok(()) => page,
                    Err(_) => return false,
                }
            }
            Err(error) => {
                self.shared
                    .problem(format!("no claim page can be made: {error}"));
                return false;
            }
        };
        let hears_routes = frame.header.c == 1;
        let made = (page, channel, hears_routes);
        self.connect(now, index, socket, input, made, listed);
        true
    }

    fn connect(
        &mut self,
        now: Instant,
        index: usize,
        socket: Arc<OwnedFd>,
        input: BytesMut,
        (page, channel, hears_routes): (ClaimPage, Option<Channel>, bool),
        listed: Listed,
    ) {
        let key = ConnectionKey(index);
        let token = FIRST_CONNECTION + index as u64;
        let out = Outgoing::new(
            Arc::clone(&socket),
            Arc::clone(&self.shared.poller),
            token,
            now,
        );
        let connection = Arc::new(Connection {
            key,
            socket,
            out,
            page,
            channel,
            hears_routes,
            closed: AtomicBool::new(false),
            _listed: listed,
        });
        let mut connections = self.shared.connections.lock();
        connections.push(Arc::clone(&connection));
        let avoid = self.shared.avoid_header();
        if avoid.a > 0 {
            connection.out.frame(now, false, avoid, &[], &[]);
        }
        drop(connections);
        connection
            .page
            .set_exempt(self.shared.exempt.load(Ordering::SeqCst));
        self.shared.tell_models(now, &connection);
        self.shared.tell_routes(now, &connection);
        let slots = Arc::new(Slots::new(connection));
        self.routers[index] = Some(Router::Live {
            slots,
            input,
            long: None,
        });
        let mut admission = self.shared.admission.lock();
        admission.connected(now, key);
        self.shared.after(now, admission);
    }

    /// End of file: what the router has queued here is nobody's any more, what runs is cancelled.
    pub(super) fn disconnect(&mut self, now: Instant, index: usize) {
        match self.routers.get_mut(index).and_then(Option::take) {
            Some(Router::New { socket, .. }) => self.shared.poller.remove(&*socket),
            Some(Router::Live { slots, .. }) => {
                let connection = &slots.connection;
                // SeqCst is not needed: a DONE that misses it goes to a closed buffer, a grant on it ends by time.
                connection.closed.store(true, Ordering::Release);
                connection.out.close();
                if let Some(channel) = &connection.channel {
                    channel.close();
                }
                self.shared.poller.remove(&*connection.socket);
                // Requests that user code still holds keep the descriptor open; the router sees the end now.
                shutdown(&*connection.socket, Shutdown::Both).ok();
                self.shared
                    .connections
                    .lock()
                    .retain(|other| other.key != connection.key);
                let mut admission = self.shared.admission.lock();
                admission.disconnected(now, connection.key);
                self.shared.after(now, admission);
                let requests = slots.take_all();
                // First what has not started, before the end of what runs makes room for it.
                for request in &requests {
                    request.abandon();
                }
                for request in &requests {
                    request.cancel();
                }
            }
            None => {}
        }
    }
}
