//! Requests from submit to outcome, and the queue of a deployment: a list through the requests themselves, oldest
//! first, so that a request leaves from anywhere at once and comes back at its age.

use std::time::Instant;

use super::{
    RequestKey,
    deadlines::Deadlines,
    table::{DeploymentIndex, ReplicaIndex, RequestIndex, Table},
};
use eagleray_wire::{ModelKey, SessionKey};

/// Younger than every request that somebody waits for.
pub(super) const DEFERRED: u64 = 1 << 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// New, or on its way from one place to another within one call.
    Nowhere,
    Queued,
    Sent {
        replica: ReplicaIndex,
        slot: u32,
    },
    /// Its outcome is known; the event has not been polled.
    Over,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(super) struct Request {
    pub(super) generation: u32,
    pub(super) deployment: DeploymentIndex,
    /// Its age among all requests: lower is older. From [`DEFERRED`] on nobody waits for it.
    pub(super) order: u64,
    pub(super) submitted: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) bytes: usize,
    pub(super) place: Place,
    pub(super) repeatable: bool,
    /// A response head has come.
    pub(super) begun: bool,
    /// The response has ended; only DONE is missing.
    pub(super) ended: bool,
    /// Times that it was rejected since it last moved.
    pub(super) rejections: u8,
    /// It has been in the queue before, so nothing refuses it a place there.
    pub(super) accepted: bool,
    /// It counts for `max_queued_requests` while it is in the queue.
    pub(super) counted: bool,
    /// Replicas that died after they had started it. With one it is a suspect, see `suspects.rs`.
    pub(super) deaths: u8,
    /// It waits among the held ones, not in the queue.
    pub(super) held: bool,
    /// The model that it asks for.
    pub(super) model: Option<ModelKey>,
    /// The session that it belongs to.
    pub(super) session: Option<SessionKey>,
    /// It waits for a replica that holds its model, not in the queue, see `models.rs`.
    pub(super) bound: bool,
    previous: Option<RequestIndex>,
    next: Option<RequestIndex>,
}

impl Request {
    pub(super) fn new(
        order: u64,
        deployment: DeploymentIndex,
        now: Instant,
        submit: &super::Submit,
    ) -> Self {
        Self {
            generation: 0,
            deployment,
            order,
            submitted: now,
            deadline: submit.deadline,
            bytes: submit.buffered_bytes + super::Limits::OVERHEAD_BYTES,
            place: Place::Nowhere,
            repeatable: submit.repeatable,
            begun: false,
            ended: false,
            rejections: 0,
            accepted: false,
            counted: false,
            deaths: 0,
            held: false,
            model: submit.model,
            session: submit.session,
            bound: false,
            previous: None,
            next: None,
        }
    }
}

impl Request {
    /// A belief was wrong about it often enough: it leaves on a grant.
    pub(super) const fn grant_only(&self) -> bool {
        self.rejections >= super::MAX_TRIES
    }

    /// Nobody waits for its answer, and it is carried out all the same.
    pub(super) const fn is_deferred(&self) -> bool {
        self.order >= DEFERRED
    }

    /// The one behind it in its queue, if there is one.
    pub(super) const fn next(&self) -> Option<RequestIndex> {
        self.next
    }
}

/// All requests of a router.
#[derive(Debug, Default)]
pub(super) struct Requests {
    table: Table<RequestIndex, Request>,
    generation: u32,
    pub(super) deadlines: Deadlines,
    /// Until when a request waits for a replica that holds its model.
    pub(super) patience: Deadlines,
}

impl Requests {
    pub(super) fn insert(&mut self, mut request: Request) -> RequestKey {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        request.generation = generation;
        let deadline = request.deadline;
        let index = self.table.insert(request);
        if let Some(at) = deadline {
            self.deadlines.insert(at, index);
        }
        RequestKey { index, generation }
    }

    pub(super) fn remove(&mut self, key: RequestKey) {
        if self.find(key).is_some() {
            self.deadlines.remove(key.index);
            self.patience.remove(key.index);
            self.table.remove(key.index);
        }
    }

    pub(super) fn get(&self, index: impl Into<Option<RequestIndex>>) -> Option<&Request> {
        self.table.get(index)
    }

    pub(super) fn get_mut(
        &mut self,
        index: impl Into<Option<RequestIndex>>,
    ) -> Option<&mut Request> {
        self.table.get_mut(index)
    }

    /// The request at a position that is known to have one, see [`Table::known`].
    pub(super) fn known(&self, index: RequestIndex) -> Option<&Request> {
        self.table.known(index)
    }

    /// As [`Requests::known`].
    pub(super) fn known_mut(&mut self, index: RequestIndex) -> Option<&mut Request> {
        self.table.known_mut(index)
    }

    pub(super) fn find(&self, key: RequestKey) -> Option<&Request> {
        self.table
            .get(key.index)
            .filter(|request| request.generation == key.generation)
    }

    pub(super) fn key(&self, index: RequestIndex) -> Option<RequestKey> {
        self.get(index).map(|request| RequestKey {
            index,
            generation: request.generation,
        })
    }

    /// Requests without a polled outcome.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Puts a request at its place by age. Newest at the end is one step; one that comes back is among the
    /// oldest, and is looked for from the front.
    pub(super) fn enqueue(&mut self, queue: &mut Queue, index: RequestIndex) {
        let Some(order) = self.get(index).map(|request| request.order) else {
            return;
        };
        let mut after = queue.last;
        // Those that nobody waits for are few: whoever defers them bounds them.
        while let Some(last) = self
            .get(after)
            .filter(|last| last.is_deferred() && last.order > order)
        {
            after = last.previous;
        }
        if self.get(after).is_some_and(|last| last.order > order) {
            let mut before = queue.first;
            while let Some(other) = self.get(before).filter(|other| other.order < order) {
                before = other.next;
            }
            after = self.get(before).and_then(|request| request.previous);
        }
        let before = self.get(after).map_or(queue.first, |request| request.next);
        if let Some(request) = self.get_mut(index) {
            request.previous = after;
            request.next = before;
            request.place = Place::Queued;
        }
        match self.get_mut(after) {
            Some(other) => other.next = Some(index),
            None => queue.first = Some(index),
        }
        match self.get_mut(before) {
            Some(other) => other.previous = Some(index),
            None => queue.last = Some(index),
        }
        queue.length += 1;
    }

    pub(super) fn dequeue(&mut self, queue: &mut Queue, index: RequestIndex) {
        let Some(request) = self
            .get_mut(index)
            .filter(|request| request.place == Place::Queued)
        else {
            return;
        };
        let (previous, next) = (request.previous, request.next);
        request.place = Place::Nowhere;
        request.previous = None;
        request.next = None;
        match self.get_mut(previous) {
            Some(other) => other.next = next,
            None => queue.first = next,
        }
        match self.get_mut(next) {
            Some(other) => other.previous = previous,
            None => queue.last = previous,
        }
        queue.length -= 1;
    }
}

/// The requests of a deployment that wait, oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) first: Option<RequestIndex>,
    last: Option<RequestIndex>,
    pub(super) length: u32,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            first: None,
            last: None,
            length: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Submit, table::Index},
        *,
    };

    fn orders(requests: &Requests, queue: &Queue) -> Vec<u64> {
        let mut orders = Vec::new();
        let mut at = queue.first;
        while let Some(request) = requests.get(at) {
            orders.push(request.order);
            at = request.next;
        }
        assert_eq!(orders.len(), queue.length as usize);
        orders
    }

    #[test]
    fn requests_come_back_at_their_age_and_leave_from_anywhere() {
        let now = Instant::now();
        let mut requests = Requests::default();
        let mut queue = Queue::new();
        let submit = Submit {
            repeatable: false,
            deadline: None,
            buffered_bytes: 0,
            model: None,
            session: None,
        };
        let keys: Vec<_> = (0..6)
            .map(|order| {
                requests
                    .insert(Request::new(order, Index::new(0), now, &submit))
                    .index
            })
            .collect();
        for index in [5, 1, 3, 0, 4, 2] {
            requests.enqueue(&mut queue, keys[index]);
        }
        assert_eq!(orders(&requests, &queue), [0, 1, 2, 3, 4, 5]);
        for index in [0, 3, 5] {
            requests.dequeue(&mut queue, keys[index]);
            requests.dequeue(&mut queue, keys[index]);
        }
        assert_eq!(orders(&requests, &queue), [1, 2, 4]);
        requests.enqueue(&mut queue, keys[3]);
        assert_eq!(orders(&requests, &queue), [1, 2, 3, 4]);
        for index in [1, 2, 3, 4] {
            requests.dequeue(&mut queue, keys[index]);
        }
        assert!(queue.is_empty());
        assert_eq!((queue.first, queue.last), (None, None));
    }
}
