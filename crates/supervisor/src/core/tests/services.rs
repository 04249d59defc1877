//! The node's own processes: told what they must know, started again, given up only before the node is up.

use super::*;

#[test]
fn a_node_is_up_when_both_have_spoken() {
    let mut world = World::new();
    let started: Vec<Role> = world
        .take_commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::Service(role, ServiceCommand::Start) => Some(role),
            _ => None,
        })
        .collect();
    assert_eq!(started, [Role::Reaper, Role::Controller, Role::Proxy]);
    world.command(node_command::Body::List(Empty {}));
    world.publish(true, "s");
    world.publish(false, "d");
    let told = world.told(Role::Proxy);
    assert_eq!(
        told,
        [update("s"), accept(), update("d")],
        "to accept, once"
    );
    world.proxy_says(proxy_event::Body::Ready(Empty {}));
    assert!(world.take_commands().contains(&Command::Announce(Ok(()))));
    world.pass(Duration::from_millis(2_500));
    let commands = world.take_commands();
    let looks = commands.iter().filter(|command| **command == Command::Look);
    assert_eq!(looks.count(), 3, "at once, and every second");
}

#[test]
fn a_proxy_that_crashes_in_a_loop_is_told_all_each_time_slows_down_and_is_said_until_it_is_well() {
    let mut world = World::up();
    world.publish(true, "s");
    world.publish(false, "d");
    world.take_commands();
    let mut starts = Vec::new();
    for _ in 0..9 {
        world.service_ends(Role::Proxy);
        let died = world.now;
        while !world.core.proxy.is_running() {
            world.now = world.core.proxy.next_timeout().unwrap();
            world.event(Event::Timeout);
        }
        starts.push(world.now.saturating_sub(died).as_millis());
        let told = world.told(Role::Proxy);
        assert_eq!(
            told,
            [ServiceCommand::Start, update("s"), update("d"), accept()]
        );
    }
    assert_eq!(starts, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000]);
    let trouble = world.core.troubles.shown();
    assert_eq!(trouble.proxy, "UNHEALTHY");
    let why = &trouble.troubles["proxy"];
    assert_eq!(why.code, "proxy_crash_loop");
    for part in ["crash loop: 9 deaths", "signal 9", "5.0 s"] {
        assert!(why.sentence.contains(part), "{why:?}");
    }
    assert!(why.help.contains("/logs/proxy.log"), "{why:?}");
    assert!(why.since < world.now, "it began before its last death");
    // Well again when it says so, or has lived for a while.
    world.pass(10 * SECOND);
    assert!(world.core.troubles.shown().troubles.is_empty());
    world.proxy_says(proxy_event::Body::Ready(Empty {}));
    assert_eq!(world.core.troubles.shown().proxy, "HEALTHY");
    assert_eq!(world.core.outcome(), None, "it is never given up");
}

#[test]
fn one_that_ended_is_said_until_it_is_there_again() {
    let mut world = World::up();
    for (role, code) in [
        (Role::Proxy, "proxy_restarting"),
        (Role::Controller, "controller_restarting"),
    ] {
        world.service_ends(role);
        let shown = world.core.troubles.shown();
        let why = &shown.troubles[role.name()];
        assert_eq!((why.code.as_str(), why.since), (code, world.now));
        assert!(why.sentence.contains("signal 9"), "{why:?}");
        assert_ne!(shown.proxy, "UNHEALTHY", "it may be back in a moment");
    }
    world.pass(Duration::ZERO);
    world.proxy_says(proxy_event::Body::Ready(Empty {}));
    let left = world.core.troubles.shown().troubles;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["controller"]);
    // One that does not say that it is there is well once it has lived for a while.
    world.pass(10 * SECOND);
    assert!(
        !world
            .core
            .troubles
            .shown()
            .troubles
            .contains_key("controller")
    );
}

#[test]
fn a_process_that_cannot_be_started_is_tried_again() {
    let mut world = World::up();
    world.starts_fail = true;
    world.service_ends(Role::Proxy);
    world.pass(30 * SECOND);
    assert!(!world.core.proxy.is_running());
    let troubles = world.core.troubles.shown().troubles;
    let sentence = &troubles["proxy"].sentence;
    assert!(sentence.contains("no process ids left"), "{sentence}");
    world.starts_fail = false;
    world.pass(5 * SECOND);
    assert!(world.core.proxy.is_running());
}

#[test]
fn who_does_not_read_is_ended_once_and_its_successor_told_everything() {
    let mut world = World::up();
    world.publish(true, "s");
    for (role, body) in [(Role::Proxy, "proxy"), (Role::Controller, "controller")] {
        world.take_commands();
        for _ in 0..3 {
            world.event(Event::Service(role, ServiceNews::DoesNotRead));
        }
        assert_eq!(world.told(role), [signal(Signal::KILL)], "{body}");
        world.service_ends(role);
        world.pass(Duration::ZERO);
        assert!(world.told(role).contains(&ServiceCommand::Start));
    }
}

#[test]
fn a_proxy_that_does_not_turn_is_said_and_not_ended() {
    let mut world = World::up();
    world.pass(5 * SECOND);
    let troubles = world.core.troubles.shown();
    let pid = world.core.proxy.pid().unwrap();
    assert_eq!(troubles.proxy, "UNHEALTHY");
    let why = &troubles.troubles["proxy"];
    assert_eq!(why.code, "proxy_silent");
    assert!(why.help.contains(&format!("kill -CONT {pid}")));
    assert!(!world.told(Role::Proxy).contains(&signal(Signal::KILL)));
    world.proxy_says(proxy_event::Body::Turns(Empty {}));
    let troubles = world.core.troubles.shown();
    assert_eq!((troubles.proxy, troubles.troubles.len()), ("HEALTHY", 0));

    // What its predecessor has not answered is not held against the next one.
    world.pass(SECOND);
    world.service_ends(Role::Proxy);
    world.pass(Duration::from_millis(2_900));
    world.take_commands();
    world.proxy_says(proxy_event::Body::Ready(Empty {}));
    world.pass(SECOND);
    let ask = ServiceCommand::Ask(proxy(proxy_command::Body::LookWhetherItTurns(Empty {})));
    assert_eq!(world.told(Role::Proxy), [ask]);
    assert_eq!(world.core.troubles.shown().proxy, "HEALTHY");
}

#[test]
fn who_asks_what_the_proxy_has_counted_gets_an_answer_or_learns_that_there_is_none() {
    let mut world = World::up();
    world.take_commands();
    world.event(Event::CountersWanted);
    let count = ServiceCommand::Ask(proxy(proxy_command::Body::Count(Empty {})));
    assert_eq!(world.told(Role::Proxy), [count]);
    world.proxy_says(proxy_event::Body::Counted(control::ProxyCounters::default()));
    assert!(matches!(
        &world.take_commands()[..],
        [Command::Counted(Some(_))]
    ));
    world.service_ends(Role::Proxy);
    assert!(world.take_commands().contains(&Command::Counted(None)));
}

#[test]
fn what_the_proxy_says_is_passed_on_while_there_is_a_controller() {
    let mut world = World::up();
    let applied = AppliedUpdate {
        epoch: 1,
        number: 2,
    };
    world.proxy_says(proxy_event::Body::Applied(applied));
    assert_eq!(world.reports(), [Body::Published(applied)]);
    world.starts_fail = true;
    world.service_ends(Role::Controller);
    world.pass(SECOND);
    world.take_commands();
    world.proxy_says(proxy_event::Body::Applied(applied));
    assert_eq!(world.reports(), []);
}

#[test]
fn a_process_that_keeps_dying_before_the_node_is_up_is_given_up_with_the_end_of_its_log() {
    let mut world = World::new();
    for _ in 0..DEATHS_WHILE_STARTING {
        world.pass(SECOND);
        world.service_ends(Role::Controller);
    }
    world.service_ends(Role::Proxy);
    world.service_ends(Role::Reaper);
    let outcome = world.core.outcome().unwrap();
    assert_eq!((outcome.as_asked, outcome.in_order), (false, true));
    let Some(Command::Announce(Err(failure))) = world.take_commands().pop() else {
        panic!("not said last")
    };
    assert_eq!(
        failure.message,
        "the controller does not start (signal 9 (SIGKILL)); the end of its log:\nthe reason"
    );
}

#[test]
fn a_process_that_says_nothing_is_named_when_the_time_is_over() {
    let mut world = World::new();
    world.proxy_says(proxy_event::Body::Ready(Empty {}));
    world.pass(START_WITHIN);
    let failure = world.core.failure.as_ref().unwrap();
    assert!(
        failure
            .message
            .starts_with("the controller did not come up within 20s"),
        "{failure}"
    );
}
