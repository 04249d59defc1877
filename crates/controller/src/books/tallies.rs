//! What became of the requests that began while a deploy was under way, as the proxies count them.
//!
//! Each proxy process counts from 0 and says what has changed, so its newest word is kept, and a deploy's numbers are the
//! sum over the processes that there were. When one is gone, what it had not answered never will be: that has failed.
//! Numbers may change for as long as a request runs that began then; whoever asks later is told more.

use std::collections::BTreeMap;

use eagleray_types::control;

/// Deploys, of all applications, whose numbers are kept. Beyond, those that nothing was heard of for longest go.
const MOST_KEPT: usize = 256;

/// What became of requests that began under one mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) left: u64,
    pub(crate) running: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tallies {
    /// By application and mark.
    known: BTreeMap<(String, u64), Known>,
    /// Counts up with everything that is heard.
    heard: u64,
}

#[derive(Debug, Default)]
struct Known {
    /// By process.
    proxies: BTreeMap<u32, Counts>,
    /// Of those that are gone.
    gone: Counts,
    heard: u64,
}

impl Tallies {
    /// A proxy, or the node of one that is gone, has said this. Returns what it is about.
    pub(crate) fn hear(&mut self, said: &control::Tallies) -> Vec<(String, u64)> {
        let mut changed = Vec::new();
        for tally in &said.tallies {
            self.heard += 1;
            let name = (tally.application.clone(), tally.mark);
            let known = self.known.entry(name.clone()).or_default();
            known.heard = self.heard;
            known.proxies.insert(said.pid, Counts::of(tally));
            changed.push(name);
        }
        if said.gone {
            for (name, known) in &mut self.known {
                if let Some(last) = known.proxies.remove(&said.pid) {
                    known.gone.add(Counts {
                        failed: last.failed + last.running,
                        running: 0,
                        ..last
                    });
                    changed.push(name.clone());
                }
            }
        }
        while self.known.len() > MOST_KEPT {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.heard);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            self.known.remove(&oldest);
        }
        changed
    }

    /// `None`: nothing was heard of it, or not of late.
    pub(crate) fn counts(&self, application: &str, mark: u64) -> Option<Counts> {
        let known = self.known.get(&(application.to_owned(), mark))?;
        let mut sum = known.gone;
        for one in known.proxies.values() {
            sum.add(*one);
        }
        Some(sum)
    }
}

impl Counts {
    fn of(tally: &control::Tally) -> Self {
        let ended = tally.answered + tally.failed + tally.left;
        Self {
            answered: tally.answered,
            failed: tally.failed,
            left: tally.left,
            running: tally.began.saturating_sub(ended),
        }
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.left += other.left;
        self.running += other.running;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pid: u32, mark: u64, began: u64, answered: u64) -> control::Tallies {
        let tally = control::Tally {
            application: "a".to_owned(),
            mark,
            began,
            answered,
            failed: 0,
            left: 0,
        };
        control::Tallies {
            pid,
            tallies: vec![tally],
            gone: false,
        }
    }

    #[test]
    fn the_newest_word_of_each_process_counts_and_what_died_with_one_has_failed() {
        let mut tallies = Tallies::default();
        assert_eq!(tallies.counts("a", 1), None);
        tallies.hear(&said(10, 1, 5, 2));
        tallies.hear(&said(10, 1, 8, 6));
        let gone = control::Tallies {
            pid: 10,
            tallies: Vec::new(),
            gone: true,
        };
        assert_eq!(tallies.hear(&gone), [("a".to_owned(), 1)]);
        tallies.hear(&said(11, 1, 4, 3));
        let expected = Counts {
            answered: 9,
            failed: 2,
            left: 0,
            running: 1,
        };
        assert_eq!(tallies.counts("a", 1), Some(expected));
    }

    #[test]
    fn deploys_without_end_do_not_fill_the_memory() {
        let mut tallies = Tallies::default();
        for mark in 1..=1000 {
            tallies.hear(&said(1, mark, 1, 1));
        }
        assert_eq!(tallies.known.len(), MOST_KEPT);
        assert!(tallies.counts("a", 1000).is_some() && tallies.counts("a", 1).is_none());
    }
}
