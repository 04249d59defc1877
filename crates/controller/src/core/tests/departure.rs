//! Callers drain before what they call is stopped.

use eagleray_types::control::{ApplicationSpec, Empty, api_response, replica_event};

use super::world::{World, application, deployment, with_revision};

/// `a` has an ingress `d` that calls `e`, which calls `f`. Nobody names `g`.
fn chain(version: &str) -> ApplicationSpec {
    let names = [("d", "e"), ("e", "f"), ("f", ""), ("g", "")];
    let deployments = names.map(|(name, calls)| {
        let mut deployment = deployment(name, version, 2);
        deployment.calls = Some(calls.to_owned())
            .filter(|calls| !calls.is_empty())
            .into_iter()
            .collect();
        deployment
    });
    application("a", deployments.into())
}

fn running(spec: ApplicationSpec) -> World {
    let mut world = World::new(1);
    world.deploy(spec);
    world.run();
    world
}

impl World {
    fn of(&self, name: &str) -> Vec<String> {
        let own = |id: &&String| self.processes[*id].spawn.deployment.deployment == name;
        self.processes.keys().filter(own).cloned().collect()
    }

    /// Deployments of which a replica was told to stop.
    fn told(&self) -> Vec<&str> {
        let told = self.processes.values().filter(|one| one.stopping.is_some());
        let mut names: Vec<&str> = told
            .map(|one| one.spawn.deployment.deployment.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Everything arrives that is on its way, and nothing ends.
    fn arrive(&mut self) {
        while !self.pending.is_empty() {
            self.step(0);
        }
    }

    fn drained(&mut self, name: &str) {
        for id in self.of(name) {
            self.say(&id, replica_event::Body::Drained(Empty {}));
        }
        self.arrive();
    }
}

// contract: 1.5/delete-callers better: callers drain before what they call is stopped, so the request is answered
#[test]
fn a_delete_stops_each_deployment_when_its_callers_have_drained() {
    let mut world = running(chain("v1"));
    let call = world.delete("a");
    world.arrive();
    assert_eq!(world.told(), ["d"]);
    assert!(world.routes.routes.is_empty(), "nothing new comes in");
    for name in ["e", "f", "g"] {
        assert_eq!(world.routed_to(name).len(), 2, "{name} can be called");
    }
    assert_eq!(world.routed_to("d").len(), 0);
    let first = world.of("d")[0].clone();
    world.say(&first, replica_event::Body::Drained(Empty {}));
    world.arrive();
    assert_eq!(world.told(), ["d"], "the other one has not");
    world.drained("d");
    assert_eq!(world.told(), ["d", "e", "g"]);
    // A caller that does not drain is killed at the end of its grace, and that is as good.
    for id in world.of("e") {
        assert_eq!(world.routed_to("f").len(), 2);
        world.die(&id);
        world.arrive();
    }
    assert_eq!(world.told(), ["d", "f", "g"]);
    assert!(world.reply(call).is_none());
    world.run();
    assert!(matches!(
        world.reply(call),
        Some(api_response::Body::Done(_))
    ));
    assert!(world.processes.is_empty() && world.routed.is_empty());
    assert!(world.core.books.applications.is_empty() && world.core.books.register.len() == 0);
}

#[test]
fn while_it_waits_for_its_callers_nothing_of_a_deployment_starts() {
    let mut world = running(chain("v1"));
    let lost = world.of("f")[0].clone();
    world.delete("a");
    world.arrive();
    world.take_words();
    world.die(&lost);
    world.arrive();
    assert_eq!(world.take_words(), Vec::<String>::new());
    world.run();
    assert!(world.processes.is_empty());
}

#[test]
fn a_deployment_that_a_new_revision_drops_waits_for_the_old_callers() {
    let mut world = running(chain("v1"));
    let mut next = chain("v1");
    next.deployments.truncate(1);
    next.deployments[0].version = "v2".into();
    next.deployments[0].calls.clear();
    world.deploy(with_revision(next));
    // The new ingress comes up, and each old one is told to stop, but goes on with what it has.
    for _ in 0..20 {
        world.arrive();
        let starting = world.processes.values().any(|one| !one.ready);
        if starting {
            world.step(0);
        }
    }
    assert_eq!(world.told(), ["d"]);
    assert_eq!(world.status("a").status, "RUNNING");
    for name in ["e", "f", "g"] {
        assert_eq!(world.routed_to(name).len(), 2, "{name}");
    }
    world.drained("d");
    assert_eq!(world.told(), ["d", "e", "g"]);
    world.drained("e");
    assert_eq!(world.told(), ["d", "e", "f", "g"]);
    world.run();
    assert_eq!(world.processes.len(), 2);
    world.assert_at_rest();
}

#[test]
fn deployments_that_call_each_other_go_together() {
    let mut spec = chain("v1");
    spec.deployments[2].calls = vec!["e".into()];
    let mut world = running(with_revision(spec));
    world.delete("a");
    world.arrive();
    world.drained("d");
    assert_eq!(world.told(), ["d", "g"], "g is still at it, so they wait");
    world.drained("g");
    assert_eq!(world.told(), ["d", "e", "f", "g"]);
    world.run();
    assert!(world.processes.is_empty());
}

#[test]
fn a_deploy_ends_a_delete_says_so_and_keeps_what_was_not_told_to_stop() {
    let mut world = running(chain("v1"));
    let kept: Vec<String> = ["e", "f", "g"]
        .iter()
        .flat_map(|name| world.of(name))
        .collect();
    let delete = world.delete("a");
    world.arrive();
    let deploy = world.deploy(chain("v1"));
    world.arrive();
    assert!(matches!(
        world.reply(delete),
        Some(api_response::Body::Done(_))
    ));
    assert!(world.notes(deploy)[0].contains("was being deleted"));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(world.processes.len(), 8);
    assert!(kept.iter().all(|id| world.processes.contains_key(id)));
    world.assert_at_rest();
}

#[test]
fn changes_of_one_application_take_effect_in_the_order_in_which_they_came() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = running(chain("v1"));
        let mut last = true;
        for _ in 0..8 {
            last = random.bool();
            if last {
                world.deploy(chain(["v1", "v2"][random.usize(..2)]));
            } else {
                world.delete("a");
            }
            for _ in 0..random.usize(..6) {
                world.step(random.usize(..));
            }
        }
        world.run();
        assert_eq!(
            world.processes.len(),
            if last { 8 } else { 0 },
            "seed {seed}"
        );
        assert_eq!(world.core.books.applications.len(), usize::from(last));
        world.assert_at_rest();
    }
}
