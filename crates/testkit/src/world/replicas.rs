//! The replicas' side: what happens in them, and what they send.

use std::{collections::BTreeMap, time::Instant};

use eagleray_router::core::ConnectionKey;
use eagleray_wire::{Flags, Header, Kind};

use super::{Action, Link, MICROSECOND, World};
use crate::{mock::Effect, page::SimulatedPage};

impl World {
    /// The replica that an action happens in, if it needs that replica to run.
    pub(super) fn replica_of(&self, action: &Action) -> Option<usize> {
        Some(match action {
            Action::ToReplica { link, .. } | Action::EofToReplica { link } => {
                self.links[*link].replica
            }
            Action::Start(job) | Action::Finish(job) | Action::Done(job) => {
                self.links[job.0].replica
            }
            Action::Tick { replica } | Action::ReplicaTimer { replica } => *replica,
            Action::Connect { replica, .. } if self.replicas[*replica].alive => *replica,
            _ => return None,
        })
    }

    pub(super) fn replica_step(&mut self, now: Instant, index: usize, action: Action) {
        let background = matches!(action, Action::Finish(_)) && self.draw(self.plan.background);
        let replica = &mut self.replicas[index];
        let effects = match action {
            Action::ToReplica { link, header } => {
                replica.frame(now, self.links[link].replica_key, &header)
            }
            Action::EofToReplica { link } => replica.eof(now, self.links[link].replica_key),
            Action::Start(job) => replica.start(job),
            Action::Finish(job) => replica.finish(now, job, background),
            Action::Done(job) => replica.done(now, job),
            Action::ReplicaTimer { .. } => replica.on_timeout(now),
            Action::Tick { .. } => {
                replica.tick_armed = false;
                Vec::new()
            }
            Action::Connect { router, key, .. } => {
                self.hello(now, router, key, index);
                Vec::new()
            }
            other => unreachable!("{other:?}"),
        };
        self.carry_out(index, effects);
    }

    pub(super) fn hello(
        &mut self,
        now: Instant,
        router: usize,
        key: ConnectionKey,
        replica: usize,
    ) {
        let limit = self.replicas[replica].admission.limit();
        let page = SimulatedPage::new((2 * limit).max(64));
        let link = self.links.len();
        let replica_key = self.replicas[replica].connect(now, link, page.clone());
        let travel = self.random.u64(self.plan.travel.0..=self.plan.travel.1) * MICROSECOND;
        self.links.push(Link {
            router,
            replica,
            key,
            replica_key,
            page,
            travel,
            open: false,
            offers: 0,
            sleeps_since: None,
            idle_since: None,
            requests: BTreeMap::new(),
        });
        self.at(self.now + travel, Action::Hello { link });
    }

    /// Tells every router how long the loop has not turned.
    pub(super) fn say_hung(&mut self, replica: usize, milliseconds: u32) {
        if !self.replicas[replica].alive {
            return;
        }
        let mut header = Header::new(Kind::Hung, 0, 0);
        header.a = milliseconds;
        for link in 0..self.links.len() {
            if self.links[link].replica == replica {
                self.count_to_router(link, header);
            }
        }
    }

    pub(super) fn carry_out(&mut self, replica: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { link, header } => self.count_to_router(link, header),
                Effect::StartSoon(job) => {
                    let wait = self.random.u64(0..40);
                    self.after(wait, Action::Start(job));
                }
                Effect::FinishSoon { job, cancelled } => {
                    let service = if cancelled {
                        5
                    } else {
                        self.random.u64(0..=self.plan.service)
                    };
                    self.after(service, Action::Finish(job));
                }
                Effect::DoneSoon(job) => {
                    let rest = self.random.u64(0..=self.plan.service);
                    self.after(rest, Action::Done(job));
                }
                Effect::Started((link, slot, sequence)) => {
                    let id = self.links[link].requests[&(slot, sequence)];
                    self.ledger
                        .started(id, self.replicas[replica].version, replica);
                }
            }
        }
    }

    pub(super) fn count_to_router(&mut self, link: usize, header: Header) {
        let report = &mut self.ledger.report;
        match header.kind {
            Kind::Grant => {
                report.grants += 1;
                report.control += 1;
            }
            Kind::Reject => {
                report.rejects += 1;
                report.control += 1;
                let id = self.links[link].requests[&(header.slot, header.sequence)];
                self.ledger.records[id].extra += 1;
            }
            Kind::Response if header.flags.contains(Flags::GRANT) => report.rides += 1,
            _ => {}
        }
        let offers = Self::offers(&header);
        self.links[link].offers += u32::from(offers);
        let at = self.now + self.links[link].travel;
        self.at(
            at,
            Action::ToRouter {
                link,
                header,
                offers,
            },
        );
    }

    /// Whether a frame to a router grants a slot, or says that there is one.
    pub(super) fn offers(header: &Header) -> bool {
        let speaks = header.flags.contains(Flags::DONE) || header.kind == Kind::Reject;
        header.kind == Kind::Grant
            || header.flags.contains(Flags::GRANT)
            || (speaks && header.b < header.c)
    }

    pub(super) fn arrive(&mut self, now: Instant, index: usize, header: &Header, offers: bool) {
        let link = &mut self.links[index];
        link.offers -= u32::from(offers);
        let Link {
            router, key, open, ..
        } = *link;
        if open {
            self.with_core(router, |core| {
                core.on_frame(now, key, header);
            });
        }
    }

    pub(super) fn drive_replica(&mut self, replica: usize) {
        let effects = self.replicas[replica].notices();
        self.carry_out(replica, effects);
        if let Some(at) = self.replicas[replica].admission.poll_timeout() {
            let at = at.saturating_duration_since(self.base).as_nanos() as u64;
            self.at(at, Action::ReplicaTimer { replica });
        }
        if self.replicas[replica].busy() && !self.replicas[replica].tick_armed {
            self.replicas[replica].tick_armed = true;
            self.after(200_000, Action::Tick { replica });
        }
        self.watch(|link| link.replica == replica);
    }
}
