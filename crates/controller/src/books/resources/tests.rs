//! Who gets which device, what is said of what is missing, and that nothing is lost over many turns.

use eagleray_types::control::Device;

use super::*;

fn key(name: &str) -> DeploymentKey {
    DeploymentKey {
        application: "a".to_owned(),
        deployment: name.to_owned(),
    }
}

fn node(gpus: u32, amounts: &[(&str, u64)]) -> Resources {
    let mut resources = Resources::default();
    let device = |number: u32| Device {
        id: format!("GPU-{number}"),
        model: String::new(),
    };
    resources.learn(Some(NodeResources {
        amounts: amounts
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), amount * UNIT))
            .collect(),
        devices: (0..gpus).map(device).collect(),
    }));
    resources
}

fn demand(stated: &[(&str, f64)]) -> Demand {
    let stated = stated.iter().map(|(name, one)| ((*name).to_owned(), *one));
    Demand::of(&stated.collect())
}

fn take(resources: &mut Resources, id: &str, stated: &[(&str, f64)]) -> Result<String, Lack> {
    let share = resources.take(id, 1, &key("D"), &demand(stated))?;
    Ok(resources.device_names(&share))
}

#[test]
fn whole_devices_go_out_once_and_the_next_one_hears_what_is_missing() {
    let mut node = node(3, &[]);
    assert_eq!(take(&mut node, "r1", &[(GPUS, 1.0)]).unwrap(), "GPU-0");
    assert_eq!(
        take(&mut node, "r2", &[(GPUS, 2.0)]).unwrap(),
        "GPU-1,GPU-2"
    );
    let lack = take(&mut node, "r3", &[(GPUS, 1.0)]).unwrap_err();
    assert_eq!((lack.asked, lack.total, lack.free), (UNIT, 3 * UNIT, 0));
    node.release("r1", 1);
    assert_eq!(take(&mut node, "r3", &[(GPUS, 1.0)]).unwrap(), "GPU-0");
}

#[test]
fn fractions_share_a_device_until_it_is_full() {
    let mut node = node(2, &[]);
    assert_eq!(take(&mut node, "r1", &[(GPUS, 0.5)]).unwrap(), "GPU-0");
    assert_eq!(take(&mut node, "r2", &[(GPUS, 0.5)]).unwrap(), "GPU-0");
    assert_eq!(take(&mut node, "r3", &[(GPUS, 0.3)]).unwrap(), "GPU-1");
    let lack = take(&mut node, "r4", &[(GPUS, 1.0)]).unwrap_err();
    assert_eq!(lack.free, 0, "a rest is no whole device");
    let lack = take(&mut node, "r4", &[(GPUS, 0.8)]).unwrap_err();
    assert_eq!(lack.free, 7_000);
    // Where less is left, it goes first.
    node.release("r2", 1);
    assert_eq!(take(&mut node, "r5", &[(GPUS, 0.2)]).unwrap(), "GPU-0");
}

#[test]
fn a_third_three_times_fills_a_device_and_leaves_it_whole_again() {
    let mut node = node(1, &[]);
    for turn in 0..1_000 {
        for id in ["r1", "r2", "r3"] {
            take(&mut node, id, &[(GPUS, 1.0 / 3.0)]).unwrap();
        }
        assert!(
            take(&mut node, "r4", &[(GPUS, 0.1)]).is_err(),
            "turn {turn}"
        );
        for id in ["r1", "r2", "r3"] {
            node.release(id, 1);
        }
    }
    assert_eq!(node.used.devices, [0]);
    take(&mut node, "r", &[(GPUS, 1.0)]).unwrap();
}

#[test]
fn what_nobody_states_is_not_counted_and_what_the_node_does_not_have_is_none() {
    let mut node = node(0, &[("num_cpus", 2), ("memory", 100)]);
    for id in ["r1", "r2", "r3", "r4"] {
        assert_eq!(take(&mut node, id, &[("num_cpus", 0.0)]).unwrap(), "");
    }
    assert!(node.holders.is_empty());
    take(&mut node, "r5", &[("num_cpus", 1.5), ("memory", 60.0)]).unwrap();
    let lack = take(&mut node, "r6", &[("num_cpus", 0.5), ("memory", 60.0)]).unwrap_err();
    assert_eq!((lack.name.as_str(), lack.free), ("memory", 40 * UNIT));
    let lack = take(&mut node, "r6", &[("lidar", 1.0)]).unwrap_err();
    assert_eq!((lack.name.as_str(), lack.total), ("lidar", 0));
    // Nothing was taken of the first for want of the second.
    take(&mut node, "r6", &[("num_cpus", 0.5)]).unwrap();
}

#[test]
fn a_node_that_does_not_say_what_it_has_grants_everything() {
    let mut node = Resources::default();
    assert_eq!(take(&mut node, "r1", &[(GPUS, 8.0)]).unwrap(), "");
    assert!(!node.has_devices());
}

#[test]
fn only_the_death_of_that_life_of_a_replica_gives_back() {
    let mut node = node(1, &[]);
    take(&mut node, "r1", &[(GPUS, 1.0)]).unwrap();
    node.take_news();
    node.release("r1", 2);
    node.release("r2", 1);
    assert!(!node.news);
    assert!(take(&mut node, "r3", &[(GPUS, 0.1)]).is_err());
    node.release("r1", 1);
    assert!(node.news);
}

#[test]
fn those_who_wait_are_asked_in_the_order_in_which_they_came() {
    let mut node = node(1, &[]);
    let lack = take(&mut node, "r1", &[(GPUS, 2.0)]).unwrap_err();
    let waiting = |at: u64| {
        Some(Waiting::new(
            Duration::from_secs(at),
            1,
            demand(&[(GPUS, 2.0)]),
            lack.clone(),
        ))
    };
    let of = |application: &str| DeploymentKey {
        application: application.to_owned(),
        deployment: "D".to_owned(),
    };
    node.settle(&of("z"), waiting(1));
    node.settle(&of("b"), waiting(2));
    node.settle(&of("z"), waiting(3));
    let since = node.waiting(&of("z")).map(|one| one.since);
    assert_eq!(since, Some(Duration::from_secs(1)), "it still waits");
    let all = ["a", "b", "z"].map(str::to_owned).into();
    assert_eq!(node.in_turn(&all), ["z", "b", "a"]);
    node.settle(&of("z"), None);
    node.settle(&of("z"), waiting(4));
    assert_eq!(node.in_turn(&all), ["b", "z", "a"]);
    assert!(node.fits_without(&demand(&[(GPUS, 1.0)]), []));
}

#[test]
fn huge_and_tiny_amounts_neither_overflow_nor_vanish() {
    let huge = demand(&[("memory", 1e15)]);
    assert_eq!(huge.0.get("memory"), Some(&(1_000_000_000_000_000 * UNIT)));
    let tiny = demand(&[("x", 1e-9), ("y", 0.0), ("z", f64::NAN)]);
    assert_eq!(tiny.0, BTreeMap::from([("x".to_owned(), 1)]));
    let mut node = node(0, &[]);
    for id in ["r1", "r2"] {
        let share = ResourceShare {
            amounts: huge.0.clone(),
            ..ResourceShare::default()
        };
        node.hold(id, 1, &key("D"), share);
    }
    assert!(take(&mut node, "r3", &[("memory", 1.0)]).is_err());
}
