//! Slots, the file and the sampler, without a node.

use std::{fs, os::unix::fs::FileExt as _, path::Path};

use eagleray_metrics::{Collector, Count, Histogram, Level, ProcessLabels, Sheet, registry};
use proptest::prelude::*;

use crate::{
    BUCKETS, FILE_BYTES, Mark, Moment, Query, Ring, Row, Sampler, Subject, TIERS, Window, layout,
    record::{self, Slot},
};

/// A time like any other.
const WALL_MS: u64 = 1_790_000_000_000;

fn at(seconds: u64) -> Moment {
    Moment {
        monotonic_ms: 5_000 + seconds * 1000,
        wall_ms: WALL_MS + seconds * 1000,
    }
}

fn ring(directory: &Path) -> Ring {
    let (ring, note) = Ring::open(&directory.join("series.ring")).unwrap();
    assert_eq!(note, None);
    ring
}

fn row(requests: u64) -> Row {
    let mut latency = [0; BUCKETS];
    latency[3] = requests;
    Row {
        requests,
        latency,
        wanted: Some(2),
        ready: Some(1),
        ..Row::default()
    }
}

/// As a node of this size has it: names that say something, ids without order, most of them at work.
fn big_slot(deployments: usize, replicas: usize) -> Slot {
    let mut random = fastrand::Rng::with_seed(7);
    let mut slot = Slot {
        index: 9,
        covered_ms: 2000,
        ..Slot::default()
    };
    let mut busy = |row: &mut Row| {
        row.requests = random.u64(0..3000);
        row.errors = random.u64(0..5);
        for bucket in 2..8 {
            row.latency[bucket] = random.u64(0..900);
        }
        row.ongoing = random.u64(0..50);
        row.cpu_ms = random.u64(0..2000);
        row.memory_kib = random.u64(40_000..900_000);
        (0..8).map(|_| random.alphanumeric()).collect::<String>()
    };
    for index in 0..deployments {
        let name = format!("Deployment{index}");
        let mut row = row(0);
        busy(&mut row);
        slot.rows.insert(
            Subject::new(&format!("application-{}", index / 10), &name, ""),
            row,
        );
    }
    for index in 0..replicas {
        let mut row = Row::default();
        let id = busy(&mut row);
        let index = index % deployments;
        let application = format!("application-{}", index / 10);
        slot.rows.insert(
            Subject::new(&application, &format!("Deployment{index}"), &id),
            row,
        );
    }
    slot
}

fn any_row() -> impl Strategy<Value = Row> {
    let numbers = proptest::array::uniform6(any::<u64>());
    let latency = proptest::array::uniform20(prop_oneof![Just(0), any::<u64>()]);
    (numbers, latency, any::<[Option<u64>; 2]>()).prop_map(|(numbers, latency, levels)| Row {
        requests: numbers[0],
        errors: numbers[1],
        queued: numbers[2],
        ongoing: numbers[3],
        cpu_ms: numbers[4],
        memory_kib: numbers[5],
        latency,
        wanted: levels[0],
        ready: levels[1],
    })
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let subject = ("[a-zä]{0,4}", "[a-z#é]{0,4}", "[0-9]{0,3}");
    let subject = subject.prop_map(|(a, d, r)| Subject::new(&a, &d, &r));
    let rows = proptest::collection::btree_map(subject, any_row(), 0..20);
    (any::<u64>(), any::<u64>(), any::<u32>(), rows).prop_map(
        |(index, covered_ms, left_out, rows)| Slot {
            index,
            covered_ms,
            left_out: left_out.into(),
            rows,
        },
    )
}

proptest! {
    #[test]
    fn a_slot_is_read_as_it_was_written(slot in any_slot()) {
        let bytes = record::encode(&slot, 1 << 20, true).unwrap();
        prop_assert_eq!(record::decode(&bytes, slot.index), Some(slot.clone()));
        prop_assert_eq!(record::decode(&bytes, slot.index.wrapping_add(1)), None);
    }

    #[test]
    fn a_torn_slot_is_none(slot in any_slot(), cut in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let whole = record::encode(&slot, 1 << 20, true).unwrap();
        let place = cut.index(whole.len());
        prop_assert_eq!(record::decode(&whole[..place], slot.index), None);
        let mut torn = whole.clone();
        torn[place] ^= flip;
        prop_assert_eq!(record::decode(&torn, slot.index), None);
    }

    #[test]
    fn what_checks_out_and_is_no_slot_is_none(junk in proptest::collection::vec(any::<u8>(), 0..200), rows in any::<u32>()) {
        let mut bytes = vec![0; 32];
        bytes[4..8].copy_from_slice(&(junk.len() as u32).to_le_bytes());
        bytes[28..32].copy_from_slice(&rows.to_le_bytes());
        bytes.extend_from_slice(&junk);
        let checksum = record::checksum(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        // Whatever comes of it, it comes.
        record::decode(&bytes, 0);
    }
}

#[test]
fn a_thousand_deployments_and_replicas_fit_and_what_does_not_is_counted() {
    let slot = big_slot(1000, 1000);
    for tier in &TIERS {
        let room = tier.slot_bytes as usize;
        let bytes = record::encode(&slot, room, tier.has_replicas).unwrap();
        assert!(bytes.len() <= room);
        let kept = record::decode(&bytes, slot.index).unwrap();
        let replicas = kept.rows.keys().filter(|one| one.is_replica()).count();
        println!(
            "{} s: {} bytes, {} rows, {replicas} replicas",
            tier.step_ms / 1000,
            bytes.len(),
            kept.rows.len()
        );
        assert_eq!(kept.rows.len() - replicas, 1000, "every deployment");
        let offered = if tier.has_replicas { 2000 } else { 1000 };
        assert_eq!(kept.rows.len() as u64 + kept.left_out, offered);
    }
    // Ten times that: those with the least to do have no room, replicas first.
    let slot = big_slot(10_000, 100);
    let bytes = record::encode(&slot, 36 * 1024, true).unwrap();
    let kept = record::decode(&bytes, slot.index).unwrap();
    assert!(!kept.rows.is_empty() && bytes.len() <= 36 * 1024);
    assert_eq!(kept.rows.len() as u64 + kept.left_out, 10_100);
    assert!(kept.rows.keys().all(|one| !one.is_replica()));
    let least_kept = kept.rows.values().map(Row::weight).min();
    let dropped = slot
        .rows
        .iter()
        .filter(|(one, _)| !one.is_replica() && !kept.rows.contains_key(*one));
    assert!(dropped.map(|(_, row)| row.weight()).max() <= least_kept);
}

#[test]
fn the_file_has_its_bound_and_slots_their_places_in_it() {
    const { assert!(FILE_BYTES <= 32 * 1024 * 1024) };
    let mut end = layout::HEADER_BYTES;
    for (tier, of) in TIERS.iter().enumerate() {
        for index in [0, 1, of.slots - 1] {
            assert_eq!(layout::slot_at(tier, index), end + index * of.slot_bytes);
            assert_eq!(
                layout::slot_at(tier, index + of.slots),
                layout::slot_at(tier, index)
            );
        }
        end += of.slots * of.slot_bytes;
    }
    assert_eq!(layout::mark_at(0), end);
    assert_eq!(
        layout::mark_at(layout::MARKS - 1) + layout::MARK_BYTES,
        FILE_BYTES
    );
}

#[test]
fn percentiles_are_exact_to_their_bucket() {
    let mut one = row(0);
    assert_eq!(one.quantile_ms(0.5), None);
    // 90 within 5 to 10 ms, 10 within 200 to 300.
    one.latency[3] = 90;
    one.latency[8] = 10;
    assert_eq!(one.quantile_ms(0.9), Some(10.0));
    assert_eq!(one.quantile_ms(0.45), Some(7.5));
    assert_eq!(one.quantile_ms(0.95), Some(250.0));
    // Beyond the last bound nobody knows how far.
    one.latency = [0; BUCKETS];
    one.latency[BUCKETS - 1] = 1;
    assert_eq!(one.quantile_ms(0.5), Some(600_000.0));
}

#[test]
fn a_file_of_another_layout_or_of_junk_is_begun_anew_and_a_short_one_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("series.ring");
    let slot = Slot {
        index: WALL_MS / 2000,
        covered_ms: 2000,
        rows: [(Subject::new("shop", "Rank", ""), row(3))].into(),
        ..Slot::default()
    };
    let ring = ring(directory.path());
    ring.put(0, &slot).unwrap();
    assert!(
        Ring::open(&path)
            .unwrap_err()
            .to_string()
            .contains("another node")
    );
    drop(ring);
    let (ring, note) = Ring::open(&path).unwrap();
    assert_eq!((ring.slot(0, slot.index), note), (Some(slot.clone()), None));
    drop(ring);
    // Somebody has cut it behind the slot.
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(layout::slot_at(1, 0))
        .unwrap();
    let (ring, note) = Ring::open(&path).unwrap();
    assert_eq!((ring.slot(0, slot.index), note), (Some(slot.clone()), None));
    assert_eq!(fs::metadata(&path).unwrap().len(), FILE_BYTES);
    drop(ring);
    for junk in [
        &b"eglser\0\x02another layout"[..],
        b"",
        b"short",
        &vec![7; 100_000],
    ] {
        fs::write(&path, junk).unwrap();
        let (ring, note) = Ring::open(&path).unwrap();
        assert_eq!(note.is_some(), !junk.is_empty());
        assert_eq!(ring.slot(0, slot.index), None);
        assert!(ring.marks().is_empty());
        assert_eq!(fs::metadata(&path).unwrap().len(), FILE_BYTES);
    }
}

#[test]
fn damage_costs_the_slots_that_it_hits() {
    let directory = tempfile::tempdir().unwrap();
    let ring = ring(directory.path());
    let slots: Vec<Slot> = (0..10)
        .map(|index| Slot {
            index,
            covered_ms: 2000,
            rows: [(Subject::new("shop", "Rank", ""), row(index))].into(),
            ..Slot::default()
        })
        .collect();
    for slot in &slots {
        ring.put(0, slot).unwrap();
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .open(ring.path())
        .unwrap();
    file.write_all_at(&vec![0xff; 40_000], layout::slot_at(0, 4) + 20)
        .unwrap();
    let found: Vec<u64> = (0..10)
        .filter(|index| ring.slot(0, *index).is_some())
        .collect();
    assert_eq!(found, [0, 1, 2, 3, 6, 7, 8, 9]);
}

/// A replica, a proxy and a controller that count.
struct Node {
    directory: tempfile::TempDir,
    collector: Collector,
    requests: Count,
    latency: Histogram,
    wanted: Level,
    _sheets: Sheet,
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sheet = Sheet::create(directory.path(), "test").unwrap();
        registry::REPLICA_STARTS
            .family(&sheet)
            .count(&["Rank", "r1", "shop"])
            .add(1);
        let wanted = registry::REPLICAS_WANTED
            .family(&sheet)
            .level(&["Rank", "shop"]);
        wanted.add(3);
        Self {
            collector: Collector::new(directory.path(), ProcessLabels::default()),
            requests: registry::REPLICA_REQUESTS
                .family(&sheet)
                .count(&["Rank", "r1", "shop", "/"]),
            latency: registry::REPLICA_LATENCY
                .family(&sheet)
                .histogram(&["Rank", "r1", "shop", "/"]),
            wanted,
            directory,
            _sheets: sheet,
        }
    }

    fn answer(&self, count: u64, ms: f64) {
        for _ in 0..count {
            self.requests.add(1);
            self.latency.observe(ms);
        }
    }
}

/// So many seconds back, the first, second and third tier answers.
const OF_TIERS: [u64; 3] = [500, 3600, 80_000];

/// What was asked at this second, of the last so many.
fn window(ring: &Ring, second: u64, last: u64, step_ms: Option<u64>) -> Window {
    let now_ms = WALL_MS + second * 1000;
    let query = Query {
        from_ms: now_ms - last * 1000,
        to_ms: now_ms,
        now_ms,
        step_ms,
        replicas: true,
        ..Query::default()
    };
    Window::read(ring, &query).unwrap()
}

fn total(window: &Window, replica: &str) -> Row {
    let found = window
        .series
        .iter()
        .find(|one| &*one.subject.replica == replica && &*one.subject.deployment == "Rank");
    found.map(|one| one.total.clone()).unwrap_or_default()
}

#[test]
fn what_is_counted_between_two_samples_is_in_all_tiers_and_for_the_deployment_too() {
    let mut node = Node::new();
    let home = tempfile::tempdir().unwrap();
    let ring = ring(home.path());
    let mut sampler = Sampler::new(ring.clone(), at(0));
    for second in (2..=60).step_by(2) {
        node.answer(4, 7.0);
        node.answer(1, 250.0);
        sampler.sample(&mut node.collector, at(second)).unwrap();
    }
    for last in OF_TIERS {
        let window = window(&ring, 61, last, None);
        let replicas = if last == OF_TIERS[2] {
            &[""][..]
        } else {
            &["r1", ""]
        };
        for &replica in replicas {
            let total = total(&window, replica);
            assert_eq!(
                (total.requests, total.latency[3], total.latency[8]),
                (150, 120, 30),
                "{last}"
            );
        }
        assert_eq!(total(&window, "").wanted, Some(3));
        assert_eq!(window.covered_ms.iter().sum::<u64>(), 60_000);
        let latencies: Vec<u64> = window.series[0]
            .steps
            .iter()
            .flatten()
            .map(|row| row.latency[8])
            .collect();
        assert_eq!(latencies.iter().sum::<u64>(), 30);
    }
    assert!(total(&window(&ring, 61, 60, None), "r1").memory_kib > 0);
    // An hour later, the shortest slots are too young to tell.
    assert_eq!(total(&window(&ring, 3600, 3600, None), "").requests, 150);
    let late = window(&ring, 3600, 500, None);
    assert!(late.series.is_empty() && late.covered_ms.iter().all(|ms| *ms == 0));
}

#[test]
fn a_sampler_that_starts_again_goes_on_with_the_slots_that_are_there() {
    let mut node = Node::new();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("series.ring");
    for (start, end) in [(0, 8), (12, 16)] {
        // Killed: nothing is written at the end.
        let (ring, note) = Ring::open(&path).unwrap();
        assert_eq!(note, None);
        let mut sampler = Sampler::new(ring, at(start));
        if start > 0 {
            // Of a new node, all processes are new.
            node = Node::new();
        }
        for second in (start + 2..=end).step_by(2) {
            node.answer(5, 7.0);
            sampler.sample(&mut node.collector, at(second)).unwrap();
        }
    }
    let (ring, _) = Ring::open(&path).unwrap();
    for last in OF_TIERS {
        let window = window(&ring, 17, last, None);
        assert_eq!(total(&window, "").requests, 30, "{last}");
        assert_eq!(
            window.covered_ms.iter().sum::<u64>(),
            12_000,
            "the gap is not measured"
        );
    }
}

#[test]
fn a_clock_that_is_set_moves_what_comes_and_changes_no_rate() {
    let mut node = Node::new();
    let home = tempfile::tempdir().unwrap();
    let ring = ring(home.path());
    let mut sampler = Sampler::new(ring.clone(), at(0));
    let mut offset = 0_i64;
    for second in (2..=40).step_by(2) {
        // An hour into the future, and half a minute later back again.
        offset = match second {
            10 => 3_600_000,
            30 => 0,
            _ => offset,
        };
        node.answer(10, 7.0);
        let now = at(second);
        let wall_ms = now.wall_ms.checked_add_signed(offset).unwrap();
        sampler
            .sample(&mut node.collector, Moment { wall_ms, ..now })
            .unwrap();
    }
    let window = window(&ring, 41, 41, Some(2_000));
    // Samples of 2 to 8, and of 30 to 40. The others are in the future.
    assert_eq!(total(&window, "").requests, 100);
    for (row, covered) in window.series[0].steps.iter().zip(&window.covered_ms) {
        let rate = row.as_ref().map(|row| row.requests * 1000 / covered);
        assert!(rate.is_none_or(|rate| rate == 5), "{row:?} in {covered} ms");
    }
}

#[test]
fn a_controller_that_is_away_leaves_what_it_said_and_one_that_is_back_is_believed() {
    let mut node = Node::new();
    let home = tempfile::tempdir().unwrap();
    let ring = ring(home.path());
    let mut sampler = Sampler::new(ring.clone(), at(0));
    sampler.sample(&mut node.collector, at(2)).unwrap();
    let kept = fs::read_dir(node.directory.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let aside = home.path().join("aside");
    fs::rename(&kept, &aside).unwrap();
    sampler.sample(&mut node.collector, at(4)).unwrap();
    let newest = |second| total(&window(&ring, second, 1, Some(2_000)), "").wanted;
    assert_eq!(newest(5), Some(3), "while nobody says otherwise");
    fs::rename(&aside, &kept).unwrap();
    node.wanted.hide(true);
    sampler.sample(&mut node.collector, at(6)).unwrap();
    assert_eq!(newest(7), None, "it is not deployed any more");
}

#[test]
fn a_file_that_cannot_be_written_costs_no_sample_of_the_next() {
    let mut node = Node::new();
    let home = tempfile::tempdir().unwrap();
    let first = ring(home.path());
    let mut sampler = Sampler::new(first.clone(), at(0));
    node.answer(5, 7.0);
    fs::remove_file(first.path()).unwrap();
    // Said, and a new one is made, which has all that comes, for whoever reads too.
    sampler.sample(&mut node.collector, at(2)).unwrap();
    node.answer(7, 7.0);
    sampler.sample(&mut node.collector, at(4)).unwrap();
    assert_eq!(total(&window(&first, 5, 4, None), "").requests, 7);
    drop(sampler);
    let path = first.path().to_owned();
    drop(first);
    let (again, note) = Ring::open(&path).unwrap();
    assert_eq!(note, None);
    assert_eq!(total(&window(&again, 5, 4, None), "").requests, 7);
    assert_eq!(
        total(&window(&again, 5, OF_TIERS[2], None), "").requests,
        12
    );
}

#[test]
fn a_sheet_that_cannot_be_read_for_a_while_does_not_count_twice() {
    let mut node = Node::new();
    let home = tempfile::tempdir().unwrap();
    let ring = ring(home.path());
    let mut sampler = Sampler::new(ring.clone(), at(0));
    node.answer(50, 7.0);
    sampler.sample(&mut node.collector, at(2)).unwrap();
    let aside = home.path().join("aside");
    fs::rename(node.directory.path(), &aside).unwrap();
    assert!(sampler.sample(&mut node.collector, at(4)).is_err());
    fs::create_dir(node.directory.path()).unwrap();
    sampler.sample(&mut node.collector, at(6)).unwrap();
    fs::remove_dir(node.directory.path()).unwrap();
    fs::rename(&aside, node.directory.path()).unwrap();
    node.answer(3, 7.0);
    sampler.sample(&mut node.collector, at(8)).unwrap();
    assert_eq!(total(&window(&ring, 9, 8, None), "").requests, 53);
}

#[test]
fn an_answer_has_its_bounds() {
    let home = tempfile::tempdir().unwrap();
    let ring = ring(home.path());
    let now_ms = WALL_MS;
    let ask = |from_ms: u64, to_ms: u64, step_ms: Option<u64>| {
        let query = Query {
            from_ms,
            to_ms,
            now_ms,
            step_ms,
            ..Query::default()
        };
        Window::read(&ring, &query).map(|window| window.covered_ms.len())
    };
    assert!(ask(now_ms, now_ms, None).unwrap_err().contains("before"));
    assert!(ask(0, now_ms, None).unwrap() <= 400);
    assert!(ask(0, u64::MAX, Some(u64::MAX)).unwrap() <= 2);
    assert!(ask(u64::MAX - 1, u64::MAX, Some(1)).is_ok());
    for age in [1, 1000, 600_000, 7_000_000, 86_000_000] {
        assert!(ask(now_ms - age, now_ms, None).unwrap() <= 402, "{age}");
        assert!(ask(now_ms - age, now_ms, Some(1)).unwrap() <= 402, "{age}");
    }
    // Many series: fewer points each would be another question, so the ones with the least to do are left out.
    let index = (now_ms - 100_000) / 2_000;
    ring.put(
        0,
        &Slot {
            index,
            ..big_slot(900, 0)
        },
    )
    .unwrap();
    let query = Query {
        from_ms: now_ms - 500_000,
        to_ms: now_ms,
        now_ms,
        step_ms: Some(2_000),
        ..Query::default()
    };
    let window = Window::read(&ring, &query).unwrap();
    assert!(window.series.len() * window.covered_ms.len() <= crate::MOST_CELLS);
    assert_eq!(window.series.len() as u64 + window.left_out, 900);
    let one = Query {
        deployment: Some("Deployment7".to_owned()),
        ..query
    };
    let window = Window::read(&ring, &one).unwrap();
    assert_eq!((window.series.len(), window.left_out), (1, 0));
}

#[test]
fn marks_are_kept_by_number_and_found_by_what_they_are_of() {
    let home = tempfile::tempdir().unwrap();
    let ring = ring(home.path());
    let mark = |number: u64, application: &str| Mark {
        number,
        time_ms: WALL_MS + number,
        kind: "deploy".to_owned(),
        level: "info".to_owned(),
        application: application.to_owned(),
        deployment: String::new(),
        replica: String::new(),
        message: "r1 runs ".repeat(100) + "ä",
    };
    for number in [1, 2, 3, 3, 3 + layout::MARKS] {
        ring.mark(&mark(number, if number == 2 { "chat" } else { "shop" }))
            .unwrap();
    }
    let numbers: Vec<u64> = ring.marks().iter().map(|mark| mark.number).collect();
    assert_eq!(
        numbers,
        [1, 2, 3 + layout::MARKS],
        "each once, the newest of its place"
    );
    assert!(ring.marks()[0].message.starts_with("r1 runs r1"));
    let query = Query {
        application: Some("shop".to_owned()),
        deployment: Some("Rank".to_owned()),
        from_ms: WALL_MS,
        to_ms: WALL_MS + 1000,
        now_ms: WALL_MS + 1000,
        ..Query::default()
    };
    let window = Window::read(&ring, &query).unwrap();
    let numbers: Vec<u64> = window.marks.iter().map(|mark| mark.number).collect();
    assert_eq!(numbers, [1], "of the application, and so of all in it");
}
