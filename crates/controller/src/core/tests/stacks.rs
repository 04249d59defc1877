//! Whoever asks for a replica's stacks gets them, or hears why not.

use std::time::Duration;

use eagleray_types::control::{StacksAre, api_response, replica_event};

use super::world::{World, simple};
use crate::core::{CallId, Event};

impl World {
    /// Asks, and has the replica not answer yet. Returns the call, the question's id and the replica's.
    fn ask_for_stacks(&mut self) -> (CallId, u64, String) {
        let replica_id = self.running("v1")[0].clone();
        let call = self.ask_for_stacks_quietly();
        let (of, id) = self.stack_questions.pop().unwrap();
        assert_eq!(of, replica_id);
        (call, id, replica_id)
    }

    fn ask_for_stacks_quietly(&mut self) -> CallId {
        let replica_id = self.running("v1")[0].clone();
        let call = self.call();
        self.feed(Event::Stacks { call, replica_id });
        call
    }

    fn refusal(&self, call: CallId) -> (String, String) {
        match self.reply(call) {
            Some(api_response::Body::Error(error)) => (error.kind.clone(), error.message.clone()),
            other => panic!("{other:?}"),
        }
    }
}

fn world() -> World {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world
}

#[test]
fn the_answer_goes_to_who_asked_for_it() {
    let mut world = world();
    let (first, first_id, replica) = world.ask_for_stacks();
    let (second, second_id, _) = world.ask_for_stacks();
    for (id, stacks) in [
        (second_id, "second"),
        (first_id, "first"),
        (first_id, "again"),
    ] {
        let stacks = stacks.to_owned();
        world.say(
            &replica,
            replica_event::Body::Stacks(StacksAre { id, stacks }),
        );
    }
    world.run();
    for (call, expected) in [(first, "first"), (second, "second")] {
        match world.reply(call) {
            Some(api_response::Body::Stacks(said)) => assert_eq!(said.stacks, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_replica_that_is_silent_or_gone_or_has_none_is_said_to_be() {
    let mut world = world();
    let (call, ..) = world.ask_for_stacks();
    world.run_for(Duration::from_secs(4));
    assert!(world.reply(call).is_none());
    world.run_for(Duration::from_secs(2));
    let (kind, message) = world.refusal(call);
    assert!(
        kind == "unavailable" && message.contains("SIGSTOP"),
        "{message}"
    );

    let (call, id, replica) = world.ask_for_stacks();
    let stacks = String::new();
    world.say(
        &replica,
        replica_event::Body::Stacks(StacksAre { id, stacks }),
    );
    world.run();
    assert!(world.refusal(call).1.contains("SIGSTKFLT"));

    let (call, _, replica) = world.ask_for_stacks();
    world.kill(&replica);
    world.run();
    assert!(world.refusal(call).1.contains("ended before"));

    let call = world.call();
    let replica_id = replica.clone();
    world.feed(Event::Stacks { call, replica_id });
    assert_eq!(world.refusal(call).0, "not_found");
}

#[test]
fn questions_without_end_are_refused() {
    let mut world = world();
    let calls: Vec<CallId> = (0..65).map(|_| world.ask_for_stacks_quietly()).collect();
    assert!(calls[..64].iter().all(|call| world.reply(*call).is_none()));
    assert_eq!(world.refusal(calls[64]).0, "internal");
}
