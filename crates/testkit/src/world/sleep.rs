//! The sleep property: no request waits beside a free slot.

use super::{Link, World};

impl World {
    /// Looks at the links that a step may have changed.
    pub(super) fn watch(&mut self, touched: impl Fn(&Link) -> bool) {
        for index in 0..self.links.len() {
            if touched(&self.links[index]) {
                self.watch_link(index);
            }
        }
    }

    fn watch_link(&mut self, index: usize) {
        let link = &self.links[index];
        let replica = &self.replicas[link.replica];
        let core = self.routers[link.router].core.as_ref();
        let candidates = self
            .replicas
            .iter()
            .filter(|replica| replica.alive && replica.listed)
            .count();
        // Where the machines promise nothing there is nothing to measure: a replica that died, was stopped, hangs or
        // drains, as far as either end knows, candidates past those that get a WAIT, and requests that wait for a
        // replica with their model.
        let promised = self.plan.models == 0
            && link.open
            && replica.alive
            && !replica.stopped
            && !replica.hung
            && !replica.admission.draining()
            && candidates <= eagleray_router::core::MAX_WAITS
            && core.is_some_and(|core| core.takes(link.key));
        // A suspect may not go where another is, so it does not sleep beside a slot there. A request that a slot here is
        // kept for does not sleep either.
        let kept = replica.admission.grants(link.replica_key) as usize;
        let idle = promised
            && replica.admission.free() > 0
            && core.is_some_and(|core| core.queued_for(link.key) > kept);
        let sleeps = idle && link.offers == 0;
        let now = self.now;
        let (since, length) = spell(link.idle_since, idle, promised, now);
        let (sleeps_since, sleep_length) = spell(link.sleeps_since, sleeps, promised, now);
        let travel = link.travel;
        self.links[index].idle_since = since;
        self.links[index].sleeps_since = sleeps_since;
        let report = &mut self.ledger.report;
        report.longest_idle = report.longest_idle.max(length as f64 / travel as f64);
        report.longest_sleep = report
            .longest_sleep
            .max(sleep_length as f64 / travel as f64);
        assert!(
            sleep_length <= travel,
            "seed {}: a request slept {sleep_length} ns beside a free slot of {}, a frame takes {travel}",
            self.plan.seed,
            self.replicas[self.links[index].replica].id
        );
    }
}

/// The start of the spell that goes on now, and the length of the one that ends now.
fn spell(since: Option<u64>, holds: bool, promised: bool, now: u64) -> (Option<u64>, u64) {
    match since {
        Some(since) if holds => (Some(since), now - since),
        Some(since) if promised => (None, now - since),
        _ if holds => (Some(now), 0),
        _ => (None, 0),
    }
}
