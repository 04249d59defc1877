//! Properties of routers and admission together, over seeds. `ledger.rs` and `world/sleep.rs` say what every run
//! checks by itself; the tests add what needs the counts of a whole run. A failure names its seed.

use eagleray_testkit::{Plan, Report, World};

/// Runs a plan under each seed. `EAGLERAY_SEEDS=20` runs twenty times as many.
fn run(seeds: u64, plan: impl Fn(u64) -> Plan) -> Vec<Report> {
    let factor = std::env::var("EAGLERAY_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    (1..=seeds * factor.unwrap_or(1))
        .map(|seed| {
            let plan = plan(seed);
            let faultless = plan.faultless();
            let replicas: usize = plan.replicas.iter().sum();
            // What waits for a holder of its model hides when the queue that replicas know of fills.
            let fills_are_seen = plan.models == 0;
            let report = World::new(plan).run();
            if faultless {
                let per_request = report.control_per_request();
                assert!(
                    per_request <= 6.0,
                    "seed {seed}: {per_request} control frames a request: {report:?}"
                );
                let above = report.above_six * 50;
                assert!(above <= report.submitted, "seed {seed}: {report:?}");
                let each = replicas.min(eagleray_router::core::MAX_WAITS);
                assert!(
                    !fills_are_seen || report.waits <= report.fills * each,
                    "seed {seed}: {report:?}"
                );
            }
            assert!(report.unwaits <= report.waits, "seed {seed}: {report:?}");
            report
        })
        .collect()
}

fn total(reports: &[Report], count: impl Fn(&Report) -> usize) -> usize {
    reports.iter().map(count).sum()
}

#[test]
fn every_request_is_answered_at_any_load() {
    for gap in [20, 80, 120, 300, 2_000] {
        let reports = run(10, |seed| Plan {
            seed,
            gap,
            ..Plan::default()
        });
        assert_eq!(
            total(&reports, |report| report.finished),
            total(&reports, |report| report.submitted)
        );
    }
}

#[test]
fn where_requests_are_short_the_next_ones_wait_in_the_replica() {
    let reports = run(20, |seed| Plan {
        seed,
        gap: 10,
        service: 40,
        requests: 1_000,
        cancels: 5,
        ..Plan::default()
    });
    let all = total(&reports, |report| report.submitted);
    let ahead = total(&reports, |report| report.ahead);
    assert!(ahead * 4 > all, "{ahead} of {all}");
    assert_eq!(
        total(&reports, |report| report.finished + report.cancelled),
        all
    );
}

#[test]
fn where_requests_are_long_none_does() {
    let reports = run(5, |seed| Plan {
        seed,
        gap: 1_000,
        service: 20_000,
        ..Plan::default()
    });
    assert_eq!(total(&reports, |report| report.ahead), 0);
}

#[test]
fn what_waits_in_a_replica_that_stands_still_goes_on_elsewhere() {
    let reports = run(20, |seed| Plan {
        seed,
        gap: 20,
        service: 60,
        requests: 1_000,
        hangs: 1,
        drains: 1,
        limit_changes: 3,
        router_kills: 1,
        ..Plan::default()
    });
    assert!(total(&reports, |report| report.sent_back) > 0);
}

#[test]
fn a_burst_drains_without_a_stampede() {
    for burst in [5, 50, 300] {
        let reports = run(10, |seed| Plan {
            seed,
            burst,
            gap: 100 * burst as u64,
            ..Plan::default()
        });
        assert_eq!(
            total(&reports, |report| report.finished),
            total(&reports, |report| report.submitted)
        );
    }
}

#[test]
fn one_slot_is_shared_by_many_routers() {
    let plan = |seed| Plan {
        seed,
        routers: 8,
        replicas: vec![1],
        max_ongoing: 1,
        gap: 3_000,
        requests: 100,
        ..Plan::default()
    };
    let reports = run(15, plan);
    assert_eq!(
        total(&reports, |report| report.finished),
        total(&reports, |report| report.submitted)
    );
    assert!(
        total(&reports, |report| report.rejects) > 0,
        "the routers never met"
    );
}

/// The worst case for frames: short calls, one slot a replica, and routers that know little of each other. Some slots
/// are free all the time, but it is luck to find one.
#[test]
fn many_routers_and_thirty_two_replicas_keep_the_bounds() {
    for (routers, gap) in [(8, 95), (8, 120), (8, 160), (16, 235)] {
        let plan = |seed| Plan {
            seed,
            routers,
            replicas: vec![32],
            max_ongoing: 1,
            gap,
            requests: 100,
            ..Plan::default()
        };
        let reports = run(1, plan);
        assert_eq!(
            total(&reports, |report| report.finished),
            total(&reports, |report| report.submitted)
        );
        assert!(
            total(&reports, |report| report.waits) > 0,
            "no queue ever filled"
        );
    }
}

#[test]
fn of_forty_replicas_thirty_two_know_of_a_queue() {
    for gap in [20, 60] {
        let plan = |seed| Plan {
            seed,
            replicas: vec![40],
            max_ongoing: 2,
            gap,
            burst: 10,
            service: 2_000,
            ..Plan::default()
        };
        let reports = run(2, plan);
        assert_eq!(
            total(&reports, |report| report.finished),
            total(&reports, |report| report.submitted)
        );
        assert!(
            total(&reports, |report| report.waits) > 0,
            "no queue ever filled"
        );
    }
}

#[test]
fn cancels_and_deadlines_leave_nothing_behind() {
    let plan = |seed| Plan {
        seed,
        cancels: 30,
        deadlines: 30,
        background: 40,
        ..Plan::default()
    };
    let reports = run(20, plan);
    let submitted = total(&reports, |report| report.submitted);
    assert!(total(&reports, |report| report.cancelled) > submitted / 20);
    assert!(total(&reports, |report| report.deadline) > submitted / 20);
    assert_eq!(total(&reports, |report| report.died), 0);
}

#[test]
fn a_replicas_death_fails_only_what_may_not_be_repeated() {
    let plan = |seed| Plan {
        seed,
        kills: 4,
        gap: 100,
        ..Plan::default()
    };
    let reports = run(20, plan);
    assert!(
        total(&reports, |report| report.died) > 0,
        "nothing was running when a replica died"
    );
    // A death catches at most 3 that run.
    assert!(total(&reports, |report| report.died) <= reports.len() * 4 * 3);
    let lost = total(&reports, |report| {
        report.submitted - report.finished - report.died
    });
    assert_eq!(lost, 0);
    let reports = run(20, |seed| Plan {
        repeatable: 100,
        kills: 2,
        replicas: vec![6],
        ..plan(seed)
    });
    // At 100 %, only what two replicas died with is lost.
    assert!(
        total(&reports, |report| report.died) <= reports.len() / 4,
        "{}",
        total(&reports, |report| report.died)
    );
}

#[test]
fn requests_of_sessions_are_answered_wherever_their_replicas_go() {
    for (sessions, gap) in [(2, 80), (20, 120), (200, 300)] {
        let reports = run(10, |seed| Plan {
            seed,
            gap,
            sessions,
            ..Plan::default()
        });
        assert_eq!(
            total(&reports, |report| report.finished),
            total(&reports, |report| report.submitted)
        );
    }
}

#[test]
fn requests_for_models_are_answered_whatever_replicas_say_and_suffer() {
    let plan = |seed| Plan {
        seed,
        models: 5,
        gap: [60, 100, 300][seed as usize % 3],
        burst: 1 + seed as usize % 3,
        ..Plan::default()
    };
    let reports = run(20, plan);
    assert_eq!(
        total(&reports, |report| report.finished),
        total(&reports, |report| report.submitted)
    );
    let reports = run(20, |seed| Plan {
        cancels: 10,
        deadlines: 20,
        kills: 2,
        stops: 1,
        drains: 1,
        router_kills: 1,
        limit_changes: 1,
        max_queued: 20,
        ..plan(seed)
    });
    assert!(total(&reports, |report| report.finished) > 0);
}

#[test]
fn a_routers_death_frees_its_slots_and_grants() {
    let reports = run(20, |seed| Plan {
        seed,
        routers: 5,
        router_kills: 3,
        ..Plan::default()
    });
    let answered = total(&reports, |report| report.finished);
    assert!(
        answered * 10 > total(&reports, |report| report.submitted) * 3,
        "{answered}"
    );
}

#[test]
fn a_stopped_replica_loses_no_request_and_is_used_again() {
    let plan = |seed| Plan {
        seed,
        stops: 2,
        gap: 150,
        ..Plan::default()
    };
    let reports = run(20, plan);
    assert_eq!(
        total(&reports, |report| report.finished),
        total(&reports, |report| report.submitted)
    );
    // Its QUEUED requests move after a second; the stop lasts three.
    assert!(
        total(&reports, |report| report.cancels) > 0,
        "nothing was taken back"
    );
}

#[test]
fn a_hung_replica_loses_no_request_and_is_used_again() {
    let plan = |seed| Plan {
        seed,
        hangs: 2,
        gap: 150,
        ..Plan::default()
    };
    let reports = run(20, plan);
    assert_eq!(
        total(&reports, |report| report.finished),
        total(&reports, |report| report.submitted)
    );
    assert!(
        total(&reports, |report| report.cancels) > 0,
        "nothing was taken back"
    );
}

#[test]
fn limits_change_and_replicas_drain_without_a_failure() {
    let plan = |seed| Plan {
        seed,
        limit_changes: 6,
        drains: 3,
        gap: 120,
        ..Plan::default()
    };
    let reports = run(20, plan);
    assert_eq!(
        total(&reports, |report| report.finished),
        total(&reports, |report| report.submitted)
    );
}

#[test]
fn everything_at_once() {
    let plan = |seed| Plan {
        seed,
        routers: 4,
        replicas: vec![3, 3],
        weights: vec![1, 2],
        gap: 90,
        burst: 1 + seed as usize % 4,
        cancels: 10,
        deadlines: 10,
        background: 20,
        kills: 2,
        stops: 1,
        hangs: 1,
        router_kills: 1,
        limit_changes: 2,
        drains: 2,
        ..Plan::default()
    };
    let reports = run(50, plan);
    assert!(
        total(&reports, |report| report.finished) > total(&reports, |report| report.submitted) / 2
    );
}

#[test]
fn weights_decide_when_there_is_a_choice_and_neither_version_starves() {
    let plan = |seed, gap| Plan {
        seed,
        replicas: vec![4, 4],
        weights: vec![1, 3],
        gap,
        requests: 400,
        ..Plan::default()
    };
    for report in run(10, |seed| plan(seed, 600)) {
        let share = report.by_version[1] as f64 / report.submitted as f64;
        assert!((0.72..0.78).contains(&share), "{report:?}");
    }
    // Saturated: capacity decides, which is half and half here.
    for report in run(10, |seed| plan(seed, 20)) {
        let share = report.by_version[0] as f64 / report.submitted as f64;
        assert!((0.4..0.6).contains(&share), "{report:?}");
    }
}

#[test]
fn the_queue_bound_is_exact_but_for_requests_that_come_back() {
    let plan = |seed, routers| Plan {
        seed,
        routers,
        max_queued: 7,
        gap: 20,
        burst: 4,
        ..Plan::default()
    };
    // One router knows what it has sent, and only an offer that crosses its own grant comes back.
    for report in run(20, |seed| plan(seed, 1)) {
        assert!(
            (7..=9).contains(&report.most_queued_in_process),
            "{report:?}"
        );
    }
    for report in run(15, |seed| plan(seed, 3)) {
        assert!(report.refused > 0);
        assert_eq!(report.finished + report.back_pressure, report.submitted);
        // What left the queue for a slot that was offered to two came back: never more than there are slots.
        assert!(report.most_queued_in_process <= 7 + 4 * 3, "{report:?}");
    }
}

#[test]
fn two_replicas_share_the_load_evenly() {
    let plan = |seed| Plan {
        seed,
        replicas: vec![2],
        max_ongoing: 1_000,
        requests: 2_000,
        gap: 100,
        routers: 1,
        ..Plan::default()
    };
    for report in run(4, plan) {
        let (low, high) = (
            report.by_replica.iter().min(),
            report.by_replica.iter().max(),
        );
        let (low, high) = (*low.expect("two") as f64, *high.expect("two") as f64);
        assert!(high / low < 1.2, "{:?}", report.by_replica);
    }
}
