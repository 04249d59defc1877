//! Says what a router has to do: within [`EVERY`] of a change, and no more often than that.
//!
//! The first change after a pause is said at once, since it may be the request that a deployment without replicas waits
//! for. While nothing changes there is no timer, and nothing is said.

use std::{cell::Cell, time::Duration};

use eagleray_types::{
    DeploymentKey,
    control::{Load, Loads},
};
use tokio::time::{Instant, sleep_until};

use super::Handle;
use crate::core::Seen;

/// Between two reports of one router.
pub const EVERY: Duration = Duration::from_millis(50);

/// The reports of one router. There is one of each router.
#[derive(Debug)]
pub struct Reporter {
    router: Handle,
    name: String,
    /// When the next look may be had: looks cost something too, so that they are as rare as reports.
    next_at: Cell<Option<Instant>>,
}

impl Reporter {
    /// `name`: as [`Loads::router`].
    pub const fn new(router: Handle, name: String) -> Self {
        Self {
            router,
            name,
            next_at: Cell::new(None),
        }
    }

    /// Waits for something to say. Cancel safe.
    pub async fn next(&self) -> Loads {
        loop {
            self.router.load_changed().await;
            if let Some(at) = self.next_at.get() {
                sleep_until(at).await;
            }
            let loads = self.router.state.borrow_mut().changed_loads();
            self.next_at.set(Some(Instant::now() + EVERY));
            if !loads.is_empty() {
                return self.report(false, loads);
            }
        }
    }

    /// All that there is, for who knows nothing of it.
    pub fn whole(&self) -> Loads {
        let loads = self.router.state.borrow_mut().all_loads();
        self.report(true, loads)
    }

    fn report(&self, whole: bool, loads: Vec<Load>) -> Loads {
        Loads {
            router: self.name.clone(),
            whole,
            gone: false,
            loads,
        }
    }
}

impl Handle {
    /// What is to be seen of each deployment. One that has calls for certain replicas of it comes twice: those are apart.
    /// Waits are told once.
    pub fn each_load(&self, say: impl FnMut(&DeploymentKey, Seen)) {
        self.state.borrow_mut().each_load(say);
    }

    /// Waits until some load may have changed. For one task; cancel safe.
    async fn load_changed(&self) {
        loop {
            let news = {
                let state = self.state.borrow();
                if state.has_news_of_loads() {
                    return;
                }
                state.news_of_loads()
            };
            news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests;
