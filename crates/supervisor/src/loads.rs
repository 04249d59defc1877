//! What proxies say of their loads while the controller does not read.
//!
//! Of all that the node passes on, only loads come by themselves, many times a second. A controller that is stopped for a
//! while would have its queue full of them, and a process whose queue is full is ended. So while it is behind, the newest
//! word of each router waits here, and goes before the next other message, or when it has caught up.

use std::collections::BTreeMap;

use eagleray_types::control::Loads;

/// Messages that wait for a controller which is behind.
pub(crate) const BEHIND: usize = 64;

/// By router. Routers that are gone leave with the message that says so.
#[derive(Debug, Default)]
pub(crate) struct HeldLoads(BTreeMap<String, Loads>);

impl HeldLoads {
    pub(crate) fn hold(&mut self, said: Loads) {
        match self.0.get_mut(&said.router) {
            Some(before) => before.join(said),
            None => drop(self.0.insert(said.router.clone(), said)),
        }
    }

    pub(crate) fn take(&mut self) -> impl Iterator<Item = Loads> + use<> {
        std::mem::take(&mut self.0).into_values()
    }
}

#[cfg(test)]
mod tests {
    use eagleray_types::control::Load;

    use super::*;

    fn said(router: &str, deployment: &str, running: u32, refused: u32) -> Loads {
        Loads {
            router: router.to_owned(),
            loads: vec![Load {
                deployment: deployment.to_owned(),
                running,
                refused,
                ..Load::default()
            }],
            ..Loads::default()
        }
    }

    #[test]
    fn a_controller_that_is_stopped_costs_no_more_than_the_newest_word_of_each_router() {
        let mut held = HeldLoads::default();
        for running in 0..10_000 {
            held.hold(said("proxy 1/0", "a", running, 1));
            held.hold(said("proxy 1/1", "b", running, 0));
        }
        held.hold(said("proxy 1/0", "b", 7, 0));
        let taken: Vec<_> = held.take().collect();
        let mut first = said("proxy 1/0", "a", 9_999, 10_000);
        first.loads.extend(said("", "b", 7, 0).loads);
        assert_eq!(taken, [first, said("proxy 1/1", "b", 9_999, 0)]);
        assert_eq!(held.take().count(), 0);
        let mut whole = said("proxy 1/0", "c", 1, 0);
        whole.whole = true;
        held.hold(said("proxy 1/0", "a", 1, 0));
        held.hold(whole.clone());
        assert_eq!(held.take().collect::<Vec<_>>(), [whole]);
    }
}
