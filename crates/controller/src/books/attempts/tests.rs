//! What failures cost, and that starts are bounded whatever replicas do.

use super::*;

fn round(wanted: u32) -> Round {
    Round {
        wanted,
        retries: 20,
    }
}

fn proven() -> Attempts {
    Attempts {
        proven: true,
        ..Default::default()
    }
}

/// Time passes to the next start, and the timer that saw it has been taken.
fn next_start(attempts: &mut Attempts, now: Duration) -> Duration {
    attempts.next_start.take().map_or(now, |at| at.max(now))
}

#[test]
fn waits_double_and_the_fifth_failure_in_thirty_seconds_is_a_crash_loop() {
    let (mut attempts, mut now) = (proven(), Duration::from_secs(100));
    let mut waits = Vec::new();
    for failure in 1..=10 {
        attempts.start_failed(now, false, round(1), String::new());
        assert_eq!(attempts.crash_loop.is_some(), failure >= 5);
        let next = next_start(&mut attempts, now);
        waits.push(next.saturating_sub(now).as_millis());
        now = next;
    }
    assert_eq!(
        waits,
        [100, 200, 400, 800, 4000, 8000, 16000, 30000, 30000, 30000]
    );
}

#[test]
fn a_failure_every_ten_seconds_is_slowed_down_though_it_is_no_crash_loop() {
    let (mut attempts, mut now) = (proven(), Duration::ZERO);
    let mut waits = Vec::new();
    for _ in 0..12 {
        now += Duration::from_secs(10);
        attempts.start_failed(now, false, round(1), String::new());
        let next = next_start(&mut attempts, now);
        waits.push(next.saturating_sub(now).as_millis());
        now = next;
    }
    assert!(attempts.crash_loop.is_none());
    assert_eq!(
        waits[..9],
        [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600]
    );
    assert_eq!(waits[9..], [30000, 30000, 30000]);
}

#[test]
fn a_crash_loop_ends_when_a_replica_that_was_started_in_it_has_run_ten_seconds() {
    let (mut attempts, now) = (proven(), Duration::from_secs(100));
    for _ in 0..5 {
        attempts.died(now, Duration::ZERO, false, round(1), String::new());
    }
    assert_eq!(
        attempts.crash_loop.as_ref().unwrap().describe(now),
        "crash loop: 5 deaths in 1 s"
    );
    assert!(!attempts.ran(now), "it was ready before the loop");
    attempts.died(now, STABLE, false, round(1), String::new());
    assert!(attempts.crash_loop.is_some(), "an old one proves nothing");
    let next = next_start(&mut attempts, now);
    assert_eq!(attempts.starts_allowed(next, 0), 1, "one at a time");
    assert_eq!(attempts.starts_allowed(next, 1), 0);
    assert!(attempts.ran(next));
    assert_eq!(attempts.starts_allowed(next, 1), usize::MAX);
    let again = now + STABLE;
    attempts.died(again, Duration::ZERO, false, round(1), String::new());
    assert!(
        attempts.crash_loop.is_some(),
        "the 30 s have not begun anew"
    );
}

#[test]
fn while_one_has_settled_it_takes_five_failures_of_each() {
    let now = Duration::from_secs(100);
    for (settled, enough) in [(false, 5), (true, 15)] {
        let mut attempts = proven();
        for failure in 1..=enough {
            attempts.died(now, Duration::ZERO, settled, round(3), String::new());
            assert_eq!(
                attempts.crash_loop.is_some(),
                failure == enough,
                "{failure}"
            );
        }
    }
}

#[test]
fn what_else_dies_during_the_wait_of_a_crash_loop_does_not_lengthen_it() {
    let (mut attempts, now) = (proven(), Duration::from_secs(100));
    for _ in 0..15 {
        attempts.start_failed(now, false, round(3), String::new());
    }
    let next = attempts.next_start;
    for _ in 0..3 {
        attempts.start_failed(now, false, round(3), String::new());
    }
    assert_eq!(attempts.next_start, next);
    let known = attempts.crash_loop.as_ref().unwrap();
    assert!(known.describe(now).starts_with("crash loop: 18 deaths"));
}

/// Replicas that end as they like: at once, after a moment, as old ones, in their constructor.
#[test]
fn whatever_replicas_do_their_starts_are_bounded() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.u32(1..6);
        let patience = random.u64(1..20_000);
        let (mut attempts, begin) = (proven(), Duration::from_secs(100));
        // When each replica that runs ends, and since when it is ready, if it ever is.
        let mut running: Vec<(Duration, Option<Duration>)> = Vec::new();
        let (mut starts, mut now, mut ever_settled) = (Vec::new(), begin, false);
        while now < begin + Duration::from_secs(180) {
            attempts.next_start.take_if(|at| *at <= now);
            for (_, ready) in &running {
                if let Some(ready) = ready.filter(|at| now >= *at + STABLE) {
                    attempts.ran(ready);
                }
            }
            let young = running
                .iter()
                .filter(|(_, ready)| ready.is_none_or(|at| now < at + STABLE));
            let allowed = attempts.starts_allowed(now, young.count());
            let settled = running
                .iter()
                .any(|(end, ready)| *end > now && ready.is_some_and(|at| now >= at + SETTLED));
            ever_settled |= settled;
            attempts.slowed.take_if(|_| settled);
            for _ in 0..allowed.min(count as usize - running.len()) {
                starts.push(now);
                let end = now + Duration::from_millis(random.u64(..patience));
                running.push((end, random.bool().then_some(now)));
            }
            let gone = running.iter().position(|(end, _)| *end <= now);
            match gone.map(|at| running.remove(at)) {
                Some((end, Some(ready))) => {
                    attempts.died(
                        now,
                        end.saturating_sub(ready),
                        settled,
                        round(count),
                        String::new(),
                    );
                }
                Some((_, None)) => {
                    attempts.start_failed(now, false, round(count), String::new());
                }
                None => now += Duration::from_millis(50),
            }
        }
        let within = |at: &Duration, window| {
            starts
                .iter()
                .filter(|start| *start >= at && **start < *at + window)
                .count()
        };
        let first_minute = within(&begin, Duration::from_secs(60));
        // With old ones that die between the young, of many a few more.
        let bound = match count {
            1 => 10,
            _ if !ever_settled => 10.max(count as usize + 5),
            _ => 12 * count as usize,
        };
        assert!(
            first_minute <= bound,
            "seed {seed}: {first_minute} of {count}"
        );
        for at in &starts {
            // Each of five rounds, each replica that grew old, and the ones of the loop.
            let bound = (5 + 3 + 1) * count as usize + 4;
            let found = within(at, LOOP_WINDOW);
            assert!(
                found <= bound,
                "seed {seed}: {found} of {count} within 30 s"
            );
        }
    }
}

#[test]
fn replicas_that_fail_side_by_side_are_one_round() {
    let mut attempts = Attempts::default();
    let mut waits = Vec::new();
    while !attempts.start_failed(Duration::ZERO, false, round(3), String::new()) {
        waits.push(attempts.next_start.unwrap().as_millis());
    }
    assert!(attempts.gave_up);
    assert_eq!(waits, [100, 100, 100, 200, 200, 200, 400, 400]);
}

#[test]
fn the_retry_count_of_the_user_is_a_lower_limit() {
    assert_eq!(round(1).limit(), 3);
    assert_eq!(round(10).limit(), 20);
    let patient = Round {
        retries: 2,
        ..round(1)
    };
    assert_eq!(patient.limit(), 2);
}

#[test]
fn a_first_death_costs_no_wait_and_dying_young_does() {
    let mut attempts = proven();
    let (now, young) = (Duration::from_secs(100), Duration::from_secs(2));
    attempts.died(now, young, false, round(1), String::new());
    assert_eq!(attempts.starts_allowed(now, 0), usize::MAX);
    attempts.died(now, young, false, round(1), String::new());
    assert_eq!(attempts.starts_allowed(now, 0), 0);
    assert_eq!(attempts.starts_allowed(now + FIRST_WAIT, 0), usize::MAX);
    attempts.died(now, STABLE, false, round(1), String::new());
    assert_eq!(attempts.starts_allowed(now, 0), usize::MAX);
}
