//! How requests end, by application, while somebody wants to know: during a deploy.
//!
//! The controller *marks* an application when a deploy of it begins, and takes the mark away when it ends. A request counts
//! under the mark under which it began, however late it ends, and is exactly one of: answered; failed, which is a status
//! from 500 on or an answer that broke off; left, which is its client's doing; or still running.
//!
//! Each thread writes numbers of its own, with plain loads and stores, since nobody else writes them. So a request costs
//! one look at a pointer where nothing is counted, and two stores where something is. The control side adds the threads
//! up, and forgets a mark when no thread holds it any more: it was taken away, and its last request has ended.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use eagleray_types::{
    ErrorCode,
    control::{self, TargetUpdate},
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// Marks that are kept, of all applications. Beyond, the oldest is reported no more.
const MOST_KEPT: usize = 256;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// It got a status from 500 on, ours or user code's, or its answer broke off.
    Failed,
    /// Its client left, or broke a rule.
    Left,
}

impl Outcome {
    /// Of an answer that came whole: a client that counts failures goes by the status, whoever has given it.
    pub(crate) const fn of_status(status: u16) -> Self {
        if status >= 500 {
            Self::Failed
        } else {
            Self::Answered
        }
    }

    pub(crate) const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::BadRequest
            | ErrorCode::PayloadTooLarge
            | ErrorCode::RequestTimeout
            | ErrorCode::Cancelled => Self::Left,
            ErrorCode::NotFound
            | ErrorCode::DeadlineExceeded
            | ErrorCode::NoReplica
            | ErrorCode::UserCode
            | ErrorCode::Internal
            | ErrorCode::ReplicaDied
            | ErrorCode::BackPressure
            | ErrorCode::Overloaded
            | ErrorCode::Unavailable
            | ErrorCode::Draining => Self::Failed,
        }
    }
}

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    /// For the one who writes it.
    fn add(&self) {
        let number = self.0.load(Ordering::Relaxed);
        self.0.store(number + 1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Numbers {
    began: Number,
    answered: Number,
    failed: Number,
    left: Number,
}

/// One thread's numbers of one mark. Only that thread has it.
#[derive(Debug)]
pub(crate) struct Tally(Arc<Numbers>);

impl Tally {
    pub(crate) fn begin(&self) {
        self.0.began.add();
    }

    pub(crate) fn end(&self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => self.0.answered.add(),
            Outcome::Failed => self.0.failed.add(),
            Outcome::Left => self.0.left.add(),
        }
    }
}

/// The marks that are in force in one thread, by application.
#[derive(Debug, Default)]
pub(crate) struct Marks(FxHashMap<String, (u64, Rc<Tally>)>);

impl Marks {
    /// Takes an update that follows what is known.
    pub(crate) fn apply(&mut self, update: &TargetUpdate, tallies: &Tallies) {
        if update.snapshot {
            self.0.retain(|application, (mark, _)| {
                let still =
                    |one: &control::Mark| one.application == *application && one.mark == *mark;
                update.marks.iter().any(still)
            });
        }
        for control::Mark { application, mark } in &update.marks {
            let before = self.0.get(application).map(|(mark, _)| *mark);
            if *mark == 0 {
                self.0.remove(application);
            } else if before != Some(*mark) {
                let tally = Rc::new(tallies.add(application, *mark));
                self.0.insert(application.clone(), (*mark, tally));
            }
        }
    }

    /// Where a request to an application counts; `None`: nowhere.
    pub(crate) fn of(&self, application: &str) -> Option<Rc<Tally>> {
        let (_, tally) = self.0.get(application)?;
        Some(Rc::clone(tally))
    }
}

/// All that is counted in a process.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<Vec<Marked>>);

#[derive(Debug)]
struct Marked {
    application: String,
    mark: u64,
    threads: Vec<Arc<Numbers>>,
    /// As it was reported last.
    reported: Option<control::Tally>,
}

impl Marked {
    fn sum(&self) -> control::Tally {
        let sum = |number: fn(&Numbers) -> &Number| {
            self.threads
                .iter()
                .map(|one| number(one).get())
                .sum::<u64>()
        };
        control::Tally {
            application: self.application.clone(),
            mark: self.mark,
            // Ends first: what ends meanwhile still runs, and nothing ends that has not begun.
            answered: sum(|one| &one.answered),
            failed: sum(|one| &one.failed),
            left: sum(|one| &one.left),
            began: sum(|one| &one.began),
        }
    }

    /// No thread holds it any more.
    fn is_over(&self) -> bool {
        self.threads.iter().all(|one| Arc::strong_count(one) == 1)
    }
}

impl Tallies {
    /// The numbers of one more thread.
    fn add(&self, application: &str, mark: u64) -> Tally {
        let numbers = Arc::new(Numbers::default());
        let mut all = self.0.lock();
        let known = all
            .iter_mut()
            .find(|one| one.mark == mark && one.application == application);
        if let Some(known) = known {
            known.threads.push(Arc::clone(&numbers));
        } else {
            if all.len() >= MOST_KEPT {
                all.remove(0);
            }
            all.push(Marked {
                application: application.to_owned(),
                mark,
                threads: vec![Arc::clone(&numbers)],
                reported: None,
            });
        }
        Tally(numbers)
    }

    /// Whether anything is counted that may change.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The next report says everything: whoever was told may be gone, with what it knew.
    pub(crate) fn tell_anew(&self) {
        for one in self.0.lock().iter_mut() {
            one.reported = None;
        }
    }

    /// What has changed since the last report. Afterwards what is over is forgotten.
    pub(crate) fn report(&self) -> Vec<control::Tally> {
        let mut changed = Vec::new();
        self.0.lock().retain_mut(|one| {
            // Before the numbers are read: nothing is added to what is over.
            let is_over = one.is_over();
            let sum = one.sum();
            if one.reported.as_ref() != Some(&sum) {
                changed.push(sum.clone());
                one.reported = Some(sum);
            }
            !is_over
        });
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(snapshot: bool, marks: &[(&str, u64)]) -> TargetUpdate {
        let marks = marks.iter().map(|(application, mark)| control::Mark {
            application: (*application).to_owned(),
            mark: *mark,
        });
        TargetUpdate {
            snapshot,
            marks: marks.collect(),
            ..TargetUpdate::default()
        }
    }

    /// Application, mark, began, answered, failed, left.
    type Row = (String, u64, u64, u64, u64, u64);

    fn rows(tallies: &Tallies) -> Vec<Row> {
        let rows = tallies.report().into_iter().map(|one| {
            let control::Tally {
                application,
                mark,
                began,
                answered,
                failed,
                left,
            } = one;
            (application, mark, began, answered, failed, left)
        });
        rows.collect()
    }

    #[test]
    fn threads_are_added_up_and_a_request_counts_where_it_began() {
        let tallies = Tallies::default();
        let mut threads = [Marks::default(), Marks::default()];
        for marks in &mut threads {
            marks.apply(&update(false, &[("a", 1)]), &tallies);
            assert!(marks.of("b").is_none());
        }
        let running: Vec<_> = threads.iter().filter_map(|marks| marks.of("a")).collect();
        for one in &running {
            one.begin();
        }
        running[0].end(Outcome::Answered);
        assert_eq!(rows(&tallies), [("a".to_owned(), 1, 2, 1, 0, 0)]);
        for marks in &mut threads {
            marks.apply(&update(false, &[("a", 2)]), &tallies);
        }
        running[1].end(Outcome::Failed);
        threads[0].of("a").unwrap().begin();
        assert_eq!(
            rows(&tallies),
            [
                ("a".to_owned(), 1, 2, 1, 1, 0),
                ("a".to_owned(), 2, 1, 0, 0, 0)
            ]
        );
        assert!(rows(&tallies).is_empty(), "nothing has changed");
    }

    #[test]
    fn a_mark_is_forgotten_when_its_last_request_has_ended_and_was_reported() {
        let (tallies, mut marks) = (Tallies::default(), Marks::default());
        marks.apply(&update(false, &[("a", 1)]), &tallies);
        let running = marks.of("a").unwrap();
        running.begin();
        marks.apply(&update(false, &[("a", 0)]), &tallies);
        assert!(marks.of("a").is_none());
        assert_eq!(rows(&tallies).len(), 1);
        assert!(!tallies.is_empty(), "a request still runs");
        running.end(Outcome::Left);
        drop(running);
        assert_eq!(rows(&tallies), [("a".to_owned(), 1, 1, 0, 0, 1)]);
        assert!(tallies.is_empty());
    }

    #[test]
    fn a_snapshot_goes_on_with_the_marks_that_it_has_and_ends_the_others() {
        let (tallies, mut marks) = (Tallies::default(), Marks::default());
        marks.apply(&update(true, &[("a", 1), ("b", 1)]), &tallies);
        marks.of("a").unwrap().begin();
        marks.apply(&update(true, &[("a", 1)]), &tallies);
        assert!(marks.of("b").is_none());
        marks.of("a").unwrap().begin();
        assert_eq!(rows(&tallies)[0], ("a".to_owned(), 1, 2, 0, 0, 0));
    }

    #[test]
    fn deploys_without_end_do_not_fill_the_memory() {
        let (tallies, mut marks) = (Tallies::default(), Marks::default());
        let mut running = Vec::new();
        for mark in 1..=2000 {
            marks.apply(&update(false, &[("a", mark)]), &tallies);
            running.extend(marks.of("a"));
        }
        assert_eq!(tallies.0.lock().len(), MOST_KEPT);
    }
}
