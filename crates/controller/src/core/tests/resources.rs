//! Replicas that reserve what the node has: who gets it, who waits, and what becomes free by whose death.

use std::{collections::BTreeMap, time::Duration};

use eagleray_types::control::{ApplicationSpec, DeploymentSpec, Device, NodeResources, UNIT};

use super::world::{Behaviour, World, application, deployment};

fn gpus(count: u32) -> NodeResources {
    let device = |number: u32| Device {
        id: format!("GPU-{number}"),
        model: String::new(),
    };
    NodeResources {
        amounts: [("memory".to_owned(), (1 << 30) * UNIT)].into(),
        devices: (0..count).map(device).collect(),
    }
}

/// A world whose node has so many GPUs.
fn world(count: u32) -> World {
    let mut world = World::new(1);
    world.resources = Some(gpus(count));
    world.restart_controller(2);
    world.start();
    world.run();
    world
}

fn wants(name: &str, version: &str, replicas: u32, gpus: f64) -> DeploymentSpec {
    let mut spec = deployment(name, version, replicas);
    if gpus > 0.0 {
        spec.options.resources = [("num_gpus".to_owned(), gpus)].into();
    }
    spec
}

fn one(version: &str, replicas: u32, gpus: f64) -> ApplicationSpec {
    application("a", vec![wants("d", version, replicas, gpus)])
}

impl World {
    /// What each process of a version sees of the GPUs.
    fn devices(&self, version: &str) -> Vec<Option<String>> {
        let all = self.processes.values();
        let own = all.filter(|process| process.version == version);
        let mut seen: Vec<_> = own
            .map(|process| {
                let environment: &BTreeMap<_, _> = &process.spawn.environment;
                environment.get("CUDA_VISIBLE_DEVICES").cloned()
            })
            .collect();
        seen.sort();
        seen
    }

    fn message(&self, application: &str) -> String {
        let status = self.status(application);
        status.deployments[0].message.clone()
    }

    /// No device is in two hands, whatever lives.
    fn assert_no_device_twice(&self) {
        let mut held: Vec<&str> = self
            .processes
            .values()
            .filter_map(|process| process.spawn.environment.get("CUDA_VISIBLE_DEVICES"))
            .flat_map(|devices| devices.split(',').filter(|device| !device.is_empty()))
            .collect();
        held.sort_unstable();
        let before = held.len();
        held.dedup();
        assert_eq!(held.len(), before, "a device is held twice");
    }
}

fn some(devices: &[&str]) -> Vec<Option<String>> {
    devices.iter().map(|one| Some((*one).to_owned())).collect()
}

#[test]
fn two_replicas_have_two_devices_and_the_third_waits_until_one_is_dead() {
    let mut world = world(2);
    world.deploy(one("v1", 3, 1.0));
    world.run();
    assert_eq!(world.devices("v1"), some(&["GPU-0", "GPU-1"]));
    let message = world.message("a");
    for part in [
        "1 replica waits for num_gpus 1",
        "the node has 2, and 0",
        "a/d ",
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    let id = world.running("v1")[0].clone();
    world.kill(&id);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.devices("v1"), some(&["GPU-0", "GPU-1"]));
    world.assert_no_device_twice();
    // Less is wanted: what waited is forgotten, and all is well.
    world.deploy(one("v1", 2, 1.0));
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(world.message("a"), "");
    world.assert_at_rest();
}

#[test]
fn who_asks_for_none_sees_none_and_what_a_user_sets_stands() {
    let mut world = world(1);
    let mut own = wants("e", "v2", 1, 0.0);
    let choice = ("CUDA_VISIBLE_DEVICES".to_owned(), "0".to_owned());
    own.options.environment = [choice].into();
    world.deploy(application("a", vec![wants("d", "v1", 1, 0.0), own]));
    world.run();
    assert_eq!(world.devices("v1"), some(&[""]));
    assert_eq!(world.devices("v2"), some(&["0"]));
    let mut without = self::world(0);
    without.deploy(one("v1", 1, 0.0));
    without.run();
    assert_eq!(without.devices("v1"), [None]);
}

#[test]
fn halves_share_a_device() {
    let mut world = world(1);
    world.deploy(one("v1", 2, 0.5));
    world.run();
    assert_eq!(world.devices("v1"), some(&["GPU-0", "GPU-0"]));
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn of_two_that_want_all_the_second_starts_when_the_first_is_gone() {
    let mut world = world(2);
    world.deploy(application("a", vec![wants("d", "v1", 1, 2.0)]));
    world.run();
    world.deploy(application("b", vec![wants("d", "v2", 1, 2.0)]));
    world.run();
    assert!(world.devices("v2").is_empty());
    assert!(
        world.message("b").contains("a/d "),
        "{}",
        world.message("b")
    );
    world.delete("a");
    world.run();
    assert_eq!(world.devices("v2"), some(&["GPU-0,GPU-1"]));
    assert_eq!(world.status("b").status, "RUNNING");
}

#[test]
fn what_never_fits_says_so_and_keeps_nobody_else_waiting() {
    let mut world = world(1);
    world.deploy(application("a", vec![wants("d", "v1", 1, 4.0)]));
    world.deploy(application("b", vec![wants("d", "v2", 1, 1.0)]));
    world.run();
    assert_eq!(world.devices("v2"), some(&["GPU-0"]));
    let status = world.status("a");
    let why = &status.deployments[0].why;
    let pending = why.iter().find(|one| one.code == "pending_resources");
    let help = &pending.expect("it is said").help;
    assert!(
        help.contains("never fits") && help.contains("--num-gpus"),
        "{help}"
    );
}

#[test]
fn a_new_controller_knows_who_holds_what() {
    let mut world = world(2);
    world.deploy(one("v1", 2, 1.0));
    world.run();
    world.restart_controller(7);
    world.start();
    world.run();
    world.deploy(application("b", vec![wants("d", "v2", 1, 1.0)]));
    world.run();
    assert!(world.devices("v2").is_empty(), "both are held");
    world.assert_no_device_twice();
    // One whose application is deleted meanwhile holds its device until it is dead.
    world.delete("a");
    world.run();
    assert_eq!(world.devices("v2").len(), 1);
    world.assert_no_device_twice();
}

#[test]
fn an_update_that_does_not_fit_beside_the_old_one_waits_for_its_death() {
    let mut world = world(1);
    world.deploy(one("v1", 1, 1.0));
    world.run();
    world.deploy(one("v2", 1, 1.0));
    let mut most = 0;
    while world.step(0) {
        most = most.max(world.processes.len());
        world.assert_no_device_twice();
    }
    assert_eq!(most, 1, "never both");
    assert_eq!(world.devices("v2"), some(&["GPU-0"]));
    assert!(world.running("v1").is_empty());
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn an_update_that_waits_for_the_old_ones_death_says_so() {
    let mut world = world(1);
    world.deploy(one("v1", 1, 1.0));
    world.run();
    world.deploy(one("v2", 1, 1.0));
    for _ in 0..100 {
        let message = world.message("a");
        if message.contains("ends first") {
            return;
        }
        assert!(world.step(0), "it never said so: {message}");
    }
}

#[test]
fn a_fleet_on_all_devices_is_replaced_one_by_one() {
    let mut world = world(4);
    world.deploy(one("v1", 4, 1.0));
    world.run();
    world.deploy(one("v2", 4, 1.0));
    while world.step(0) {
        world.assert_no_device_twice();
        let serving = world.routed_to("d").len();
        assert!(serving >= 3, "{serving} of 4 serve");
    }
    assert_eq!(world.devices("v2").len(), 4);
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn the_old_one_returns_if_the_new_one_does_not_come_up() {
    for behaviour in [Behaviour::StartFails, Behaviour::StartCrashes] {
        let mut world = world(1);
        world.deploy(one("v1", 1, 1.0));
        world.run();
        world.behaviours.insert("v2".to_owned(), behaviour);
        world.deploy(one("v2", 1, 1.0));
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.devices("v1"), some(&["GPU-0"]), "{behaviour:?}");
        assert_eq!(world.running("v1").len(), 1);
        assert!(world.running("v2").is_empty());
        world.assert_no_device_twice();
    }
}

#[test]
fn what_becomes_free_for_an_update_is_not_given_to_who_has_waited_longer() {
    let mut world = world(1);
    world.deploy(application("b", vec![wants("d", "v1", 1, 1.0)]));
    world.run();
    world.deploy(application("a", vec![wants("d", "w1", 1, 1.0)]));
    world.run();
    assert!(world.devices("w1").is_empty());
    world.deploy(application("b", vec![wants("d", "v2", 1, 1.0)]));
    world.run();
    assert_eq!(world.devices("v2"), some(&["GPU-0"]));
    assert!(world.devices("w1").is_empty());
}

#[test]
fn a_deployment_under_a_new_name_gets_what_the_one_before_it_held() {
    let mut world = world(1);
    world.deploy(application("a", vec![wants("d", "v1", 1, 1.0)]));
    world.run();
    world.deploy(application("a", vec![wants("e", "v2", 1, 1.0)]));
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.devices("v2"), some(&["GPU-0"]));
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn a_sick_replica_makes_room_for_its_successor() {
    let mut world = world(1);
    world.deploy(one("v1", 1, 1.0));
    world.run();
    let id = world.running("v1")[0].clone();
    world.behaviours.insert("v1".to_owned(), Behaviour::Sick);
    let give_up = world.now + Duration::from_secs(600);
    while world.processes.contains_key(&id) {
        world.run_for(Duration::from_secs(1));
        assert!(world.now < give_up, "it is never replaced");
        world.assert_no_device_twice();
    }
    world.behaviours.clear();
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.devices("v1"), some(&["GPU-0"]));
}

#[test]
fn in_any_order_of_arrival_nothing_is_given_out_twice() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = world(3);
        for _ in 0..40 {
            match random.usize(..8) {
                0..=3 => {
                    let name = ["a", "b"][random.usize(..2)];
                    let version = format!("{name}{}", random.usize(..3));
                    let spec = wants("d", &version, random.u32(1..5), 1.0);
                    world.deploy(application(name, vec![spec]));
                }
                4 => {
                    world.delete(["a", "b"][random.usize(..2)]);
                }
                5 => {
                    let ids: Vec<String> = world.processes.keys().cloned().collect();
                    if !ids.is_empty() {
                        world.kill(&ids[random.usize(..ids.len())]);
                    }
                }
                6 => {
                    world.restart_controller(random.u64(..));
                    world.start();
                }
                _ => world.run_for(Duration::from_millis(random.u64(..20_000))),
            }
            for _ in 0..random.usize(..10) {
                world.step(random.usize(..));
                world.assert_no_device_twice();
            }
        }
        for name in ["a", "b"] {
            world.delete(name);
        }
        world.run_for(Duration::from_secs(120));
        world.deploy(application("c", vec![wants("d", "c", 3, 1.0)]));
        world.run_for(Duration::from_secs(120));
        assert_eq!(
            world.devices("c"),
            some(&["GPU-0", "GPU-1", "GPU-2"]),
            "seed {seed}"
        );
    }
}

#[test]
fn a_replica_with_far_more_memory_than_it_states_is_named_and_lives() {
    const MIB: u64 = 1 << 20;
    for (stated, is_named) in [(0, false), (100, true), (140, false)] {
        let mut world = world(0);
        world.begin_with_bytes = 200 * MIB;
        let mut spec = one("v1", 1, 0.0);
        if stated > 0 {
            let memory = ("memory".to_owned(), (stated * MIB) as f64);
            spec.deployments[0].options.resources = [memory].into();
        }
        world.deploy(super::world::with_revision(spec));
        world.run();
        let status = world.status("a");
        assert_eq!(status.status, "RUNNING", "{stated}: {status:?}");
        let deployment = &status.deployments[0];
        assert_eq!(deployment.replicas[0].memory_bytes, 200 * MIB);
        let named = deployment.why.iter().any(|one| one.code == "memory_over");
        assert_eq!(named, is_named, "{stated}");
    }
}
