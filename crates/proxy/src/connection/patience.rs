//! How long a connection may take for what it does, and the sweep that ends it when it takes longer.

use std::time::Duration;

use super::{
    linger::LINGER,
    progress::Pace,
    state::{Connection, End, HalfClosed, Phase},
};
use crate::{counters::Counters, limits::Limits};

/// Time limits of connections, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    idle: u32,
    head: u32,
    half_close: u32,
    linger: u32,
    /// `u32::MAX`: no pings.
    ping: u32,
    pong: u32,
    body: Pace,
    answer: Pace,
}

impl Patience {
    pub(crate) fn new(keep_alive: Duration, limits: &Limits, tick: Duration) -> Self {
        let ticks = |limit: Duration| {
            u32::try_from(limit.as_nanos().div_ceil(tick.as_nanos().max(1))).unwrap_or(u32::MAX)
        };
        Self {
            idle: ticks(keep_alive),
            head: ticks(limits.header_read_s),
            half_close: ticks(limits.half_close_s),
            linger: ticks(LINGER),
            ping: match ticks(limits.websocket_ping_s) {
                0 => u32::MAX,
                ticks => ticks,
            },
            pong: ticks(limits.websocket_pong_s),
            body: Pace::new(limits.body_idle_s, limits.body_bytes_per_s, tick),
            answer: Pace::new(limits.answer_idle_s, limits.answer_bytes_per_s, tick),
        }
    }
}

impl Connection {
    /// Other limits, and ticks of another length, hold from now on. What was counted by the old ones would be too much or
    /// too little by the new, so that each wait is counted from now: once longer than it should be, and never shorter.
    pub(crate) fn begin_anew(&self, tick: u32) {
        self.phase.set(match self.phase.get() {
            Phase::Idle(_) => Phase::Idle(tick),
            Phase::Head(_) => Phase::Head(tick),
            Phase::Busy => Phase::Busy,
            Phase::WebSocket(_) => Phase::WebSocket(tick),
            Phase::Lingering(_) => Phase::Lingering(tick),
        });
        if self.slow_head.get().is_some() {
            self.slow_head.set(Some(tick));
        }
        if let HalfClosed::Since(_) = self.half_closed.get() {
            self.half_closed.set(HalfClosed::Since(tick));
        }
        self.answer.begin_anew();
        for (_key, body) in self.bodies.borrow().iter() {
            body.begin_anew();
        }
    }

    /// Called once a tick: ends the connection, or the request whose body does not come, if it takes longer than it
    /// may.
    pub(crate) fn sweep(
        &self,
        tick: u32,
        patience: &Patience,
        memory_is_short: bool,
        counters: &Counters,
    ) {
        for (_key, body) in self.bodies.borrow().iter() {
            // Its own task counts and answers.
            body.tick(patience.body);
        }
        if let HalfClosed::Since(since) = self.half_closed.get() {
            if self.answer.is_waiting() || self.answer.has_moved() {
                self.half_closed.set(HalfClosed::Since(tick));
            } else if tick.wrapping_sub(since) > patience.half_close {
                self.half_closed.set(HalfClosed::Over);
                self.wake();
            }
        }
        if self.answer.tick(patience.answer) {
            counters.slow_readers.add();
            return self.end_with(End::Silent);
        }
        self.sweep_phase(tick, patience, memory_is_short, counters);
    }

    /// Ends the connection if it has done for too long what it does.
    fn sweep_phase(
        &self,
        tick: u32,
        patience: &Patience,
        memory_is_short: bool,
        counters: &Counters,
    ) {
        let late = |since: u32, limit: u32| tick.wrapping_sub(since) > limit;
        match self.phase.get() {
            _ if self.end.get().is_some() => {}
            _ if self
                .slow_head
                .get()
                .is_some_and(|since| late(since, patience.head)) =>
            {
                counters.heads_timed_out.add();
                self.end_with(End::Silent);
            }
            // The last answer is not out yet: how fast it goes is judged above.
            Phase::Idle(_) if self.answer.is_waiting() => self.phase.set(Phase::Idle(tick)),
            Phase::Idle(since) if late(since, patience.idle) => {
                counters.connections_idle.add();
                self.end_with(End::Silent);
            }
            Phase::Idle(since) if memory_is_short && late(since, 0) => {
                counters.connections_drained_memory.add();
                self.end_with(End::Silent);
            }
            Phase::Head(since) if late(since, patience.head) => {
                counters.heads_timed_out.add();
                self.end_with(End::Late);
            }
            Phase::WebSocket(since) if late(since, patience.ping.saturating_add(patience.pong)) => {
                counters.websockets_silent.add();
                self.end_with(End::Silent);
            }
            Phase::WebSocket(since) => {
                let wants_ping = late(since, patience.ping);
                let wanted_it = self.wants_ping.replace(wants_ping);
                if wants_ping && !wanted_it {
                    self.wake();
                }
            }
            Phase::Lingering(since) if late(since, patience.linger) => self.end_with(End::Silent),
            _ => {}
        }
    }
}
