//! What has happened, for people and programs that watch: the newest events, numbered from 1.
//!
//! A bounded ring. Numbers count up over the lives of the controller, so a watcher goes on where it was; what it came too
//! late for is counted. Nothing is decided by an event.

use std::collections::VecDeque;

use eagleray_types::control::{self, EventRecord, EventsRequest};
use prost::Message as _;

/// Events that are kept.
pub const EVENTS_KEPT: usize = 10_000;
/// Bytes of events in one answer: well below what a frame may hold.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Deploy,
    Build,
    Replica,
    Health,
    Scale,
    Config,
    Node,
}

impl EventKind {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Build => "build",
            Self::Replica => "replica",
            Self::Health => "health",
            Self::Scale => "scale",
            Self::Config => "config",
            Self::Node => "node",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Events(VecDeque<EventRecord>);

impl Events {
    /// What the last controller kept, oldest first. It comes before all that has happened since.
    pub(crate) fn remember(&mut self, kept: Vec<EventRecord>) {
        let since = std::mem::take(&mut self.0);
        self.0.extend(kept);
        for record in since {
            self.add(record);
        }
        self.trim();
    }

    /// Gives it its number.
    pub(crate) fn add(&mut self, record: EventRecord) -> &EventRecord {
        let number = self.last() + 1;
        self.trim();
        self.0.push_back(EventRecord { number, ..record });
        &self.0[self.0.len() - 1]
    }

    fn trim(&mut self) {
        let excess = self.0.len().saturating_sub(EVENTS_KEPT - 1);
        self.0.drain(..excess);
    }

    /// The number of the newest; 0: there is none.
    fn last(&self) -> u64 {
        self.0.back().map_or(0, |last| last.number)
    }

    /// Those after a number. A number that was never given is one of a past that was lost: the watcher goes on from here.
    pub(crate) fn answer(&self, request: &EventsRequest) -> control::Events {
        let since = request.since.min(self.last());
        let limit = match request.limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let mut room = ANSWER_BYTES;
        let fits = |record: &&EventRecord| {
            let bytes = record.encoded_len();
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        let after = self.0.iter().filter(|one| one.number > since);
        let events: Vec<_> = after.take(limit).take_while(fits).cloned().collect();
        let first = self.0.front().map_or(1, |first| first.number);
        control::Events {
            next: events.last().map_or(since, |last| last.number),
            lost: first.saturating_sub(since + 1),
            events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str) -> EventRecord {
        EventRecord {
            message: message.to_owned(),
            ..EventRecord::default()
        }
    }

    fn numbers(events: &control::Events) -> Vec<u64> {
        events.events.iter().map(|one| one.number).collect()
    }

    #[test]
    fn a_watcher_goes_on_where_it_was_and_hears_what_it_missed() {
        let mut events = Events::default();
        for number in 0..EVENTS_KEPT + 5 {
            events.add(event(&number.to_string()));
        }
        let ask = |since, limit| events.answer(&EventsRequest { since, limit });
        let answer = ask(0, 2);
        assert_eq!(
            (numbers(&answer), answer.next, answer.lost),
            (vec![6, 7], 7, 5)
        );
        let answer = ask(7, 1);
        assert_eq!(
            (numbers(&answer), answer.next, answer.lost),
            (vec![8], 8, 0)
        );
        assert_eq!(ask(0, 0).events.len(), EVENTS_KEPT);
        let answer = ask(10_005, 0);
        assert_eq!((answer.events.len(), answer.next), (0, 10_005));
        assert_eq!(ask(77_777, 0).next, 10_005, "of a past that was lost");
    }

    #[test]
    fn numbers_go_on_over_lives_of_the_controller() {
        let mut events = Events::default();
        events.add(event("early"));
        events.remember(vec![EventRecord {
            number: 41,
            ..event("before")
        }]);
        events.add(event("late"));
        let answer = events.answer(&EventsRequest {
            since: 41,
            limit: 0,
        });
        assert_eq!(numbers(&answer), [42, 43]);
        assert_eq!(answer.events[0].message, "early");
    }

    #[test]
    fn an_answer_fits_into_a_frame() {
        let mut events = Events::default();
        for _ in 0..EVENTS_KEPT {
            events.add(event(&"x".repeat(4096)));
        }
        let answer = events.answer(&EventsRequest::default());
        assert!(answer.encoded_len() <= ANSWER_BYTES + 64 * answer.events.len());
        assert_eq!(answer.next as usize, answer.events.len());
    }
}
