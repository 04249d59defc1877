//! Random histories: deploys, deletes, deaths, bad versions, restarts, in any order of arrival.

use std::time::Duration;

use super::world::{Behaviour, World, application, deployment};
use crate::store::checkpoint::RootRecord;

const BEHAVIOURS: [Behaviour; 9] = [
    Behaviour::Healthy,
    Behaviour::StartFails,
    Behaviour::StartCrashes,
    Behaviour::StartHangs,
    Behaviour::Sick,
    Behaviour::Silent,
    Behaviour::ReconfigureFails,
    Behaviour::ReconfigureCrashes,
    Behaviour::Unreachable,
];

fn disturb(world: &mut World, random: &mut fastrand::Rng) {
    let name = ["a", "b"][random.usize(..2)];
    match random.usize(..12) {
        0..=3 => {
            let version = format!("v{}", random.usize(..4));
            let count = random.u32(1..5);
            let mut deployments = vec![deployment("d", &version, count)];
            if random.bool() {
                deployments.push(deployment(
                    "e",
                    &format!("v{}", random.usize(..4)),
                    random.u32(1..3),
                ));
            }
            deployments[0].options.min_ready_s = [0.0, 0.5, 20.0][random.usize(..3)];
            deployments[0].options.user_config = ["", "1", "2"][random.usize(..3)].to_owned();
            world.deploy(application(name, deployments));
        }
        4 => {
            world.delete(name);
        }
        5 => {
            world.rollback(name, "");
        }
        6 | 7 => {
            let ids: Vec<String> = world.processes.keys().cloned().collect();
            if !ids.is_empty() {
                world.kill(&ids[random.usize(..ids.len())]);
            }
        }
        8 => {
            let version = format!("v{}", random.usize(..4));
            world
                .behaviours
                .insert(version, BEHAVIOURS[random.usize(..BEHAVIOURS.len())]);
        }
        9 => world.fail_saves = random.u8(..4) == 0,
        10 => {
            world.restart_controller(random.u64(..));
            world.start();
        }
        _ => world.run_for(Duration::from_millis(random.u64(..40_000))),
    }
}

#[test]
fn every_history_ends_where_the_last_deploys_say() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        for _ in 0..60 {
            disturb(&mut world, &mut random);
            for _ in 0..random.usize(..12) {
                world.step(random.usize(..));
                // Of every other history, what is on its way comes in batches.
                if seed % 2 == 1 {
                    world.arrive_together(random.usize(..6));
                }
            }
        }
        // Calm: everything works from now on. What was given up is deployed again.
        world.behaviours.clear();
        world.fail_saves = false;
        world.run_for(Duration::from_secs(120));
        for spec in wanted(&world) {
            world.deploy(spec);
        }
        world.run_for(Duration::from_secs(300));
        let mut expected = 0;
        for spec in wanted(&world) {
            let status = world.status(&spec.name);
            assert_eq!(status.status, "RUNNING", "seed {seed}: {status:?}");
            assert_eq!(status.revision, spec.revision, "seed {seed}");
            for deployment in &spec.deployments {
                let running = world.running(&deployment.version);
                let own = |id: &&String| {
                    let key = &world.processes[*id].spawn.deployment;
                    key.application == spec.name && key.deployment == deployment.name
                };
                assert_eq!(
                    running.iter().filter(own).count(),
                    deployment.options.num_replicas as usize,
                    "seed {seed}"
                );
                expected += deployment.options.num_replicas as usize;
            }
        }
        assert_eq!(
            world.processes.len(),
            expected,
            "seed {seed}: nothing else lives"
        );
        assert_eq!(world.all_routed().len(), expected, "seed {seed}");
        assert_eq!(
            world.core.statuses(world.now).len(),
            wanted(&world).len(),
            "seed {seed}"
        );
        world.assert_at_rest();
    }
}

fn wanted(world: &World) -> Vec<eagleray_types::control::ApplicationSpec> {
    let last = |records: &Vec<RootRecord>| {
        world.stored.revisions[&records.last().unwrap().revision].clone()
    };
    world
        .stored
        .root
        .applications
        .iter()
        .map(|one| last(&one.records))
        .collect()
}

#[test]
fn healthy_updates_in_any_order_of_arrival_never_serve_with_fewer_than_wanted() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        let count = random.u32(1..6);
        world.deploy(application("a", vec![deployment("d", "v0", count)]));
        world.run();
        for version in 1..5 {
            world.deploy(application(
                "a",
                vec![deployment("d", &format!("v{version}"), count)],
            ));
            for _ in 0..random.usize(..60) {
                world.step(random.usize(..));
                let serving = world.routed_to("d").len();
                assert!(
                    serving >= count as usize,
                    "seed {seed}: {serving} of {count} serve"
                );
            }
        }
        world.run();
        assert_eq!(world.running("v4").len(), count as usize);
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        for _ in 0..40 {
            disturb(&mut world, &mut random);
            world.step(random.usize(..));
        }
        (
            world.take_words(),
            world.processes.keys().cloned().collect::<Vec<_>>(),
        )
    };
    for seed in 0..20 {
        assert_eq!(history(seed), history(seed));
    }
}
