//! What happens in a simulated run.

/// All times in microseconds, all chances in percent.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub routers: usize,
    /// Replicas of each version; its length is the number of versions.
    pub replicas: Vec<usize>,
    /// Weights of the versions.
    pub weights: Vec<u32>,
    pub max_ongoing: u32,
    pub max_queued: i64,
    /// Requests that each router gets.
    pub requests: usize,
    /// Mean time between two requests at one router.
    pub gap: u64,
    /// Requests that come at once; the gap is between bursts.
    pub burst: usize,
    /// Service times are drawn up to this.
    pub service: u64,
    /// Travel of a frame: each link draws its own from this range.
    pub travel: (u64, u64),
    pub cancels: u32,
    pub deadlines: u32,
    pub repeatable: u32,
    /// Answers whose DONE comes some time after END.
    pub background: u32,
    /// Replicas killed, each replaced after a while.
    pub kills: usize,
    /// Replicas stopped for 3 s.
    pub stops: usize,
    /// Replicas whose event loop does not turn for 3 s, which they say after the first.
    pub hangs: usize,
    pub router_kills: usize,
    pub limit_changes: usize,
    /// Replicas drained and replaced.
    pub drains: usize,
    /// Requests name one of so many models, and replicas say at random times that they hold some. Then requests may
    /// wait for a holder, beside a free slot.
    pub models: u8,
    /// Requests belong to one of so many sessions; 0: to none.
    pub sessions: u8,
}

impl Default for Plan {
    /// Three routers, four replicas, load around saturation, and no faults.
    fn default() -> Self {
        Self {
            seed: 0,
            routers: 3,
            replicas: vec![4],
            weights: vec![1],
            max_ongoing: 3,
            max_queued: -1,
            requests: 300,
            gap: 80,
            burst: 1,
            service: 600,
            travel: (10, 30),
            cancels: 0,
            deadlines: 0,
            repeatable: 50,
            background: 10,
            kills: 0,
            stops: 0,
            hangs: 0,
            router_kills: 0,
            limit_changes: 0,
            drains: 0,
            models: 0,
            sessions: 0,
        }
    }
}

impl Plan {
    /// How long requests keep coming, about.
    pub const fn span(&self) -> u64 {
        self.requests as u64 / self.burst as u64 * self.gap
    }

    pub const fn faultless(&self) -> bool {
        let faults = self.kills + self.stops + self.hangs + self.router_kills;
        faults + self.limit_changes + self.drains == 0
    }
}
