//! The retry budget of a deployment: retries of the last 10 s stay below 20 % of its requests of the last 10 s
//! plus ten a second. So a crash under load cannot double the load on what is left.

use std::time::Instant;

const WINDOWS: u64 = 10;
const PERCENT: u64 = 20;
const FLOOR: u64 = 10 * WINDOWS;

#[derive(Debug)]
pub(super) struct Budget {
    base: Instant,
    /// Second since `base` of the newest window.
    second: u64,
    /// Requests and retries, by second modulo `WINDOWS`.
    windows: [(u32, u32); WINDOWS as usize],
}

impl Budget {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            base: now,
            second: 0,
            windows: [(0, 0); WINDOWS as usize],
        }
    }

    pub(super) fn request(&mut self, now: Instant) {
        let (requests, _) = self.window(now);
        *requests = requests.saturating_add(1);
    }

    /// Spends one retry, if there is one.
    pub(super) fn retry(&mut self, now: Instant) -> bool {
        self.window(now);
        let requests: u64 = self
            .windows
            .iter()
            .map(|(requests, _)| u64::from(*requests))
            .sum();
        let retries: u64 = self
            .windows
            .iter()
            .map(|(_, retries)| u64::from(*retries))
            .sum();
        let allowed = retries < FLOOR + requests * PERCENT / 100;
        if allowed {
            *self.window(now).1 += 1;
        }
        allowed
    }

    fn window(&mut self, now: Instant) -> (&mut u32, &mut u32) {
        let second = now.saturating_duration_since(self.base).as_secs();
        if second > self.second {
            let stale = (second - self.second).min(WINDOWS);
            for age in 0..stale {
                self.windows[((second - age) % WINDOWS) as usize] = (0, 0);
            }
            self.second = second;
        }
        let (requests, retries) = &mut self.windows[(self.second % WINDOWS) as usize];
        (requests, retries)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_idle_deployment_has_a_hundred_retries_in_ten_seconds() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!((0..500).filter(|_| budget.retry(now)).count(), 100);
        assert!(!budget.retry(now + Duration::from_secs(9)));
        assert!(budget.retry(now + Duration::from_secs(10)));
    }

    #[test]
    fn a_busy_deployment_has_a_fifth_of_its_requests_more() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        for _ in 0..1_000 {
            budget.request(now + Duration::from_secs(3));
        }
        assert_eq!(
            (0..500)
                .filter(|_| budget.retry(now + Duration::from_secs(12)))
                .count(),
            300
        );
        assert_eq!(
            (0..500)
                .filter(|_| budget.retry(now + Duration::from_secs(30)))
                .count(),
            100
        );
    }
}
