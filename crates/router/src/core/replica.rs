//! What the router knows of one replica, and its side of the claim page.

use std::time::{Duration, Instant};

use eagleray_wire::{Claims, ModelKey, SlotState};

use super::{
    probation::Probation,
    table::{DeploymentIndex, RequestIndex, VersionIndex},
};

/// How the words of one connection are used. A word is allocated from `queue` until DONE, REJECT or TAKEN.
#[derive(Debug)]
pub(super) struct Link<C> {
    claims: C,
    slots: Vec<Slot>,
    free: Vec<u32>,
    total: u32,
    sequence: u64,
    busy: u32,
    /// Models of requests that have a word, and of how many each.
    under_way: Vec<(ModelKey, u32)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) sequence: u64,
    /// `None`: nobody wants the answer, but the replica has not said DONE.
    pub(super) request: Option<RequestIndex>,
    busy: bool,
    /// Its REQUEST frame has been polled.
    pub(super) written: bool,
    model: Option<ModelKey>,
}

impl<C: Claims> Link<C> {
    pub(super) const fn new(claims: C, total: u32) -> Self {
        Self {
            claims,
            slots: Vec::new(),
            free: Vec::new(),
            total,
            sequence: 0,
            busy: 0,
            under_way: Vec::new(),
        }
    }

    pub(super) const fn busy(&self) -> u32 {
        self.busy
    }

    pub(super) const fn has_free_word(&self) -> bool {
        self.busy < self.total
    }

    pub(super) fn turns(&self) -> u64 {
        self.claims.turns()
    }

    pub(super) fn exempt(&self) -> bool {
        self.claims.exempt()
    }

    /// Announces a request on the page; `None` when every word is in use.
    pub(super) fn queue(
        &mut self,
        request: RequestIndex,
        model: Option<ModelKey>,
    ) -> Option<(u32, u64)> {
        self.sequence += 1;
        let sequence = self.sequence;
        let entry = Slot {
            sequence,
            request: Some(request),
            busy: true,
            written: false,
            model,
        };
        let slot = if let Some(slot) = self.free.pop() {
            *self.slots.get_mut(slot as usize)? = entry;
            slot
        } else if (self.slots.len() as u32) < self.total {
            self.slots.push(entry);
            self.slots.len() as u32 - 1
        } else {
            return None;
        };
        self.busy += 1;
        if let Some(model) = model {
            match self.under_way.iter_mut().find(|one| one.0 == model) {
                Some((_, count)) => *count += 1,
                None => self.under_way.push((model, 1)),
            }
        }
        self.claims.queue(slot, sequence);
        Some((slot, sequence))
    }

    /// The entry for exactly this request; a late frame for an earlier one finds nothing.
    pub(super) fn find(&mut self, slot: u32, sequence: u64) -> Option<&mut Slot> {
        self.slots
            .get_mut(slot as usize)
            .filter(|entry| entry.busy && entry.sequence == sequence)
    }

    pub(super) fn sequence_of(&self, slot: u32) -> Option<u64> {
        self.slots
            .get(slot as usize)
            .filter(|entry| entry.busy)
            .map(|entry| entry.sequence)
    }

    pub(super) fn release(&mut self, slot: u32) {
        if let Some(entry) = self.slots.get_mut(slot as usize)
            && entry.busy
        {
            entry.busy = false;
            entry.request = None;
            self.busy -= 1;
            self.free.push(slot);
            if let Some(model) = entry.model.take()
                && let Some(place) = self.under_way.iter().position(|one| one.0 == model)
                && let Some((_, count)) = self.under_way.get_mut(place)
            {
                *count -= 1;
                if *count == 0 {
                    self.under_way.swap_remove(place);
                }
            }
        }
    }

    /// Models that requests of ours were sent here for.
    pub(super) fn models(&self) -> impl Iterator<Item = ModelKey> + '_ {
        self.under_way.iter().map(|(model, _)| *model)
    }

    /// Takes the request back, unless it has started. Afterwards the word is free.
    pub(super) fn take(&mut self, slot: u32) -> Option<Slot> {
        let entry = *self.slots.get(slot as usize).filter(|entry| entry.busy)?;
        let taken = self.claims.take(slot, entry.sequence);
        if taken {
            self.release(slot);
        }
        taken.then_some(entry)
    }

    /// Slots with a request that somebody wants.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (u32, RequestIndex)> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.busy)
            .filter_map(|(slot, entry)| Some((slot as u32, entry.request?)))
    }

    /// The peer is gone: what the page says of a request, decided for good.
    pub(super) fn started(&self, slot: u32) -> bool {
        let Some(entry) = self.slots.get(slot as usize) else {
            return false;
        };
        if !entry.written || self.claims.take(slot, entry.sequence) {
            return false;
        }
        // TAKEN can only be the replica's doing, as it gave up a router that it thought gone. Anything else that is
        // not QUEUED is not ours to explain, so it counts as started: never twice is the stronger promise.
        self.claims.read(slot) != (entry.sequence, SlotState::Taken)
    }
}

/// What the router believes of a replica that it has a target for.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(super) struct Replica<C> {
    pub(super) id: String,
    /// Where it stands among replicas for sessions.
    pub(super) place: u64,
    pub(super) socket_path: String,
    pub(super) generation: u32,
    pub(super) deployment: DeploymentIndex,
    /// Position of its version in the deployment.
    pub(super) version: VersionIndex,
    pub(super) limit: u32,
    /// Slots taken there by others, as far as known.
    pub(super) others: u32,
    /// The owner was told to connect and has not answered.
    pub(super) connecting: bool,
    /// It drains.
    pub(super) gone: bool,
    /// No target names it any more.
    pub(super) retired: bool,
    /// Its I/O thread has not turned for a second.
    pub(super) stopped: bool,
    /// It says that its event loop does not turn.
    pub(super) hung: bool,
    /// Counted in its deployment as one that takes requests and turns.
    pub(super) sound: bool,
    /// It should know, and does know, that our queue is not empty.
    pub(super) wanted: bool,
    pub(super) announced: bool,
    /// It has granted something since it was to know. Until then what it says of its room is from before.
    pub(super) answered: bool,
    /// A frame has said that nothing waits, so that it needs a WAIT even if it has one.
    pub(super) told_empty: bool,
    /// Of its last WAIT. A soft grant that answers an earlier one has ended.
    pub(super) wait_number: u64,
    /// Places in its version's lists, if it is there.
    pub(super) candidate_place: Option<usize>,
    pub(super) room_place: Option<usize>,
    pub(super) attempts: u32,
    pub(super) watch: Watch,
    /// A request that may have killed another replica was sent here.
    pub(super) probation: Option<Probation>,
    /// The models that it says it holds or loads, in order; `None`: it has said nothing of models.
    pub(super) models: Option<Vec<ModelKey>>,
    pub(super) link: Option<Link<C>>,
}

/// Since when the replica has shown no sign of life while it had requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) turns: u64,
    pub(super) since: Instant,
    pub(super) armed: bool,
}

impl<C: Claims> Replica<C> {
    /// How long nothing may turn.
    pub(super) const STOPPED_AFTER: Duration = Duration::from_secs(1);
    pub(super) const WATCH_PERIOD: Duration = Duration::from_millis(250);
    /// How often a stopped one is looked at.
    pub(super) const WAKE_PERIOD: Duration = Duration::from_millis(50);

    pub(super) fn load(&self) -> u32 {
        self.link.as_ref().map_or(0, Link::busy) + self.others
    }

    pub(super) const fn usable(&self) -> bool {
        self.link.is_some() && !self.gone && !self.retired
    }

    /// A request would wait there for nobody knows how long: it goes elsewhere, if there is an elsewhere.
    pub(super) const fn avoided(&self) -> bool {
        self.stopped || self.hung
    }

    /// It is believed to have a slot for one more. A replica that has our WAIT grants what it frees, so a request
    /// sent there on older news would meet its own grant and be rejected.
    pub(super) fn has_room(&self) -> bool {
        let current = !self.wanted || self.answered;
        let word = self.link.as_ref().is_some_and(Link::has_free_word);
        current && word && self.usable() && self.load() < self.limit
    }

    /// `occupied` as a frame says it, with `kept` of these slots kept for us by a grant in the same frame; `limit`
    /// likewise, 0 where the frame does not say.
    pub(super) fn learn(&mut self, occupied: u32, kept: u32, limit: u32) {
        let ours = self.link.as_ref().map_or(0, Link::busy) + kept;
        self.others = occupied.saturating_sub(ours);
        self.answered |= kept > 0;
        if limit > 0 {
            self.limit = limit;
        }
    }

    /// Wait before the next attempt to connect: 20 ms, doubled up to 1.28 s.
    pub(super) fn back_off(&self) -> Duration {
        Duration::from_millis(20 << self.attempts.min(6))
    }
}
