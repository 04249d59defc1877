//! Plans: what an apply would do, and that it does that or nothing.

use eagleray_types::control::{Apply, Planned, api_response};

use super::{
    builds::{apply, config, done, failed},
    world::{World, application, deployment, simple},
};
use crate::core::{CallId, Event, Request};

impl World {
    fn plan(&mut self, apply: Apply) -> CallId {
        self.ask(Request::Plan(Box::new(apply)))
    }

    fn planned(&self, call: CallId) -> &Planned {
        match self.reply(call) {
            Some(api_response::Body::Planned(planned)) => planned,
            other => panic!("not planned: {other:?}"),
        }
    }

    /// The one build that runs says its result, and its process ends.
    fn build_ends(&mut self, make: impl FnOnce(u64) -> eagleray_types::control::Built) {
        let builds = self.building();
        let [build] = builds.as_slice() else {
            panic!("not one build: {builds:?}")
        };
        let id = self.builds.keys().next().unwrap().clone();
        self.built(make(*build));
        self.end_build(&id, "exit status 0", "");
        self.run();
    }

    /// Application `a` runs, as declared.
    fn declared() -> Self {
        let mut world = Self::new(1);
        world.apply(apply(vec![config("a", 1)]));
        world.run();
        world.build_ends(|build| done(build, simple("v1", 1)));
        assert_eq!(world.status("a").status, "RUNNING");
        world
    }
}

#[test]
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let mut world = World::declared();
    let (root, status) = (world.stored.root.clone(), world.status("a"));
    let call = world.plan(apply(vec![config("a", 2)]));
    world.run();
    assert!(world.reply(call).is_none());
    world.build_ends(|build| done(build, simple("v2", 2)));
    let planned = world.planned(call);
    let [one] = planned.applications.as_slice() else {
        panic!("not one application")
    };
    assert_eq!(
        (one.name.as_str(), one.change.as_str(), one.from),
        ("a", "update", 1)
    );
    assert_eq!(one.deployments[0].change, "restart");
    assert_eq!(world.stored.root, root);
    let mut now = world.status("a");
    now.deploy = status.deploy.clone();
    assert_eq!(now, status);
    assert!(world.running("v2").is_empty() && world.builds.is_empty());
}

#[test]
fn a_plan_names_what_is_new_what_goes_and_what_fails() {
    let mut world = World::declared();
    let call = world.plan(apply(vec![config("b", 1)]));
    world.run();
    world.build_ends(|build| failed(build, "SyntaxError"));
    let changes = |planned: &Planned| -> Vec<(String, String)> {
        let all = planned.applications.iter();
        all.map(|one| (one.name.clone(), one.change.clone()))
            .collect()
    };
    let pair = |name: &str, change: &str| (name.to_owned(), change.to_owned());
    let planned = world.planned(call);
    assert_eq!(changes(planned), [pair("b", "failed"), pair("a", "delete")]);
    assert_eq!(
        planned.applications[0].failure.as_ref().unwrap().message,
        "SyntaxError"
    );
    let call = world.plan(apply(vec![config("a", 1)]));
    world.run();
    world.build_ends(|build| done(build, simple("v1", 1)));
    assert_eq!(changes(world.planned(call)), [pair("a", "unchanged")]);
}

/// The name of the plan for two replicas of `v2`.
fn plan_of_v2(world: &mut World) -> String {
    let call = world.plan(apply(vec![config("a", 2)]));
    world.run();
    world.build_ends(|build| done(build, simple("v2", 2)));
    world.planned(call).plan.clone()
}

#[test]
fn an_apply_of_a_plan_does_what_was_shown() {
    let mut world = World::declared();
    let plan = plan_of_v2(&mut world);
    assert_eq!(
        plan_of_v2(&mut world),
        plan,
        "a plan names what is the same by one name"
    );
    let call = world.apply(Apply {
        plan,
        ..apply(vec![config("a", 2)])
    });
    world.run();
    assert!(
        world.reply(call).is_none(),
        "it is built before it is taken"
    );
    world.build_ends(|build| done(build, simple("v2", 2)));
    assert_eq!(world.applied(call).deploy, 2);
    assert_eq!(world.running("v2").len(), 2);
    let deploy = world.status("a").deploy.unwrap();
    assert_eq!((deploy.deploy, deploy.state.as_str()), (2, "done"));
    world.assert_at_rest();
}

#[test]
fn a_stale_plan_is_refused_and_changes_nothing() {
    let mut world = World::declared();
    let plan = plan_of_v2(&mut world);
    let with = |plan: &str| Apply {
        plan: plan.to_owned(),
        ..apply(vec![config("a", 2)])
    };
    // The code is another one by now.
    let call = world.apply(with(&plan));
    world.run();
    world.build_ends(|build| done(build, simple("v3", 2)));
    assert_eq!(world.error(call).0, "conflict");
    assert!(
        world.error(call).1.contains("stale"),
        "{:?}",
        world.error(call)
    );
    // It does not come to be at all.
    let call = world.apply(with(&plan));
    world.run();
    world.build_ends(|build| failed(build, "SyntaxError"));
    assert_eq!(world.error(call).0, "conflict");
    // Something else was deployed meanwhile.
    world.deploy(application("a", vec![deployment("d", "v9", 1)]));
    world.run();
    let call = world.apply(with(&plan));
    world.run();
    world.build_ends(|build| done(build, simple("v2", 2)));
    assert_eq!(world.error(call).0, "conflict");
    assert_eq!(world.running("v9").len(), 1);
    assert!(world.running("v2").is_empty() && world.running("v3").is_empty());
}

#[test]
fn a_plan_ends_with_the_client_that_asks_and_so_do_its_builds() {
    let mut world = World::declared();
    let call = world.plan(apply(vec![config("a", 2)]));
    world.run();
    assert_eq!(world.builds.len(), 1);
    world.feed(Event::ClientGone {
        connection: call.connection,
    });
    world.run();
    assert!(world.builds.is_empty() && world.reply(call).is_none());
}

#[test]
fn no_more_than_eight_plans_are_made_at_a_time() {
    let mut world = World::declared();
    let calls: Vec<CallId> = (0..9)
        .map(|_| world.plan(apply(vec![config("a", 2)])))
        .collect();
    world.run();
    assert!(world.reply(calls[7]).is_none());
    assert!(world.error(calls[8]).1.contains("too many plans"));
}

#[test]
fn a_plan_gives_the_place_of_what_goes_to_what_comes() {
    let mut world = World::declared();
    let mut other = application("b", vec![deployment("d", "w1", 1)]);
    other.route_prefix = "/a".into();
    let mut wanted = config("b", 1);
    wanted.config = wanted.config.replace("\"/b\"", "\"/a\"");
    let call = world.plan(apply(vec![wanted]));
    world.run();
    world.build_ends(|build| done(build, other));
    let all = &world.planned(call).applications;
    let said: Vec<_> = all
        .iter()
        .map(|one| (one.change.as_str(), &one.failure))
        .collect();
    assert_eq!(said, [("new", &None), ("delete", &None)]);
}

#[test]
fn a_plan_says_what_of_http_options_changes_and_what_is_carried_out_is_that() {
    let mut world = World::declared();
    let stating = |options: &str| Apply {
        node_options: options.to_owned(),
        ..apply(vec![config("a", 1)])
    };
    let plan = |world: &mut World, options: &str| {
        let call = world.plan(stating(options));
        world.run();
        world.build_ends(|build| done(build, simple("v1", 1)));
        world.planned(call).clone()
    };
    let same = plan(&mut world, "{}");
    assert_eq!(same.http_options, [""; 0]);
    let longer = r#"{"http_options": {"request_timeout_s": 5}}"#;
    let planned = plan(&mut world, longer);
    assert_eq!(planned.http_options, ["request_timeout_s null -> 5"]);
    assert_eq!(planned.applications[0].change, "unchanged");
    assert_ne!(planned.plan, same.plan, "it is another plan");

    let call = world.apply(Apply {
        plan: planned.plan.clone(),
        ..stating(longer)
    });
    world.run();
    world.build_ends(|build| done(build, simple("v1", 1)));
    world.applied(call);
    let again = plan(&mut world, longer);
    assert_eq!(again.http_options, [""; 0], "it holds now");
}
