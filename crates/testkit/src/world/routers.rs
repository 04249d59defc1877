//! The routers' side: requests in, outcomes and frames out.

use std::time::{Duration, Instant};

use eagleray_router::core::{Core, Event, Refused, Submit, Transmit};
use eagleray_wire::{Flags, Kind, ModelKey, SessionKey};

use super::{Action, MICROSECOND, World};
use crate::{ledger::Outcome, page::SimulatedPage};

impl World {
    pub(super) fn with_core(&mut self, router: usize, call: impl FnOnce(&mut Core<SimulatedPage>)) {
        if let Some(core) = self.routers[router].core.as_mut() {
            call(core);
            self.drive_router(router);
        }
    }

    pub(super) fn submit(&mut self, now: Instant, router: usize) {
        let repeatable = self.draw(self.plan.repeatable);
        let has_deadline = self.draw(self.plan.deadlines);
        let cancels = self.draw(self.plan.cancels);
        let soon = self.random.u64(1..=2 * self.plan.service);
        let model = self.some_model();
        let sessions = self.plan.sessions;
        let session = (sessions > 0).then(|| SessionKey::of(&[self.random.u8(1..=sessions)]));
        self.say_models(now, router);
        let deadline = has_deadline.then(|| now + Duration::from_micros(soon));
        let Some(core) = self.routers[router].core.as_mut() else {
            return;
        };
        match core.submit(
            now,
            &self.key,
            Submit {
                repeatable,
                deadline,
                buffered_bytes: 100,
                model,
                session: session.flatten(),
            },
        ) {
            Ok(request) => {
                self.ledger.submit(router, request, self.now, repeatable);
                if cancels {
                    self.after(soon, Action::Cancel { router, request });
                }
            }
            Err(Refused::BackPressure | Refused::Overloaded) => self.ledger.report.refused += 1,
            Err(refused) => panic!("{refused}"),
        }
        self.drive_router(router);
    }

    fn some_model(&mut self) -> Option<ModelKey> {
        let models = self.plan.models;
        (models > 0).then(|| ModelKey::of(&[self.random.u8(1..=models)]))?
    }

    /// Now and then a replica tells a router that it holds other models than before.
    fn say_models(&mut self, now: Instant, router: usize) {
        if self.plan.models == 0 || !self.draw(20) {
            return;
        }
        let held = (0..self.random.usize(0..4))
            .filter_map(|_| self.some_model())
            .collect();
        let open: Vec<_> = self
            .links
            .iter()
            .filter(|link| link.router == router && link.open)
            .map(|link| link.key)
            .collect();
        if let Some(key) = self.random.choice(open) {
            self.with_core(router, |core| core.on_models(now, key, held));
        }
    }

    pub(super) fn drive_router(&mut self, router: usize) {
        let now = self.clock();
        while let Some(core) = self.routers[router].core.as_mut() {
            if let Some(transmit) = core.poll_transmit(now) {
                self.transmit(router, transmit);
            } else if let Some(event) = core.poll_event() {
                self.event(router, event);
            } else {
                break;
            }
        }
        let Some(core) = self.routers[router].core.as_ref() else {
            return;
        };
        let queued = core.queued(&self.key);
        let report = &mut self.ledger.report;
        report.max_queued = report.max_queued.max(queued);
        if queued > 0 && !self.routers[router].filled {
            report.fills += 1;
        }
        let timeout = core.poll_timeout();
        self.routers[router].queued = queued;
        let all = self
            .routers
            .iter()
            .filter(|router| router.core.is_some())
            .map(|router| router.queued)
            .sum();
        report.most_queued_in_process = report.most_queued_in_process.max(all);
        self.routers[router].filled = queued > 0;
        if let Some(at) = timeout {
            let at = at.saturating_duration_since(self.base).as_nanos() as u64;
            // A timer that is no longer needed does nothing; one is enough for each time.
            if !self.agenda.range((at, 0)..=(at, u64::MAX)).any(
                |(_, one)| matches!(one, Action::RouterTimer { router: other } if *other == router),
            ) {
                self.at(at, Action::RouterTimer { router });
            }
        }
        self.look_at_load(router);
        self.watch(|link| link.router == router);
    }

    /// What a router has said of its load holds until it has news: a change that nobody marks would be counted wrong for
    /// as long as nothing else changes.
    fn look_at_load(&mut self, router: usize) {
        let key = &self.key;
        let router = &mut self.routers[router];
        let Some(core) = router.core.as_mut() else {
            return;
        };
        router.looks += 1;
        let load = core.load(key);
        let now = (load.queued, load.running);
        assert_eq!(
            now,
            (core.queued(key) as u32, core.words_in_use() as u32),
            "a load is what waits and the words in use"
        );
        if !core.has_news_of_loads() {
            assert_eq!(router.said, now, "a change that is no news");
        } else if router.looks.is_multiple_of(3) {
            assert!(core.take_marked().iter().all(|marked| marked == key));
            router.said = now;
        }
    }

    pub(super) fn transmit(&mut self, router: usize, transmit: Transmit) {
        let header = transmit.header;
        let link = self
            .links
            .iter()
            .rposition(|link| link.router == router && link.key == transmit.connection);
        let link = link.expect("frames go to connections that were announced");
        let report = &mut self.ledger.report;
        match header.kind {
            Kind::Request => {
                let id = self
                    .ledger
                    .id(router, transmit.request.expect("a REQUEST has a request"));
                let record = &mut self.ledger.records[id];
                let submitted = record.submitted;
                record.requests += 1;
                if header.flags.contains(Flags::GRANT) {
                    record.extra += 1;
                }
                if record.requests > 1 {
                    self.ledger.report.resent += 1;
                }
                if header.a > 0 {
                    let age = (self.now - submitted) / MICROSECOND;
                    // A request that waits though it has started is a suspect, and may be passed; one whose model a
                    // replica holds passes others on the way there.
                    assert!(
                        self.plan.models > 0
                            || age >= u64::from(header.b)
                            || self.ledger.suspect_of_age(router, self.now, header.b),
                        "request {id} left before an older one"
                    );
                }
                self.links[link]
                    .requests
                    .insert((header.slot, header.sequence), id);
            }
            Kind::Cancel => {
                report.cancels += 1;
                report.control += 1;
                let id = self.links[link].requests[&(header.slot, header.sequence)];
                self.ledger.records[id].extra += 1;
            }
            Kind::Return => {
                report.returns += 1;
                report.control += 1;
            }
            Kind::Wait => report.waits += 1,
            Kind::Unwait => report.unwaits += 1,
            other => panic!("a router sends no {other:?}"),
        }
        let at = self.now + self.links[link].travel;
        self.at(at, Action::ToReplica { link, header });
    }

    pub(super) fn event(&mut self, router: usize, event: Event) {
        match event {
            Event::Connect {
                connection,
                replica_id,
                ..
            } => {
                let replica = self
                    .replicas
                    .iter()
                    .position(|replica| replica.id == replica_id);
                let replica = replica.expect("targets name replicas that were spawned");
                let action = if self.replicas[replica].alive {
                    Action::Connect {
                        router,
                        key: connection,
                        replica,
                    }
                } else {
                    Action::Refuse {
                        router,
                        key: connection,
                    }
                };
                self.after(15, action);
            }
            Event::Disconnect { connection } => {
                let found = self
                    .links
                    .iter()
                    .position(|link| link.router == router && link.key == connection);
                if let Some(link) = found {
                    self.links[link].open = false;
                    let at = self.now + self.links[link].travel;
                    self.at(at, Action::EofToReplica { link });
                }
            }
            Event::Finished { request } => self.ledger.outcome(router, request, Outcome::Finished),
            Event::Failed { request, code, .. } => {
                self.ledger.outcome(router, request, Outcome::Failed(code));
            }
            Event::Cancelled { request } => {
                self.ledger.outcome(router, request, Outcome::Cancelled);
            }
        }
    }
}
