//! What goes wrong.

use std::time::Instant;

use super::{Action, Fault, World};
use crate::ledger::Outcome;

impl World {
    pub(super) fn fault(&mut self, now: Instant, fault: Fault) {
        match fault {
            Fault::KillRouter => self.kill_router(),
            Fault::Limit => {
                self.limit = self.random.u32(1..=2 * self.plan.max_ongoing);
                for replica in 0..self.replicas.len() {
                    if self.replicas[replica].alive && !self.replicas[replica].stopped {
                        self.replicas[replica].set_limit(now, self.limit);
                        self.drive_replica(replica);
                    }
                }
                self.publish();
            }
            Fault::Kill | Fault::Stop | Fault::Hang | Fault::Drain => {
                let healthy = |one: &&crate::mock::Mock| {
                    one.alive
                        && !one.stopped
                        && !one.hung
                        && one.listed
                        && !one.admission.draining()
                };
                let count = self.replicas.iter().filter(healthy).count();
                if count < 2 {
                    return;
                }
                let chosen = self.random.usize(0..count);
                let id = self
                    .replicas
                    .iter()
                    .filter(healthy)
                    .nth(chosen)
                    .map(|one| one.id.clone());
                let Some(replica) = self
                    .replicas
                    .iter()
                    .position(|one| Some(&one.id) == id.as_ref())
                else {
                    return;
                };
                self.strike(now, fault, replica);
            }
        }
    }

    fn strike(&mut self, now: Instant, fault: Fault, replica: usize) {
        match fault {
            Fault::Stop => {
                self.replicas[replica].stopped = true;
                self.after(3_000_000, Action::Continue { replica });
            }
            Fault::Hang => {
                self.replicas[replica].hung = true;
                self.after(1_000_000, Action::SayHung { replica });
                self.after(3_000_000, Action::Turn { replica });
            }
            Fault::Drain => {
                self.step(Action::Replace { replica });
                self.replicas[replica].admission.drain(now);
                self.drive_replica(replica);
                let later = self.random.u64(0..2_000);
                self.after(later, Action::Unlist { replica });
            }
            _ => {
                self.replicas[replica].kill();
                for link in 0..self.links.len() {
                    if self.links[link].replica == replica {
                        let at = self.now + self.links[link].travel;
                        self.at(at, Action::EofToRouter { link });
                    }
                }
                let replaced = self.random.u64(0..2_000);
                self.after(replaced, Action::Replace { replica });
                let unlisted = self.random.u64(0..50_000);
                self.after(unlisted, Action::Unlist { replica });
            }
        }
    }

    fn kill_router(&mut self) {
        let alive = self
            .routers
            .iter()
            .filter(|router| router.core.is_some())
            .count();
        let router = self.random.usize(0..self.routers.len());
        if alive < 2 || self.routers[router].core.take().is_none() {
            return;
        }
        let orphans: Vec<_> = self
            .ledger
            .keys
            .iter()
            .filter(|((owner, _), id)| {
                *owner == router && self.ledger.records[**id].outcome.is_none()
            })
            .map(|((_, key), _)| *key)
            .collect();
        for key in orphans {
            self.ledger.outcome(router, key, Outcome::Orphaned);
        }
        for link in 0..self.links.len() {
            if self.links[link].router == router {
                self.links[link].open = false;
                let at = self.now + self.links[link].travel;
                self.at(at, Action::EofToReplica { link });
            }
        }
    }
}
