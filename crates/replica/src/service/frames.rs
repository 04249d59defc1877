//! What a router's frames do.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use eagleray_wire::{
    Flags, Frame, Header, Kind, RequestHead,
    region::{self, Arrival, ChannelError, Release},
};

use super::Service;
use crate::{
    admission::{Queue, Verdict},
    connection::{Connection, Releaser},
    event::Serving,
    queues::Ahead,
    request::{Request, Runs, Said, Slots, Taken},
};

/// Entries of cancelled requests that may lie in a queue beside those that count: beyond it, REJECT.
const STALE: usize = 4096;
const NO_WEBSOCKETS: &[u8] =
    b"403: this deployment takes no WebSocket. Only one whose ingress is an ASGI application does\n";

impl Service {
    /// False: the connection must end.
    pub(super) fn on_frame(&mut self, now: Instant, slots: &Arc<Slots>, frame: Frame) -> bool {
        let connection = &slots.connection;
        let header = frame.header;
        match header.kind {
            Kind::Request => return self.on_request(now, slots, frame),
            Kind::Body => {
                if let Some(request) = slots.find(header.slot, header.sequence) {
                    return self.on_body(&request, header.flags, frame.payload);
                }
            }
            Kind::Credit => {
                if let Some(request) = slots.find(header.slot, header.sequence) {
                    request.credit(header.a);
                }
            }
            Kind::Cancel => {
                if let Some(request) = slots.find(header.slot, header.sequence) {
                    request.cancel();
                }
            }
            Kind::Wait => self.shared.change(now, |admission| {
                admission.on_wait(now, connection.key, Queue::of(&header));
            }),
            Kind::Release => {
                if let Some(channel) = &connection.channel {
                    channel.released(header.sequence, header.a == 1);
                }
            }
            Kind::Unwait => self.shared.change(now, |admission| {
                admission.on_unwait(now, connection.key);
            }),
            Kind::Return => self.shared.change(now, |admission| {
                admission.on_return(now, connection.key, Queue::of(&header));
            }),
            Kind::Hello
            | Kind::Response
            | Kind::Grant
            | Kind::Reject
            | Kind::Gone
            | Kind::Hung
            | Kind::Models
            | Kind::Routes
            | Kind::Control => {
                self.shared.problem(format!(
                    "a router sent {:?}, which only a replica sends",
                    header.kind
                ));
                return false;
            }
        }
        true
    }

    fn on_request(&mut self, now: Instant, slots: &Arc<Slots>, frame: Frame) -> bool {
        let connection = &slots.connection;
        let header = frame.header;
        let Some(serving) = self.shared.serving.lock().clone() else {
            debug_assert!(
                false,
                "a router is accepted once there is something to serve"
            );
            return false;
        };
        let Some(said) = self.read_payload(connection, &serving, &frame) else {
            return false;
        };
        let runs = said.runs;
        let refused = runs == Runs::AsWebSocket && !serving.websockets;
        let verdict = self.judge(now, connection, &header, runs, refused);
        if verdict == Verdict::Reject {
            return true;
        }
        // Relaxed: a number that is never used twice.
        let serial = self.shared.serial.fetch_add(1, Ordering::Relaxed);
        let request = Request::accept(
            &self.shared,
            slots,
            serial,
            &header,
            frame.payload,
            said,
            now,
        );
        if !slots.insert(header.slot, &request) {
            self.shared.problem(format!(
                "a router used slot {}, which is not free",
                header.slot
            ));
            let mut admission = self.shared.admission.lock();
            admission.undo(now, verdict);
            self.shared.after(now, admission);
            return false;
        }
        if verdict == Verdict::Ahead {
            self.take_ahead(now, request);
            return true;
        }
        if refused {
            request.refuse(403, NO_WEBSOCKETS);
            return true;
        }
        if runs == Runs::InThread {
            let taken = request.take_in_first(serving.max_body_bytes);
            return self.on_taken(&request, taken);
        }
        self.queues.requests.push(request);
        self.turn.for_loop += 1;
        true
    }

    /// What becomes of a request; REJECT is sent. `refused`: it is answered here.
    fn judge(
        &self,
        now: Instant,
        connection: &Connection,
        header: &Header,
        runs: Runs,
        refused: bool,
    ) -> Verdict {
        let in_thread = runs == Runs::InThread;
        let queued = if in_thread {
            self.queues.pool.len()
        } else {
            self.queues.requests.len()
        };
        let mut admission = self.shared.admission.lock();
        let granted = header.flags.contains(Flags::GRANT);
        let verdict = admission.on_request(now, connection.key, granted, Queue::of(header));
        let has_room = queued <= admission.limit() as usize + STALE;
        let is_possible = match verdict {
            Verdict::Accept => has_room,
            // A thread's body may be claimed while it comes, and a refusal has nothing to wait for.
            Verdict::Ahead => has_room && !in_thread && !refused,
            Verdict::Reject => false,
        };
        if is_possible {
            self.shared.after(now, admission);
            return verdict;
        }
        admission.undo(now, verdict);
        let reject = admission.reject(header.slot, header.sequence);
        self.shared.after(now, admission);
        let together = self.shared.together();
        connection.out.frame(now, together, reject, &[], &[]);
        Verdict::Reject
    }

    /// The request waits for a slot. It may have one at once: another thread has ended a request since it was asked.
    fn take_ahead(&self, now: Instant, request: Arc<Request>) {
        request.set_ahead(true);
        let queues = Arc::clone(&self.queues);
        let mut admission = self.shared.admission.lock();
        admission.take_ahead(now, Box::new(Ahead { request, queues }));
        self.shared.after(now, admission);
    }

    /// What a REQUEST says, and what came beside it; `None`: the connection must end.
    fn read_payload(
        &mut self,
        connection: &Arc<Connection>,
        serving: &Serving,
        frame: &Frame,
    ) -> Option<Said> {
        let (head, body) = match RequestHead::decode(&frame.payload) {
            Ok(read) => read,
            Err(error) => {
                self.shared.problem(format!(
                    "a router sent a request that cannot be read: {error}"
                ));
                return None;
            }
        };
        // Before anything is decided: a descriptor is taken, or released, when its message comes.
        let arrivals = match self.arrivals(connection, &head) {
            Ok(arrivals) => arrivals,
            Err(error) => {
                self.shared
                    .problem(format!("a router broke the protocol: {error}"));
                return None;
            }
        };
        Some(Said {
            is_call: matches!(head, RequestHead::Call(_)),
            counted: serving
                .metrics
                .as_ref()
                .map(|metrics| self.routes.find(metrics, head.route())),
            is_bodyless: matches!(&head, RequestHead::Http(http) if http.method == b"HEAD"),
            runs: runs(serving, &head),
            first: frame.payload.slice_ref(body),
            arrivals,
        })
    }

    fn arrivals(
        &self,
        connection: &Arc<Connection>,
        head: &RequestHead<'_>,
    ) -> Result<Vec<Arrival>, ChannelError> {
        let RequestHead::Call(call) = head else {
            return Ok(Vec::new());
        };
        if call.attachments.is_empty() {
            return Ok(Vec::new());
        }
        let Some(channel) = &connection.channel else {
            return region::without_channel(call.attachments.iter());
        };
        let release: Arc<dyn Release> = Arc::new(Releaser(Arc::downgrade(connection)));
        channel.take(call.attachments.iter(), &release, &self.shared.held)
    }

    fn on_body(&mut self, request: &Arc<Request>, flags: Flags, data: bytes::Bytes) -> bool {
        let limit = self
            .shared
            .serving
            .lock()
            .as_ref()
            .map_or(u64::MAX, |serving| serving.max_body_bytes);
        let taken = request.take_in(flags, data, limit);
        self.on_taken(request, taken)
    }

    fn on_taken(&mut self, request: &Arc<Request>, taken: Taken) -> bool {
        match taken {
            Taken::Fine => {}
            Taken::Complete => {
                self.queues.pool.push(Arc::clone(request));
                self.turn.for_pool += 1;
            }
            Taken::TooLarge => request.refuse(
                413,
                b"the request body is larger than this deployment takes",
            ),
            Taken::Overrun => {
                self.shared
                    .problem("a router sent more body than it had credit for".into());
                return false;
            }
        }
        true
    }
}

fn runs(serving: &Serving, head: &RequestHead<'_>) -> Runs {
    let sync = match head {
        RequestHead::Http(http) if http.websocket => return Runs::AsWebSocket,
        RequestHead::Http(_) => serving.sync_http,
        RequestHead::Call(call) => serving
            .sync_methods
            .iter()
            .any(|method| method.as_bytes() == call.method),
    };
    if sync { Runs::InThread } else { Runs::OnLoop }
}
