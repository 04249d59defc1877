//! Loads that are written down, and what becomes of them second by second.

use super::*;
use crate::config::Capacity;

/// One deployment whose replicas start at once.
struct Scene {
    config: Config,
    state: State,
    measured: Measured,
    now: Duration,
    last: Option<Decision>,
    /// (seconds, replicas) for each change.
    steps: Vec<(f64, u32)>,
}

impl Scene {
    fn new(json: &str) -> Self {
        let config = Config::of_json(json).unwrap();
        let first = config.first(Capacity::default());
        Self {
            config,
            state: State::default(),
            measured: Measured {
                queued: 0,
                running: 0,
                ready: first,
                wanted: first,
                heard_all: true,
                wish: Wish::OfLoad,
            },
            now: Duration::ZERO,
            last: None,
            steps: Vec::new(),
        }
    }

    fn look(&mut self) {
        let bounds = self.config.bounds(Capacity::default());
        let decision = decide(
            &self.config,
            bounds,
            &mut self.state,
            self.measured,
            self.now,
        );
        assert!(decision.next_look.is_none_or(|at| at > self.now));
        if decision.replicas != self.measured.wanted {
            self.measured.wanted = decision.replicas;
            self.measured.ready = decision.replicas;
            self.steps.push((self.now.as_secs_f64(), decision.replicas));
        }
        self.last = Some(decision);
    }

    /// The load is this until `seconds`, looked at when it changes and when the decision asks for it, and never else.
    fn load(&mut self, ongoing: u64, seconds: f64) {
        self.measured.running = ongoing;
        self.look();
        let end = Duration::from_secs_f64(seconds);
        while let Some(at) = self
            .last
            .as_ref()
            .and_then(|one| one.next_look)
            .filter(|at| *at <= end)
        {
            self.now = at;
            self.look();
        }
        self.now = end;
    }

    fn hold(&self) -> String {
        let hold = self.last.as_ref().and_then(|one| one.hold.as_ref());
        hold.map(|one| one.words(self.now)).unwrap_or_default()
    }

    /// Changes since the last call, in whole seconds.
    fn take(&mut self) -> Vec<(u64, u32)> {
        let steps = self.steps.drain(..);
        steps.map(|(at, replicas)| (at as u64, replicas)).collect()
    }
}

const GUIDE: &str = r#"{"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 5, "upscale_delay_s": 10,
    "downscale_delay_s": 60}"#;

// contract: 5/autoscaling-delay better: to the highest number that was needed during the delay, so what goes was not needed for all of it
#[test]
fn the_guides_example_follows_a_load_as_it_says() {
    let mut scene = Scene::new(GUIDE);
    scene.load(4, 100.0);
    assert!(scene.take().is_empty());
    scene.load(20, 105.0);
    assert_eq!(scene.hold(), "held by upscale_delay_s, 6 s left");
    scene.load(20, 200.0);
    let up = scene.take();
    assert_eq!(up, [(110, 4)], "more for 10 s");
    scene.load(100, 300.0);
    assert!(scene.take().is_empty());
    assert_eq!(scene.hold(), "at max_replicas 4");
    assert_eq!(scene.last.as_ref().unwrap().asked, 20);
    scene.load(2, 355.0);
    assert!(
        scene.hold().starts_with("held by downscale_delay_s"),
        "{}",
        scene.hold()
    );
    scene.load(2, 600.0);
    let down = scene.take();
    assert_eq!(down.last().unwrap().1, 1);
    assert!(
        down.iter().all(|(at, _)| (360..=391).contains(at)),
        "{down:?}"
    );
    assert!(
        scene.last.unwrap().next_look.is_none(),
        "an idle load is not looked at"
    );
}

#[test]
fn a_dip_of_a_moment_does_not_begin_the_delay_anew_and_a_pause_does() {
    let mut scene = Scene::new(GUIDE);
    scene.load(12, 8.0);
    scene.load(5, 8.1);
    scene.load(12, 20.0);
    assert_eq!(scene.take(), [(10, 3)]);
    let mut scene = Scene::new(GUIDE);
    scene.load(12, 8.0);
    scene.load(5, 12.0);
    scene.load(12, 40.0);
    assert_eq!(scene.take().len(), 1);
    assert_eq!(scene.now.as_secs(), 40);
}

#[test]
fn without_a_delay_more_start_at_the_moment_of_the_burst() {
    let mut scene = Scene::new(r#"{"max_replicas": 4, "upscale_delay_s": 0}"#);
    scene.load(1, 50.0);
    scene.load(200, 51.0);
    assert_eq!(scene.steps, [(50.0, 4)]);
}

// contract: 5/autoscaling-present better: only where look_back_period_s is stated; else it is the load of the moment
#[test]
fn a_stated_look_back_smooths_the_wish_for_more() {
    let json = r#"{"max_replicas": 10, "upscale_delay_s": 0, "look_back_period_s": 30, "metrics_interval_s": 1}"#;
    let mut scene = Scene::new(json);
    scene.load(0, 100.0);
    scene.load(20, 101.0);
    assert!(scene.measured.wanted < 3, "{:?}", scene.steps);
    scene.load(20, 140.0);
    assert_eq!(scene.measured.wanted, 10);
    let grows = scene.steps.windows(2).all(|pair| pair[0].1 < pair[1].1);
    assert!(grows && scene.steps.len() > 4, "{:?}", scene.steps);
}

#[test]
fn to_none_by_way_of_one_and_from_none_at_once() {
    let json = r#"{"min_replicas": 0, "initial_replicas": 3, "max_replicas": 8, "look_back_period_s": 5,
        "downscale_delay_s": 60, "downscale_to_zero_delay_s": 20}"#;
    let mut scene = Scene::new(json);
    scene.load(0, 300.0);
    assert_eq!(scene.take(), [(60, 1), (80, 0)]);
    assert_eq!(scene.hold(), "");
    scene.measured.ready = 0;
    scene.load(1, 300.5);
    assert_eq!(scene.take(), [(300, 1)]);
    // It starts, and its request waits: it is kept however long that takes.
    scene.measured.ready = 0;
    scene.load(1, 1000.0);
    assert!(scene.take().is_empty());
    scene.load(0, 1006.0);
    assert!(
        scene
            .hold()
            .starts_with("held by downscale_to_zero_delay_s"),
        "{}",
        scene.hold()
    );
    scene.load(0, 1100.0);
    assert_eq!(
        scene.take(),
        [(1025, 0)],
        "5 s until none is smoothed in, and 20 s"
    );
}

#[test]
fn a_request_keeps_the_last_replica() {
    let json = r#"{"min_replicas": 0, "initial_replicas": 1, "downscale_to_zero_delay_s": 1, "look_back_period_s": 0.5,
        "downscale_delay_s": 1, "aggregation_function": "min"}"#;
    let mut scene = Scene::new(json);
    scene.load(1, 100.0);
    assert!(scene.take().is_empty());
    for second in 0..50 {
        scene.load(0, 100.5 + f64::from(second));
        scene.load(1, 101.0 + f64::from(second));
    }
    assert!(scene.take().is_empty());
}

#[test]
fn what_the_present_load_needs_is_not_said_to_wait_for_a_delay() {
    let mut scene = Scene::new(GUIDE);
    scene.load(10, 60.0);
    assert_eq!(scene.take(), [(10, 2)]);
    scene.load(0, 130.0);
    assert_eq!(scene.hold(), "held by downscale_delay_s, 5 s left");
    scene.load(10, 140.0);
    assert_eq!(scene.take(), [], "the delay is over, and the load is back");
    scene.look();
    let last = scene.last.as_ref().expect("it was looked at");
    assert_eq!((last.asked, &last.hold), (2, &None));

    let mut scene =
        Scene::new(r#"{"min_replicas": 0, "initial_replicas": 1, "downscale_delay_s": 5}"#);
    scene.load(0, 4.9);
    assert_eq!(scene.hold(), "held by downscale_to_zero_delay_s, 1 s left");
    scene.now = Duration::from_secs(6);
    scene.measured.running = 1;
    scene.look();
    assert_eq!((scene.take(), scene.hold()), (vec![], String::new()));
}

#[test]
fn until_all_routers_have_spoken_nothing_goes_and_more_may_come() {
    let mut scene = Scene::new(
        r#"{"max_replicas": 8, "initial_replicas": 4, "downscale_delay_s": 0, "upscale_delay_s": 0, "look_back_period_s": 1}"#,
    );
    scene.config.smooths_up = false;
    scene.measured.heard_all = false;
    scene.load(0, 100.0);
    assert!(scene.take().is_empty());
    assert_eq!(
        scene.hold(),
        "waits until every router has said what it has"
    );
    scene.load(12, 110.0);
    assert_eq!(scene.take(), [(100, 6)]);
    scene.measured.heard_all = true;
    scene.load(2, 120.0);
    assert_eq!(scene.measured.wanted, 1);
}

// contract: 5/autoscaling-number
#[test]
fn factors_multiply_the_distance_from_what_runs() {
    let mut scene = Scene::new(
        r#"{"max_replicas": 100, "upscale_delay_s": 0, "upscaling_factor": 0.5, "downscaling_factor": 0.5,
        "downscale_delay_s": 10, "look_back_period_s": 1}"#,
    );
    scene.config.smooths_up = false;
    scene.load(20, 0.0);
    assert_eq!(scene.measured.wanted, 6, "1 + 0.5 * (10 - 1), rounded up");
    let mut scene = Scene {
        steps: Vec::new(),
        ..scene
    };
    scene.measured.wanted = 10;
    scene.measured.ready = 10;
    scene.load(0, 200.0);
    let down: Vec<u32> = scene.steps.iter().map(|step| step.1).collect();
    assert_eq!(
        *down.last().unwrap(),
        1,
        "a factor does not keep the last ones: {down:?}"
    );
    assert!(down.contains(&5), "{down:?}");
}

#[test]
fn new_bounds_hold_at_once() {
    let mut scene = Scene::new(r#"{"min_replicas": 1, "max_replicas": 4}"#);
    scene.measured.wanted = 9;
    scene.load(50, 1.0);
    assert_eq!(scene.steps, [(0.0, 4)]);
    scene.config.min_replicas = 6;
    scene.config.max_replicas = 8;
    scene.look();
    assert_eq!(scene.measured.wanted, 6);
}

#[test]
fn nothing_that_can_be_written_makes_a_number_beyond_the_bounds() {
    for target in [1e-300, 0.1, 1e300] {
        for factor in [1e-300, 1.0, 1e300] {
            let json = format!(
                r#"{{"max_replicas": 50, "target_ongoing_requests": {target:e}, "upscaling_factor": {factor:e},
                "downscaling_factor": {factor:e}, "upscale_delay_s": 0, "downscale_delay_s": 0}}"#
            );
            let mut scene = Scene::new(&json);
            for ongoing in [0, 1, u64::MAX, 0] {
                scene.measured.queued = ongoing;
                scene.load(ongoing, scene.now.as_secs_f64() + 100.0);
                assert!((1..=50).contains(&scene.measured.wanted));
            }
        }
    }
}

#[test]
fn a_share_that_is_whole_is_not_rounded_up() {
    let mut scene =
        Scene::new(r#"{"max_replicas": 50, "target_ongoing_requests": 0.1, "upscale_delay_s": 0}"#);
    for ongoing in 1..=5 {
        scene.load(ongoing, scene.now.as_secs_f64() + 0.1);
        assert_eq!(u64::from(scene.measured.wanted), ongoing * 10);
    }
}

#[test]
fn a_policy_takes_the_place_of_the_load_and_the_rest_holds() {
    let mut scene = Scene::new(
        r#"{"min_replicas": 1, "max_replicas": 6, "upscale_delay_s": 10, "downscale_delay_s": 60}"#,
    );
    scene.measured.wish = Wish::OfPolicy(None);
    scene.load(1000, 100.0);
    assert!(
        scene.steps.is_empty(),
        "nothing is asked for: {:?}",
        scene.steps
    );
    scene.measured.wish = Wish::OfPolicy(Some(3.2));
    scene.load(0, 105.0);
    assert_eq!(scene.last.as_ref().unwrap().asked, 4);
    assert!(scene.steps.is_empty(), "held by upscale_delay_s");
    scene.load(0, 120.0);
    assert_eq!(scene.steps, [(110.0, 4)]);
    scene.measured.wish = Wish::OfPolicy(Some(100.0));
    scene.load(0, 140.0);
    assert_eq!(scene.steps.pop(), Some((130.0, 6)), "max_replicas holds");
    scene.measured.wish = Wish::OfPolicy(Some(2.0));
    scene.load(0, 199.0);
    assert_eq!(scene.measured.wanted, 6);
    scene.load(0, 210.0);
    assert_eq!(scene.measured.wanted, 2);
    scene.measured.wish = Wish::OfPolicy(None);
    scene.load(1000, 400.0);
    assert_eq!(scene.measured.wanted, 2, "it has failed: the number stays");
}

#[test]
fn a_policy_brings_replicas_from_none_and_back() {
    let mut scene = Scene::new(
        r#"{"min_replicas": 0, "max_replicas": 6, "upscale_delay_s": 10, "downscale_delay_s": 5}"#,
    );
    scene.measured.wish = Wish::OfPolicy(Some(0.0));
    scene.load(0, 100.0);
    assert_eq!(scene.measured.wanted, 0);
    scene.measured.wish = Wish::OfPolicy(Some(3.0));
    scene.load(0, 101.0);
    assert_eq!(scene.measured.wanted, 3, "without delay");
    scene.measured.wish = Wish::OfPolicy(Some(0.0));
    scene.load(0, 120.0);
    assert_eq!(scene.measured.wanted, 0, "to one and from there to none");
    scene.load(1, 121.0);
    assert_eq!(scene.measured.wanted, 1, "a request that waits is answered");
}
