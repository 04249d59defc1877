//! Whether the proxy turns: it is asked, and how long its answer takes says so.
//!
//! A proxy that was stopped keeps its connections and its place in the backlog, so nothing else would show it. The node
//! only tells: what is in a stopped proxy may still be answered, and a kill would lose it.

use std::time::Duration;

/// An answer that takes longer is worth a word.
const SILENT_AFTER: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Ask,
    /// The answer may still come in time.
    Wait,
    /// It has not come for so long.
    Silent(Duration),
}

#[derive(Debug, Default)]
pub(super) struct ProxyWatch {
    asked: Option<Duration>,
    looked: Option<Duration>,
    /// People have been told.
    pub(super) said: bool,
}

impl ProxyWatch {
    /// One look. After `Ask` the proxy is asked; its answer makes this anew.
    pub(super) fn look(&mut self, now: Duration) -> Look {
        let last = self.looked.replace(now).unwrap_or(now);
        // It was this process that stood still: the answer may be here, unread.
        let stood_still = now.saturating_sub(last) >= SILENT_AFTER;
        match self.asked {
            None => {
                self.asked = Some(now);
                Look::Ask
            }
            Some(_) if stood_still => {
                self.asked = Some(now);
                Look::Wait
            }
            Some(asked) => match now.saturating_sub(asked) {
                time if time < SILENT_AFTER => Look::Wait,
                time => Look::Silent(time),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_does_not_answer_in_time_is_silent_until_it_does() {
        let (mut watch, now) = (ProxyWatch::default(), Duration::ZERO);
        let looks: Vec<Look> = (0..5).map(|at| watch.look(now + at * SECOND)).collect();
        let silent = |seconds| Look::Silent(seconds * SECOND);
        assert_eq!(
            looks,
            [Look::Ask, Look::Wait, Look::Wait, silent(3), silent(4)]
        );
        watch = ProxyWatch::default();
        assert_eq!(watch.look(now + 5 * SECOND), Look::Ask);
    }

    #[test]
    fn a_node_that_stood_still_itself_gives_the_proxy_its_time() {
        let (mut watch, now) = (ProxyWatch::default(), Duration::ZERO);
        watch.look(now);
        let later = now + 60 * SECOND;
        assert_eq!(watch.look(later), Look::Wait);
        assert_eq!(watch.look(later + SECOND), Look::Wait);
        let looks = [2, 3].map(|at| watch.look(later + at * SECOND));
        assert_eq!(looks, [Look::Wait, Look::Silent(3 * SECOND)]);
    }
}
