//! Time that passes: questions that are due, answers that did not come, waits that are over.

use std::time::Duration;

use super::{Core, health, hung};
use crate::books::{deployment::Deployment, health::HealthStep};

impl Core {
    /// When [`Core::on_timeout`] has something to do.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        let deployments = self
            .books
            .applications
            .values()
            .flat_map(|one| one.deployments.values());
        deployments.filter_map(Deployment::next_timeout).min()
    }

    pub(super) fn on_timeout(&mut self, now: Duration) {
        if !self.listed {
            return;
        }
        let (applications, out) = (&mut self.books.applications, &mut self.out);
        for deployment in applications
            .values_mut()
            .flat_map(|one| one.deployments.values_mut())
        {
            let mut news = deployment.time_passes(now);
            let mut due: Vec<(String, HealthStep)> = Vec::new();
            for replica in deployment.replicas.values_mut() {
                if replica.hang_ends_at().is_some_and(|at| at <= now) {
                    hung::end_hung(replica, now, out);
                }
                if replica.condition.is_hung() {
                    continue;
                }
                let checked = replica.is_checked();
                match replica.health.due(now, replica.spec.options(), checked) {
                    HealthStep::Nothing => {}
                    step => due.push((replica.id.clone(), step)),
                }
            }
            for (id, step) in due {
                // Who is asked changes nothing; who did not answer may have to be replaced.
                news |= step == HealthStep::TimedOut;
                health::step(deployment, &id, step, now, out);
            }
            if news {
                self.touched.insert(deployment.key.application.clone());
            }
        }
    }
}
