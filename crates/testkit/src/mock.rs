//! A replica without user code: real admission, a claim before each start, service times from the plan.

use std::{collections::BTreeMap, time::Instant};

use eagleray_replica::admission::{Admission, ConnectionKey, Queue, Verdict};
use eagleray_wire::{Claims, Flags, Header, Kind};

use crate::page::SimulatedPage;

/// Names one request at a replica: link, slot, sequence.
pub(crate) type JobKey = (usize, u32, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for a slot.
    Ahead,
    Accepted,
    Started,
    /// END is sent, DONE is not.
    Ended,
}

/// What the world must do for a replica.
#[derive(Debug)]
pub(crate) enum Effect {
    Send {
        link: usize,
        header: Header,
    },
    /// User code may start it soon.
    StartSoon(JobKey),
    /// User code returns after its service time, or at once when `cancelled`.
    FinishSoon {
        job: JobKey,
        cancelled: bool,
    },
    /// The background task ends soon.
    DoneSoon(JobKey),
    /// User code was called.
    Started(JobKey),
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(crate) struct Mock {
    pub(crate) id: String,
    pub(crate) version: usize,
    pub(crate) admission: Admission<JobKey>,
    pub(crate) alive: bool,
    pub(crate) stopped: bool,
    /// Its event loop does not turn.
    pub(crate) hung: bool,
    /// In the targets.
    pub(crate) listed: bool,
    pub(crate) tick_armed: bool,
    jobs: BTreeMap<JobKey, State>,
    connections: Vec<Option<(usize, SimulatedPage)>>,
    /// Above a limit that was lowered, until enough has finished.
    ceiling: u32,
    /// Requests that waited here for a slot, and those of them that got none.
    pub(crate) ahead: usize,
    pub(crate) sent_back: usize,
}

impl Mock {
    pub(crate) fn new(id: String, version: usize, limit: u32) -> Self {
        Self {
            id,
            version,
            admission: Admission::new(limit),
            alive: true,
            stopped: false,
            hung: false,
            listed: true,
            tick_armed: false,
            jobs: BTreeMap::new(),
            connections: Vec::new(),
            ceiling: limit,
            ahead: 0,
            sent_back: 0,
        }
    }

    pub(crate) fn busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    pub(crate) fn connect(
        &mut self,
        now: Instant,
        link: usize,
        page: SimulatedPage,
    ) -> ConnectionKey {
        let free = self.connections.iter().position(Option::is_none);
        let index = free.unwrap_or(self.connections.len());
        if free.is_none() {
            self.connections.push(None);
        }
        self.connections[index] = Some((link, page));
        let key = ConnectionKey(index);
        self.admission.connected(now, key);
        key
    }

    /// The loop turned, with something to do.
    pub(crate) fn bump(&self) {
        for (_, page) in self.connections.iter().flatten() {
            page.bump();
        }
    }

    pub(crate) fn frame(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        header: &Header,
    ) -> Vec<Effect> {
        let Some((link, page)) = self.connections[key.0].clone() else {
            return Vec::new();
        };
        let job = (link, header.slot, header.sequence);
        let queue = Queue::of(header);
        let mut effects = Vec::new();
        match header.kind {
            Kind::Request => {
                let granted = header.flags.contains(Flags::GRANT);
                match self.admission.on_request(now, key, granted, queue) {
                    Verdict::Accept => {
                        self.jobs.insert(job, State::Accepted);
                        self.check();
                        effects.push(Effect::StartSoon(job));
                    }
                    Verdict::Ahead => {
                        self.ahead += 1;
                        self.jobs.insert(job, State::Ahead);
                        self.admission.take_ahead(now, job);
                    }
                    Verdict::Reject => {
                        let header = self.admission.reject(header.slot, header.sequence);
                        effects.push(Effect::Send { link, header });
                    }
                }
            }
            Kind::Wait => self.admission.on_wait(now, key, queue),
            Kind::Unwait => self.admission.on_unwait(now, key),
            Kind::Return => self.admission.on_return(now, key, queue),
            Kind::Cancel => match self.jobs.get(&job) {
                Some(State::Ahead) => effects = self.end(now, key, job, false),
                Some(State::Accepted)
                    if page.read(header.slot)
                        != (header.sequence, eagleray_wire::SlotState::Queued) =>
                {
                    effects = self.end(now, key, job, false);
                }
                Some(State::Accepted | State::Started) => {
                    effects.push(Effect::FinishSoon {
                        job,
                        cancelled: true,
                    });
                }
                Some(State::Ended) | None => {}
            },
            other => panic!("a router sent {other:?}"),
        }
        effects
    }

    /// User code's thread takes the job.
    pub(crate) fn start(&mut self, job: JobKey) -> Vec<Effect> {
        let (link, slot, sequence) = job;
        let page = self
            .connections
            .iter()
            .flatten()
            .find(|(other, _)| *other == link)
            .map(|(_, page)| page);
        let Some(state) = self.jobs.get_mut(&job) else {
            return Vec::new();
        };
        if page.is_some_and(|page| page.start(slot, sequence)) {
            *state = State::Started;
            return vec![
                Effect::Started(job),
                Effect::FinishSoon {
                    job,
                    cancelled: false,
                },
            ];
        }
        // Taken: CANCEL is on its way, and ends it.
        Vec::new()
    }

    /// User code returned.
    pub(crate) fn finish(&mut self, now: Instant, job: JobKey, background: bool) -> Vec<Effect> {
        if self.jobs.get(&job) != Some(&State::Started) {
            return Vec::new();
        }
        let index = self.connection_of(job);
        if let Some(index) = index {
            return self.end(now, ConnectionKey(index), job, background);
        }
        self.jobs.remove(&job);
        self.admission.dropped(now);
        Vec::new()
    }

    fn connection_of(&self, job: JobKey) -> Option<usize> {
        let of = |one: &Option<(usize, SimulatedPage)>| {
            one.as_ref().is_some_and(|(link, _)| *link == job.0)
        };
        self.connections.iter().position(of)
    }

    pub(crate) fn done(&mut self, now: Instant, job: JobKey) -> Vec<Effect> {
        if self.jobs.remove(&job).is_none() {
            return Vec::new();
        }
        let Some(index) = self.connection_of(job) else {
            self.admission.dropped(now);
            return Vec::new();
        };
        vec![self.done_frame(now, ConnectionKey(index), job, Flags::DONE)]
    }

    pub(crate) fn eof(&mut self, now: Instant, key: ConnectionKey) -> Vec<Effect> {
        let Some((link, page)) = self.connections[key.0].take() else {
            return Vec::new();
        };
        self.admission.disconnected(now, key);
        let jobs: Vec<_> = self
            .jobs
            .iter()
            .filter(|(job, _)| job.0 == link)
            .map(|(job, state)| (*job, *state))
            .collect();
        let mut effects = Vec::new();
        for (job, state) in jobs {
            match state {
                State::Accepted => {
                    page.take(job.1, job.2);
                    self.jobs.remove(&job);
                    self.admission.dropped(now);
                }
                State::Ahead => {
                    page.take(job.1, job.2);
                    self.jobs.remove(&job);
                    self.admission.withdraw(now, |other| *other == job);
                }
                State::Started => effects.push(Effect::FinishSoon {
                    job,
                    cancelled: true,
                }),
                State::Ended => {}
            }
        }
        effects
    }

    pub(crate) fn set_limit(&mut self, now: Instant, limit: u32) {
        self.ceiling = limit.max(self.ceiling.min(self.admission.ongoing()));
        self.admission.set_limit(now, limit);
    }

    /// The time of a grant, or of what waits for a slot, is up.
    pub(crate) fn on_timeout(&mut self, now: Instant) -> Vec<Effect> {
        let overdue = self.admission.take_overdue(now);
        self.sent_back += overdue.len();
        self.admission.on_timeout(now);
        let send_back = |job: JobKey| {
            self.jobs.remove(&job);
            let header = self.admission.reject(job.1, job.2);
            Effect::Send {
                link: job.0,
                header,
            }
        };
        overdue.into_iter().map(send_back).collect()
    }

    pub(crate) fn notices(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(job) = self.admission.next_ahead() {
            self.jobs.insert(job, State::Accepted);
            effects.push(Effect::StartSoon(job));
        }
        while let Some((ConnectionKey(index), header)) = self.admission.poll_transmit() {
            if let Some((link, _)) = self.connections[index] {
                effects.push(Effect::Send { link, header });
            }
        }
        self.check();
        effects
    }

    /// It died: nothing of it is left but the pages.
    pub(crate) fn kill(&mut self) {
        self.alive = false;
        self.jobs.clear();
    }

    fn end(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        job: JobKey,
        background: bool,
    ) -> Vec<Effect> {
        let answer = Flags::HEAD.with(Flags::END);
        if background {
            self.jobs.insert(job, State::Ended);
            let mut header = Header::new(Kind::Response, job.1, job.2);
            header.flags = answer;
            header.b = self.admission.occupied();
            return vec![
                Effect::Send {
                    link: job.0,
                    header,
                },
                Effect::DoneSoon(job),
            ];
        }
        self.jobs.remove(&job);
        vec![self.done_frame(now, key, job, answer.with(Flags::DONE))]
    }

    fn done_frame(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        job: JobKey,
        flags: Flags,
    ) -> Effect {
        let rides = !self.admission.withdraw(now, |other| *other == job)
            && self.admission.finished(now, key);
        let mut header = Header::new(Kind::Response, job.1, job.2);
        header.flags = if rides {
            flags.with(Flags::GRANT)
        } else {
            flags
        };
        header.b = self.admission.occupied();
        header.c = self.admission.places();
        Effect::Send {
            link: job.0,
            header,
        }
    }

    fn check(&mut self) {
        let (limit, ongoing) = (self.admission.limit(), self.admission.ongoing());
        self.ceiling = limit.max(self.ceiling.min(ongoing));
        assert!(
            ongoing <= self.ceiling,
            "{}: {ongoing} slots taken of {limit}",
            self.id
        );
        let waits = |state: &&State| **state == State::Ahead;
        let ahead = self.jobs.values().filter(waits).count();
        assert_eq!(
            ongoing as usize,
            self.jobs.len() - ahead,
            "{}: a slot leaked",
            self.id
        );
        assert!(
            ahead == 0 || ongoing >= limit,
            "{}: {ahead} wait beside a free slot",
            self.id
        );
    }
}
