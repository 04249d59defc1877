//! Time that passes: questions that are due, answers that did not come, waits that are over.
//!
//! What is due next stands in an order of its own, so that with ten thousand replicas a moment costs what is due then,
//! and not a look at all of them. The rule: after an event the timers of what it may have changed are set again, of the
//! one replica that it was about or of the whole application that was decided about.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use eagleray_types::DeploymentKey;

use super::{Core, failures, health, hung};
use crate::books::{application::Application, replica::Replica};

/// Whose time it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// To start again, or to see that a crash loop is over.
    Deployment(DeploymentKey),
    /// To be asked, or to be ended.
    Replica(String),
}

/// One time for each timer at most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Duration, Timer)>,
    set: BTreeMap<Timer, Duration>,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn set(&mut self, timer: Timer, at: Option<Duration>) {
        let before = self.set.get(&timer).copied();
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, timer.clone()));
        }
        match at {
            Some(at) => {
                self.due.insert((at, timer.clone()));
                self.set.insert(timer, at);
            }
            None => drop(self.set.remove(&timer)),
        }
    }

    pub(super) fn set_of_replica(&mut self, replica: &Replica) {
        let timer = Timer::Replica(replica.id.clone());
        self.set(timer, replica.next_timeout());
    }

    pub(super) fn set_of_application(&mut self, application: &Application) {
        for deployment in application.deployments.values() {
            let timer = Timer::Deployment(deployment.key.clone());
            self.set(timer, deployment.next_timeout());
            for replica in deployment.replicas.values() {
                self.set_of_replica(replica);
            }
        }
    }

    /// Those whose time has come, each once. They are set no more. Who is gone meanwhile comes once, too.
    fn take_due(&mut self, now: Duration) -> Vec<Timer> {
        let mut timers = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            if let Some((_, timer)) = self.due.pop_first() {
                self.set.remove(&timer);
                timers.push(timer);
            }
        }
        timers
    }
}

impl Core {
    pub(super) fn on_timeout(&mut self, now: Duration) {
        self.builds.on_timeout(now, &mut self.out);
        self.questions.on_timeout(now, &mut self.out);
        for timer in self.timers.take_due(now) {
            match timer {
                Timer::Deployment(key) => {
                    let deployment = self.books.deployment_mut(&key);
                    if deployment.is_some_and(|one| one.time_passes(now)) {
                        self.touched.insert(key.application.clone());
                    }
                    self.rescale_one(&key, now);
                }
                Timer::Replica(id) => self.on_replica_timeout(&id, now),
            }
        }
    }

    fn on_replica_timeout(&mut self, id: &str, now: Duration) {
        let Some(deployment) = self.books.owner_mut(id) else {
            return;
        };
        let Some(replica) = deployment.replica_mut(id) else {
            return;
        };
        if replica.start_ends_at().is_some_and(|at| at <= now) {
            let limit = replica.spec.options().start_timeout_s;
            let error = format!(
                "it was not ready {limit} s after its start (start_timeout_s), and was ended"
            );
            failures::on_start_failed(deployment, id, &error, now, &mut self.out);
            self.touched.insert(deployment.key.application.clone());
            return;
        }
        if replica.hang_ends_at().is_some_and(|at| at <= now) {
            hung::end_hung(replica, now, &mut self.out);
        }
        if !replica.condition.is_hung() {
            let checked = replica.is_checked();
            let step = replica.health.due(now, replica.spec.options(), checked);
            // Who is asked changes nothing; who did not answer may have to be replaced.
            if health::step(deployment, id, step, now, &mut self.out) {
                self.touched.insert(deployment.key.application.clone());
            }
        }
        if let Some(replica) = deployment.replicas.get(id) {
            self.timers.set_of_replica(replica);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the simplest thing that keeps the same promise: a list that is searched.
    #[test]
    fn what_is_due_comes_in_its_order_and_once() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut timers, mut expected) = (Timers::default(), BTreeMap::new());
        for step in 0..20_000 {
            let timer = Timer::Replica(random.u32(..50).to_string());
            match random.u8(..8) {
                0 => {
                    let now = Duration::from_secs(random.u64(..=step));
                    let mut due: Vec<(Duration, Timer)> = Vec::new();
                    expected.retain(|timer: &Timer, at: &mut Duration| {
                        let is_due = *at <= now;
                        due.extend(is_due.then(|| (*at, timer.clone())));
                        !is_due
                    });
                    due.sort_unstable();
                    let due: Vec<Timer> = due.into_iter().map(|(_, timer)| timer).collect();
                    assert_eq!(timers.take_due(now), due);
                }
                1 => {
                    timers.set(timer.clone(), None);
                    expected.remove(&timer);
                }
                _ => {
                    let at = Duration::from_secs(step + random.u64(..100));
                    timers.set(timer.clone(), Some(at));
                    expected.insert(timer, at);
                }
            }
            assert_eq!(timers.next(), expected.values().min().copied());
            assert_eq!(timers.due.len(), timers.set.len());
        }
    }
}
