//! Clients that wait for their answers, replicas that take their time to start, and the number of replicas that follows:
//! it never goes above what the clients need, and it does not go up and down.

use std::{collections::VecDeque, time::Duration};

use eagleray_autoscaler::{Capacity, Config, Measured, State, Wish, decide};
use proptest::prelude::*;

/// How many clients there are at which second.
#[derive(Clone, Debug)]
enum Shape {
    Steps(Vec<(u32, u32)>),
    Bursts {
        low: u32,
        high: u32,
        every: u32,
        long: u32,
    },
    Sawtooth {
        high: u32,
        every: u32,
    },
    /// A mean, and each second a number up to a fifth above or below.
    Noise {
        mean: u32,
        random: Vec<u32>,
    },
}

impl Shape {
    fn at(&self, second: u32) -> u32 {
        match self {
            Self::Steps(steps) => {
                let mut left = second;
                for (clients, seconds) in steps.iter().cycle() {
                    if left < *seconds {
                        return *clients;
                    }
                    left -= seconds;
                }
                0
            }
            Self::Bursts {
                low,
                high,
                every,
                long,
            } => {
                if second % every < *long {
                    *high
                } else {
                    *low
                }
            }
            Self::Sawtooth { high, every } => high * (second % every) / every,
            Self::Noise { mean, random } => {
                let share = random[second as usize % random.len()] % 401;
                (mean * (800 + share) + 500) / 1000
            }
        }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        prop::collection::vec((0..200_u32, 1..900_u32), 1..8).prop_map(Shape::Steps),
        (0..20_u32, 20..200_u32, 10..900_u32, 1..60_u32).prop_map(|(low, high, every, long)| {
            Shape::Bursts {
                low,
                high,
                every,
                long,
            }
        }),
        (1..200_u32, 10..2000_u32).prop_map(|(high, every)| Shape::Sawtooth { high, every }),
        noise(),
    ]
}

fn noise() -> impl Strategy<Value = Shape> {
    let random = prop::collection::vec(any::<u32>(), 50..1500);
    (5..200_u32, random).prop_map(|(mean, random)| Shape::Noise { mean, random })
}

#[derive(Clone, Debug)]
struct Setup {
    json: String,
    min: u32,
    target: u32,
    start: u32,
    /// Share of a client's time that is between its requests, in percent.
    idle: u32,
}

fn setups() -> impl Strategy<Value = Setup> {
    (0..3_u32, 1..10_u32, 0..120_u32, prop_oneof![Just(0_u32), 1..80_u32]).prop_map(
        |(min, target, start, idle)| {
            let json = format!(
                r#"{{"min_replicas": {min}, "max_replicas": 100, "target_ongoing_requests": {target}}}"#
            );
            Setup {
                json,
                min,
                target,
                start,
                idle,
            }
        },
    )
}

/// Two hours, a look a second; (second, replicas) of each change.
fn run(shape: &Shape, setup: &Setup) -> Vec<(u32, u32)> {
    let config = Config::of_json(&setup.json).expect("it is a config");
    let bounds = config.bounds(Capacity::default());
    let mut state = State::default();
    let mut wanted = config.first(Capacity::default());
    let mut ready = wanted;
    let mut starting: VecDeque<u32> = VecDeque::new();
    let mut steps = Vec::new();
    for second in 0..7200_u32 {
        while starting.front().is_some_and(|at| *at <= second) {
            starting.pop_front();
            ready += 1;
        }
        // A client that thinks is not ongoing, and the more wait the fewer think.
        let clients = shape.at(second);
        let thinking = clients * setup.idle * (second % 3) / 200;
        let ongoing = u64::from(clients - thinking.min(clients));
        let running = ongoing.min(u64::from(ready) * u64::from(setup.target) * 2);
        let measured = Measured {
            queued: ongoing - running,
            running,
            ready,
            wanted,
            heard_all: true,
            wish: Wish::OfLoad,
        };
        let now = Duration::from_secs(second.into());
        let decision = decide(&config, bounds, &mut state, measured, now);
        if decision.replicas != wanted {
            steps.push((second, decision.replicas));
            for _ in wanted..decision.replicas {
                starting.push_back(second + setup.start);
            }
            for _ in decision.replicas..wanted {
                if starting.pop_back().is_none() {
                    ready -= 1;
                }
            }
            wanted = decision.replicas;
        }
    }
    steps
}

/// (second) of each change that goes the other way than the one before.
fn reversals(steps: &[(u32, u32)], first: u32) -> Vec<u32> {
    let before = std::iter::once(first).chain(steps.iter().map(|step| step.1));
    let ways: Vec<(u32, bool)> = steps
        .iter()
        .zip(before)
        .map(|((second, after), before)| (*second, *after > before))
        .collect();
    let turns = ways.windows(2).filter(|pair| pair[0].1 != pair[1].1);
    turns.map(|pair| pair[1].0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clients_that_wait_never_get_more_replicas_than_they_need(shape in shapes(), setup in setups()) {
        let most = (0..7200).map(|second| shape.at(second)).max().unwrap_or_default();
        let needed = most.div_ceil(setup.target).max(setup.min).clamp(1, 100);
        let steps = run(&shape, &setup);
        let got = steps.iter().map(|step| step.1).max().unwrap_or_default();
        prop_assert!(got <= needed, "{got} of {needed}: {steps:?}");
    }

    #[test]
    fn noise_turns_it_once_a_downscale_delay_at_most(shape in noise(), setup in setups()) {
        let steps = run(&shape, &Setup { idle: 0, ..setup.clone() });
        let turns = reversals(&steps, setup.min);
        for pair in turns.windows(2) {
            prop_assert!(pair[1] - pair[0] >= 600, "{turns:?}: {steps:?}");
        }
    }
}

/// How far an open load (as many requests come as come, whoever waits) goes beyond what it needs once it is served.
#[test]
fn the_overshoot_under_an_open_load_is_bounded_by_its_queue() {
    println!("requests/s  start s  needed  most  overshoot");
    for rate in [10_u64, 40, 160] {
        for start in [0_u64, 10, 60] {
            let most = open(rate, start);
            // A request takes 0.5 s, two at a time are aimed at.
            let needed = (rate / 4) as u32;
            println!(
                "{rate:>10}  {start:>7}  {needed:>6}  {most:>4}  {:>8.1}x",
                f64::from(most) / f64::from(needed)
            );
            assert!(most >= needed);
            // While it waits for the delay and the starts, all that comes queues, and asks for replicas of its own.
            assert!(
                u64::from(most)
                    <= (rate * (30 + 3 + start) / 2)
                        .max(u64::from(needed))
                        .min(100)
            );
        }
    }
}

fn open(rate: u64, start: u64) -> u32 {
    let config = Config::of_json(r#"{"max_replicas": 100, "target_ongoing_requests": 2}"#)
        .expect("it is a config");
    let bounds = config.bounds(Capacity::default());
    let (mut state, mut wanted, mut most) = (State::default(), 1_u32, 1_u32);
    let mut starts: VecDeque<(u64, u32)> = VecDeque::new();
    let (mut ready, mut ongoing) = (1_u64, 0_u64);
    for tenth in 0..10 * 1800_u64 {
        while starts.front().is_some_and(|one| one.0 <= tenth) {
            ready += u64::from(starts.pop_front().map_or(0, |one| one.1));
        }
        ongoing += rate / 10;
        let served = (ready * 5 * 2).min(ongoing * 2) / 10;
        ongoing -= served.min(ongoing);
        let running = ongoing.min(ready * 5);
        let measured = Measured {
            queued: ongoing - running,
            running,
            ready: ready as u32,
            wanted,
            heard_all: true,
            wish: Wish::OfLoad,
        };
        let replicas = decide(
            &config,
            bounds,
            &mut state,
            measured,
            Duration::from_millis(tenth * 100),
        )
        .replicas;
        if replicas > wanted {
            starts.push_back((tenth + start * 10, replicas - wanted));
        } else if replicas < wanted {
            ready = ready.saturating_sub(u64::from(wanted - replicas)).max(1);
        }
        wanted = replicas;
        most = most.max(wanted);
    }
    most
}
