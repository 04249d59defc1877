//! A deploy's record says what became of the requests that began while it was under way.

use std::time::Duration;

use eagleray_types::control::{Receipt, Tallies, Tally, node_event};

use super::world::{Behaviour, World, from_node, simple};

impl World {
    /// A proxy says that so many have begun under a mark, and how many of them were answered and have failed.
    fn tallied(&mut self, pid: u32, mark: u64, counts: (u64, u64, u64)) {
        let (began, answered, failed) = counts;
        let tally = Tally {
            application: "a".to_owned(),
            mark,
            began,
            answered,
            failed,
            left: 0,
        };
        let said = Tallies {
            pid,
            tallies: vec![tally],
            gone: false,
        };
        self.feed(from_node(node_event::Body::Tallied(said)));
    }

    /// Answered, failed and still running of a deploy.
    fn counted(&mut self, number: u64) -> (u64, u64, u64) {
        let records = self.history("a");
        let record = records.into_iter().find(|one| one.number == number);
        let Receipt {
            answered,
            failed,
            running,
            ..
        } = record.unwrap().receipt.unwrap();
        (answered, failed, running)
    }

    fn state(&self) -> String {
        self.status("a").deploy.unwrap().state
    }
}

/// A deploy, the second, whose replica does not come up.
fn in_the_middle_of_a_deploy() -> World {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(world.marks.get("a"), None, "nothing is counted");
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    world.deploy(simple("v2", 1));
    world.run();
    world
}

#[test]
fn requests_count_for_a_deploy_from_its_beginning_to_its_end() {
    let mut world = in_the_middle_of_a_deploy();
    assert_eq!(world.marks["a"], 2);
    world.tallied(10, 2, (5, 3, 1));
    assert_eq!(world.counted(2), (3, 1, 1));
    assert_eq!(world.state(), "rolling");
    world.behaviours.clear();
    world.run();
    assert_eq!(
        (world.state().as_str(), world.marks.get("a")),
        ("done", None)
    );
    assert_eq!(world.counted(2), (3, 1, 1));
    world.tallied(10, 2, (5, 4, 1));
    assert_eq!(world.counted(2), (4, 1, 0), "the last has ended by now");
    assert_eq!(world.counted(1), (0, 0, 0));
}

#[test]
fn a_deploy_is_done_when_it_is_known_what_began_until_then() {
    let mut world = in_the_middle_of_a_deploy();
    world.behaviours.clear();
    // Up to the update that takes the mark away, of which the proxy has not said that it is applied.
    while world.marks.contains_key("a") {
        assert!(world.step(0));
    }
    assert_eq!(world.state(), "rolling");
    let ended = world.wall_time_s();
    world.now += Duration::from_secs(1);
    world.tallied(10, 2, (7, 7, 0));
    world.run();
    assert_eq!(world.state(), "done");
    let receipt = world.history("a")[0].receipt.clone().unwrap();
    assert_eq!(receipt.answered, 7);
    assert!(
        (receipt.ended_at_s - ended).abs() < 1e-6,
        "that was its end"
    );
}

#[test]
fn a_deploy_that_fails_or_is_overtaken_counts_too() {
    let mut world = in_the_middle_of_a_deploy();
    world.tallied(10, 2, (2, 2, 0));
    world.behaviours.insert("v3".into(), Behaviour::StartFails);
    world.deploy(simple("v3", 1));
    while world.marks["a"] != 3 {
        assert!(world.step(0));
    }
    world.tallied(10, 2, (3, 3, 0));
    world.tallied(10, 3, (4, 1, 3));
    world.run_for(Duration::from_secs(60));
    assert_eq!(
        (world.state().as_str(), world.marks.get("a")),
        ("rolled_back", None)
    );
    assert_eq!((world.counted(2), world.counted(3)), ((3, 0, 0), (1, 3, 0)));
}

#[test]
fn another_controller_counts_on_and_keeps_what_was_written() {
    let mut world = in_the_middle_of_a_deploy();
    world.behaviours.clear();
    world.tallied(10, 2, (4, 4, 0));
    world.run();
    assert_eq!(world.counted(2), (4, 0, 0));
    world.restart_controller(2);
    world.start();
    world.run();
    assert_eq!(world.counted(2), (4, 0, 0));

    world.behaviours.insert("v3".into(), Behaviour::StartHangs);
    world.deploy(simple("v3", 1));
    world.run();
    world.restart_controller(3);
    world.start();
    world.run();
    assert_eq!(world.marks["a"], 3, "under the same number");
}

#[test]
fn what_a_proxy_had_not_answered_when_it_died_has_failed() {
    let mut world = in_the_middle_of_a_deploy();
    world.tallied(10, 2, (5, 3, 0));
    let gone = Tallies {
        pid: 10,
        tallies: Vec::new(),
        gone: true,
    };
    world.feed(from_node(node_event::Body::Tallied(gone)));
    world.tallied(11, 2, (1, 1, 0));
    assert_eq!(world.counted(2), (4, 2, 0));
}
