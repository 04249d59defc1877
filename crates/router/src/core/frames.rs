//! Frames in and frames out.

use std::time::{Duration, Instant};

use eagleray_types::ErrorCode;
use eagleray_wire::{Claims, Flags, Header, Kind, NO_DEADLINE};

use super::{
    ConnectionKey, Core, Event, Pending, RequestKey, Transmit,
    replica::{Replica, Slot},
    request::Place,
    table::ReplicaIndex,
};

impl<C: Claims> Core<C> {
    /// A frame from a replica (any kind but HELLO). Returns the request that a RESPONSE or CREDIT is for, if
    /// anybody still wants it; give it the payload before polling events, where its `Finished` may be. A kind that
    /// only a router sends is ignored here; the owner may end the connection over it.
    pub fn on_frame(
        &mut self,
        now: Instant,
        connection: ConnectionKey,
        header: &Header,
    ) -> Option<RequestKey> {
        let index = connection.index;
        let replica = self.replicas.get_mut(connection.index).filter(|replica| {
            replica.generation == connection.generation && replica.link.is_some()
        })?;
        replica.watch.since = now;
        let deployment = replica.deployment;
        if replica.stopped {
            self.resume(now, index);
        }
        let mut found = None;
        match header.kind {
            Kind::Response => found = self.on_response(now, index, header),
            Kind::Credit => {
                let request = self.find_entry(index, header)?.request;
                return self.requests.key(request?);
            }
            Kind::Reject => self.on_reject(index, header),
            Kind::Grant => {
                self.learn(index, header, 1);
                self.spend(now, index, header.sequence);
            }
            Kind::Gone => {
                if let Some(replica) = self.replicas.known_mut(index) {
                    replica.gone = true;
                    // It has forgotten our WAIT.
                    replica.announced = false;
                }
                self.refresh(index);
            }
            Kind::Hung => self.hung(now, index, header.a > 0),
            _ => return None,
        }
        let waits = self.deployments.get(deployment).is_some_and(|deployment| {
            !deployment.queue.is_empty()
                || !deployment.waiting.is_empty()
                || !deployment.held.is_empty()
                || !deployment.bound.is_empty()
        });
        if waits {
            self.settle(now, deployment);
        }
        found
    }

    fn on_response(
        &mut self,
        now: Instant,
        index: ReplicaIndex,
        header: &Header,
    ) -> Option<RequestKey> {
        let entry = self.find_entry(index, header);
        let found = entry
            .and_then(|entry| entry.request)
            .and_then(|request| self.requests.key(request));
        if let Some(RequestKey { index: request, .. }) = found
            && let Some(state) = self.requests.get_mut(request)
        {
            state.begun |= header.flags.contains(Flags::HEAD);
            if header.flags.contains(Flags::END) {
                state.ended = true;
                // The answer is in time; a long background task is no failure of the request.
                self.requests.deadlines.remove(request);
            }
        }
        if header.flags.contains(Flags::DONE) {
            let granted = header.flags.contains(Flags::GRANT);
            if entry.is_some() {
                self.release(index, header.slot);
            }
            if let Some(RequestKey { index: request, .. }) = found {
                if self.requests.get(request).is_some_and(|state| state.ended) {
                    self.conclude(request, |request, _| Event::Finished { request });
                } else {
                    self.fail(request, ErrorCode::Internal);
                }
            }
            self.learn(index, header, u32::from(granted));
            if granted {
                self.spend(now, index, 0);
            }
            self.close_if_over(index);
        }
        found
    }

    fn on_reject(&mut self, index: ReplicaIndex, header: &Header) {
        let Some(entry) = self.find_entry(index, header) else {
            self.learn(index, header, 0);
            return;
        };
        self.release(index, header.slot);
        self.learn(index, header, 0);
        if let Some(request) = entry.request {
            // A replica that drains says nothing of the others' room.
            let drains = self.replicas.get(index).is_some_and(|replica| replica.gone);
            self.requeue(request, drains);
        }
        self.close_if_over(index);
    }

    /// The slot that a frame names; `None`: the frame is for an earlier request in it.
    fn find_entry(&mut self, index: ReplicaIndex, header: &Header) -> Option<Slot> {
        let link = self.replicas.get_mut(index)?.link.as_mut()?;
        link.find(header.slot, header.sequence).copied()
    }

    fn learn(&mut self, index: ReplicaIndex, header: &Header, kept: u32) {
        if let Some(replica) = self.replicas.known_mut(index) {
            replica.learn(header.b, kept, header.c);
        }
        self.refresh_room(index);
    }

    pub(super) fn release(&mut self, index: ReplicaIndex, slot: u32) {
        if let Some(replica) = self.replicas.known_mut(index) {
            replica.acquit(slot);
            if let Some(link) = replica.link.as_mut() {
                link.release(slot);
            }
            let deployment = replica.deployment;
            self.mark(deployment);
        }
        self.refresh_room(index);
    }

    /// The next frame to write. `now` dates what it says: remaining time, and how long the oldest has waited.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        loop {
            let pending = self.pending.pop_front()?;
            if let Some(transmit) = self.transmit(now, pending) {
                return Some(transmit);
            }
        }
    }

    fn transmit(&mut self, now: Instant, pending: Pending) -> Option<Transmit> {
        let (index, generation) = pending.connection();
        let replica = self
            .replicas
            .get_mut(index)
            .filter(|replica| replica.generation == generation && replica.link.is_some())?;
        let mut request = None;
        let mut header = match pending {
            Pending::Request {
                slot,
                sequence,
                granted,
                ..
            } => {
                match replica
                    .link
                    .as_mut()
                    .and_then(|link| link.find(slot, sequence))
                {
                    Some(Slot {
                        request: Some(wanted),
                        written,
                        ..
                    }) => {
                        *written = true;
                        request = self.requests.key(*wanted);
                        let mut header = Header::new(Kind::Request, slot, sequence);
                        if granted {
                            header.flags = Flags::GRANT;
                        }
                        header
                    }
                    // It was taken back before it was written.
                    _ if granted => Header::new(Kind::Return, 0, 0),
                    _ => return None,
                }
            }
            Pending::Cancel { slot, sequence, .. } => Header::new(Kind::Cancel, slot, sequence),
            Pending::Return { .. } => Header::new(Kind::Return, 0, 0),
            Pending::Wait { .. }
                if replica.wanted && (!replica.announced || replica.told_empty) =>
            {
                replica.announced = true;
                replica.wait_number += 1;
                Header::new(Kind::Wait, 0, replica.wait_number)
            }
            Pending::Unwait { .. } if !replica.wanted && replica.announced => {
                replica.announced = false;
                Header::new(Kind::Unwait, 0, 0)
            }
            Pending::Wait { .. } | Pending::Unwait { .. } => return None,
        };
        if matches!(header.kind, Kind::Request | Kind::Wait | Kind::Return) {
            (header.a, header.b) = self.queue_now(now, index);
            if let Some(replica) = self.replicas.known_mut(index) {
                let told = header.a == 0;
                replica.told_empty = told || (replica.told_empty && header.kind != Kind::Wait);
            }
        }
        if let Some(RequestKey { index, .. }) = request {
            let deadline = self
                .requests
                .get(index)
                .and_then(|request| request.deadline);
            header.c = deadline.map_or(NO_DEADLINE, |deadline| remaining(now, deadline));
        }
        Some(Transmit {
            connection: ConnectionKey { index, generation },
            header,
            request,
        })
    }

    /// How many wait that may go to this replica, and for how many microseconds the oldest of them does.
    fn queue_now(&self, now: Instant, replica: ReplicaIndex) -> (u32, u32) {
        let waiting = self.queues_for(replica).map(|queue| queue.length).sum();
        let oldest = self
            .queues_for(replica)
            .filter_map(|queue| self.requests.get(queue.first))
            .map(|request| request.submitted)
            .min();
        let wait = oldest.map_or(Duration::ZERO, |oldest| {
            now.saturating_duration_since(oldest)
        });
        (waiting, u32::try_from(wait.as_micros()).unwrap_or(u32::MAX))
    }

    /// Where a request was sent, with the slot and sequence of its BODY and CREDIT frames; `None` while it waits.
    pub fn location(&self, request: RequestKey) -> Option<(ConnectionKey, u32, u64)> {
        let Place::Sent {
            replica: index,
            slot,
        } = self.requests.find(request)?.place
        else {
            return None;
        };
        let replica: &Replica<C> = self.replicas.get(index)?;
        let sequence = replica.link.as_ref()?.sequence_of(slot)?;
        Some((
            ConnectionKey {
                index,
                generation: replica.generation,
            },
            slot,
            sequence,
        ))
    }
}

/// Milliseconds left, rounded up so that nobody gives up early; never `NO_DEADLINE`.
fn remaining(now: Instant, deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(now) + Duration::from_micros(999);
    u32::try_from(left.as_millis())
        .unwrap_or(NO_DEADLINE - 1)
        .min(NO_DEADLINE - 1)
}
