//! What the threads have to say of their loads, on its way to the control side.
//!
//! Each thread has a place for it. What the control side has not fetched yet is joined by what comes after, so a control
//! side that is held up costs no more memory than there are deployments, and no thread ever waits for it.

use eagleray_types::control;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the module. One per process, in an `Arc`.
#[derive(Debug)]
pub(crate) struct Loads {
    places: Vec<Mutex<Option<control::Loads>>>,
    news: Notify,
}

impl Loads {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            places: (0..threads).map(|_| Mutex::default()).collect(),
            news: Notify::new(),
        }
    }

    /// A thread says something.
    pub(crate) fn say(&self, thread: usize, said: control::Loads) {
        let Some(place) = self.places.get(thread) else {
            return;
        };
        let mut place = place.lock();
        match &mut *place {
            Some(before) => before.join(said),
            none => *none = Some(said),
        }
        self.news.notify_one();
    }

    /// Waits until somebody has said something. For one task; cancel safe.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// What was said and not fetched.
    pub(crate) fn fetch(&self) -> Vec<control::Loads> {
        let places = self.places.iter();
        places.filter_map(|place| place.lock().take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(whole: bool, loads: &[(&str, u32)]) -> control::Loads {
        let load = |(deployment, running): &(&str, u32)| control::Load {
            deployment: (*deployment).to_owned(),
            running: *running,
            ..control::Load::default()
        };
        control::Loads {
            whole,
            loads: loads.iter().map(load).collect(),
            ..control::Loads::default()
        }
    }

    #[test]
    fn what_was_not_fetched_is_joined_by_what_comes_after() {
        let loads = Loads::new(2);
        loads.say(0, said(true, &[("a", 1), ("b", 2)]));
        loads.say(0, said(false, &[("b", 0), ("c", 3)]));
        loads.say(1, said(false, &[("a", 7)]));
        let expected = [
            said(true, &[("a", 1), ("b", 0), ("c", 3)]),
            said(false, &[("a", 7)]),
        ];
        assert_eq!(loads.fetch(), expected);
        assert!(loads.fetch().is_empty());
        let mut refused = said(false, &[("a", 1)]);
        refused.loads[0].refused = 2;
        loads.say(0, refused.clone());
        loads.say(0, refused);
        assert_eq!(loads.fetch()[0].loads[0].refused, 4, "each is said once");
        loads.say(0, said(false, &[("a", 1)]));
        loads.say(0, said(true, &[("b", 2)]));
        assert_eq!(loads.fetch(), [said(true, &[("b", 2)])], "all is said anew");
    }
}
