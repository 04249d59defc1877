//! Options that change without a new version, and what replicas hear of them.

use std::time::Duration;

use super::world::{World, simple, with_revision};

#[test]
fn light_options_reach_routers_and_no_replica() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.take_words();
    let mut spec = simple("v1", 2);
    spec.deployments[0].options.max_queued_requests = 7;
    let call = world.deploy(with_revision(spec));
    world.run();
    assert_eq!(
        world.notes(call),
        ["d keeps its replicas (max_queued_requests -1 -> 7)"]
    );
    assert_eq!(world.take_words(), Vec::<String>::new());
    assert!(
        world
            .routed
            .values()
            .all(|target| target.max_queued_requests == 7)
    );
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn what_no_replica_obeys_is_named_and_no_replica_hears_of_it() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.take_words();
    let mut spec = simple("v1", 2);
    let options = &mut spec.deployments[0].options;
    options.graceful_shutdown_wait_loop_s = 1.0;
    options.hang_timeout_s = 7.0;
    options.backpressure_status = 429;
    options.backpressure_retry_after_s = 3.0;
    let call = world.deploy(with_revision(spec));
    world.run();
    let changes =
        "graceful_shutdown_wait_loop_s 2 -> 1, backpressure_config changed, hang_timeout_s 0 -> 7";
    assert_eq!(
        world.notes(call),
        [format!("d keeps its replicas ({changes})")]
    );
    assert_eq!(world.take_words(), Vec::<String>::new());
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn user_config_changes_in_place_and_the_replica_stays_routed() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let (before, _) = (world.routed_to("d"), world.take_words());
    let mut spec = simple("v1", 1);
    spec.deployments[0].options.user_config = "{\"a\":1}".into();
    spec.deployments[0].options.max_ongoing_requests = 9;
    world.deploy(with_revision(spec));
    world.step(0);
    assert_eq!(
        world.status("a").deployments[0].replica_states["UPDATING"],
        1
    );
    assert_eq!(world.routed_to("d"), before);
    assert_eq!(world.status("a").status, "DEPLOYING");
    world.run();
    assert_eq!(world.take_words(), ["reconfigure {\"a\":1}"]);
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(
        world.routed.values().next().unwrap().versions[0].max_ongoing_requests,
        9
    );
    world.assert_at_rest();
}

#[test]
fn scaling_starts_more_and_stops_the_newest() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let first = world.routed_to("d");
    world.deploy(simple("v1", 4));
    world.step(0);
    assert_eq!(world.status("a").deployments[0].status, "UPSCALING");
    world.run();
    assert_eq!(world.routed_to("d").len(), 4);
    assert_eq!(
        world.status("a").deployments[0].status_trigger,
        "UPSCALE_COMPLETED"
    );
    world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(world.routed_to("d"), first);
    assert_eq!(
        world.status("a").deployments[0].status_trigger,
        "DOWNSCALE_COMPLETED"
    );
    assert_eq!(world.processes.len(), 1);
}

/// Ranks and world sizes as the replicas heard of them, in the order of ranks.
fn told(world: &World) -> Vec<(u32, u32)> {
    let mut told: Vec<(u32, u32)> = world
        .processes
        .values()
        .filter(|one| one.serves())
        .map(|one| one.told)
        .collect();
    told.sort_unstable();
    told
}

// contract: 1.5/context-rank, 1.5/context-world_size, G/25
#[test]
fn every_replica_hears_of_its_rank_and_of_how_many_there_are() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    assert_eq!(told(&world), [(0, 2), (1, 2)]);
    world.deploy(simple("v1", 4));
    world.run();
    assert_eq!(told(&world), [(0, 4), (1, 4), (2, 4), (3, 4)]);

    // The one with rank 0 dies: its successor has the rank, and the others keep theirs.
    let (first, _) = world
        .processes
        .iter()
        .find(|(_, one)| one.told.0 == 0)
        .unwrap();
    let first = first.clone();
    let others: Vec<(String, (u32, u32))> = world
        .processes
        .iter()
        .filter(|(id, _)| **id != first)
        .map(|(id, one)| (id.clone(), one.told))
        .collect();
    world.kill(&first);
    world.run_for(Duration::from_secs(60));
    assert_eq!(told(&world), [(0, 4), (1, 4), (2, 4), (3, 4)]);
    for (id, told) in others {
        assert_eq!(world.processes[&id].told, told);
    }

    // The newest go first, and the successor is the newest: somebody takes its rank, once it is gone.
    world.deploy(simple("v1", 2));
    while world.processes.values().all(|one| one.stopping.is_none()) {
        assert!(world.step(0));
    }
    assert_eq!(told(&world), [(1, 2), (2, 2)]);
    // Who starts meanwhile is not told a rank that one of those that stop still has.
    world.deploy(simple("v1", 3));
    world.run();
    assert_eq!(told(&world), [(0, 3), (1, 3), (2, 3)]);
    world.deploy(simple("v1", 2));
    world.run();
    assert_eq!(told(&world), [(0, 2), (1, 2)]);
    world.deploy(simple("v2", 3));
    world.run();
    assert_eq!(told(&world), [(0, 3), (1, 3), (2, 3)]);
    world.assert_at_rest();
}
