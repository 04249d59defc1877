//! From counting to text, by the public interface, with files as a node has them.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{OnceLock, atomic::Ordering},
    time::Duration,
};

use crate::{
    Collector, ExemplarId, Family, FamilySpec, Format, Kind, ProcessLabels, Sheet, TextOptions,
    layout, reader,
};

fn spec<'a>(kind: Kind, name: &'a str, labels: &'a [&'a str]) -> FamilySpec<'a> {
    FamilySpec {
        name,
        help: "What it is.",
        kind,
        labels,
        bounds: if kind.is_histogram() {
            &[1.0, 2.5]
        } else {
            &[]
        },
        most: 3,
    }
}

fn text(directory: &Path) -> String {
    text_of(&mut Collector::new(directory, ProcessLabels::default()))
}

fn text_of(collector: &mut Collector) -> String {
    let options = TextOptions {
        format: Format::Prometheus,
        prefix: "",
    };
    collector.text(options).unwrap()
}

/// A number that belongs to no process any more, or to one that has begun later.
fn dead_pid() -> u32 {
    static DEAD: OnceLock<u32> = OnceLock::new();
    *DEAD.get_or_init(|| {
        let mut child = Command::new("sh").args(["-c", ":"]).spawn().unwrap();
        child.wait().unwrap();
        child.id()
    })
}

/// The sheet says that a process made it which is gone.
fn kill(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let at = layout::PID_AT;
        bytes[at..at + 4].copy_from_slice(&dead_pid().to_ne_bytes());
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn what_two_sheets_count_under_the_same_labels_is_added_up() {
    let directory = tempfile::tempdir().unwrap();
    let families: Vec<Family> = (0..2)
        .map(|_| {
            let sheet = Sheet::create(directory.path(), "test").unwrap();
            sheet.family(&spec(Kind::Count, "requests", &["route", "status"]))
        })
        .collect();
    families[0].count(&["/a", "200"]).add_alone(2);
    families[1].count(&["/a", "200"]).add(3);
    families[1].count(&["/a", "500"]).add(1);
    assert_eq!(
        text(directory.path()),
        "# HELP requests_total What it is.\n# TYPE requests_total counter\n\
         requests_total{route=\"/a\",status=\"200\"} 5\nrequests_total{route=\"/a\",status=\"500\"} 1\n"
    );
}

#[test]
fn every_kind_has_its_text_and_labels_are_escaped() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    let level = sheet.family(&spec(Kind::Level, "b_level", &[]));
    level.level(&[]).add(5);
    level.level(&[]).add_alone(-7);
    let gauge = sheet.family(&spec(Kind::Gauge, "c_gauge", &["a"]));
    gauge.gauge(&["x\"\\\n"]).set(1.5);
    gauge.gauge(&[""]).set(f64::INFINITY);
    gauge.gauge(&["gone"]).hide(true);
    sheet
        .family(&spec(Kind::Amount, "a_amount_total", &[]))
        .amount(&[])
        .add(0.25);
    let histogram = sheet.family(&spec(Kind::Histogram, "d_time", &["a"]));
    let cell = histogram.histogram(&["y"]);
    for number in [0.5, 1.0, 2.0, 100.0, f64::NAN] {
        cell.observe(number);
        cell.observe_alone(number);
    }
    let text = text(directory.path());
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        samples,
        [
            "a_amount_total 0.25",
            "b_level -2",
            "c_gauge +Inf",
            "c_gauge{a=\"x\\\"\\\\\\n\"} 1.5",
            "d_time_bucket{a=\"y\",le=\"1.0\"} 4",
            "d_time_bucket{a=\"y\",le=\"2.5\"} 6",
            "d_time_bucket{a=\"y\",le=\"+Inf\"} 8",
            "d_time_sum{a=\"y\"} 207",
            "d_time_count{a=\"y\"} 8",
        ]
    );
}

#[test]
fn open_metrics_names_counters_without_their_ending_and_says_where_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    let family = sheet.family(&spec(Kind::Count, "requests", &[]));
    family.count(&[]).add(1);
    let options = TextOptions {
        format: Format::OpenMetrics,
        prefix: "ray_",
    };
    assert_eq!(
        Collector::new(directory.path(), ProcessLabels::default())
            .text(options)
            .unwrap(),
        "# HELP ray_requests What it is.\n# TYPE ray_requests counter\nray_requests_total 1\n# EOF\n"
    );
    for (accept, format) in [
        ("", Format::Prometheus),
        ("*/*", Format::Prometheus),
        ("text/plain;version=0.0.4", Format::Prometheus),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            Format::OpenMetrics,
        ),
        (
            "text/plain, application/openmetrics-text;q=0.3",
            Format::Prometheus,
        ),
        ("application/openmetrics-text;q=0", Format::Prometheus),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
}

#[test]
fn sets_of_label_values_beyond_the_bound_count_together() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    let family = sheet.family(&spec(Kind::Count, "users", &["user"]));
    for user in 0..1000 {
        family.count(&[&user.to_string()]).add(1);
    }
    // Those that have a place keep it.
    family.count(&["0"]).add(1);
    let text = text(directory.path());
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        samples,
        [
            "users_total{user=\"0\"} 2",
            "users_total{user=\"1\"} 1",
            "users_total{user=\"2\"} 1",
            "users_total{overflow=\"true\"} 997",
        ]
    );
}

#[test]
fn totals_of_the_dead_stay_their_gauges_go_and_their_files_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(directory.path(), ProcessLabels::default());
    for _ in 0..3 {
        let sheet = Sheet::create(directory.path(), "test").unwrap();
        let count = |name| sheet.family(&spec(Kind::Count, name, &["a"])).count(&["x"]);
        count("requests").add(2);
        sheet
            .family(&spec(Kind::Level, "ongoing", &[]))
            .level(&[])
            .add(1);
        let histogram = sheet.family(&spec(Kind::Histogram, "time", &[]));
        histogram.histogram(&[]).observe(2.0);
        assert!(text_of(&mut collector).contains("ongoing 1\n"));
        kill(directory.path());
        collector.bury().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    let text = text_of(&mut collector);
    assert!(text.contains("requests_total{a=\"x\"} 6\n"), "{text}");
    assert!(text.contains("time_bucket{le=\"2.5\"} 3\n"), "{text}");
    assert!(text.contains("time_sum 6\n"), "{text}");
    assert!(!text.contains("ongoing"), "{text}");
}

#[test]
fn what_names_a_replica_is_kept_apart_when_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(directory.path(), ProcessLabels::default());
    for replica in ["one", "two"] {
        let sheet = Sheet::create(directory.path(), "test").unwrap();
        let family = sheet.family(&spec(Kind::Count, "requests", &["replica"]));
        family.count(&[replica]).add(2);
        kill(directory.path());
        collector.bury().unwrap();
    }
    let text = text_of(&mut collector);
    assert!(
        text.contains("requests_total{replica=\"one\"} 2\n"),
        "{text}"
    );
    assert!(
        text.contains("requests_total{replica=\"two\"} 2\n"),
        "{text}"
    );
}

#[test]
fn a_name_that_two_use_for_different_types_is_the_first_ones() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    sheet.family(&spec(Kind::Count, "x", &[])).count(&[]).add(1);
    sheet
        .family(&spec(Kind::Gauge, "x", &[]))
        .gauge(&[])
        .set(7.0);
    let text = text(directory.path());
    assert_eq!(text.matches("# TYPE").count(), 1, "{text}");
    assert!(text.contains("x_total 1\n"), "{text}");
}

#[test]
fn names_that_are_one_in_the_text_come_once_and_ours_first() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    for name in [
        "a_total",
        "a",
        "eagleray_events_total",
        "serve_num_http_requests",
    ] {
        let family = sheet.family(&spec(Kind::Gauge, name, &[]));
        family.gauge(&[]).set(7.0);
    }
    sheet
        .family(&spec(Kind::Count, "eagleray_events", &[]))
        .count(&[])
        .add(1);
    sheet
        .family(&spec(Kind::Amount, "a", &["x"]))
        .amount(&[])
        .add(1.0);
    sheet
        .family(&spec(Kind::Histogram, "a", &["x"]))
        .histogram(&[])
        .observe(1.0);
    let text = text(directory.path());
    let mut heads: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .collect();
    assert_eq!(heads.len(), 4, "{text}");
    heads.dedup_by_key(|head| head.split(' ').nth(2));
    assert_eq!(heads.len(), 4, "{text}");
    assert!(text.contains("eagleray_events_total 1\n"), "{text}");
}

#[test]
fn sheets_beyond_what_one_answer_may_have_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let sheets: Vec<Sheet> = (0..5)
        .map(|_| Sheet::create(directory.path(), "test").unwrap())
        .collect();
    for sheet in &sheets {
        let family = sheet.family(&spec(Kind::Count, "x", &[]));
        family.count(&[]).add(1);
    }
    let mut collector = Collector::new(directory.path(), ProcessLabels::default());
    assert!(text_of(&mut collector).contains("x_total 5\n"));
    let bytes = fs::read_dir(directory.path()).unwrap().next().unwrap();
    let one = bytes.unwrap().metadata().unwrap().len() as usize;
    collector.read_at_most(3 * one);
    assert!(text_of(&mut collector).contains("x_total 3\n"));
}

#[test]
fn a_sheet_that_is_full_loses_what_is_new_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    let long = "v".repeat(layout::LONGEST_TEXT);
    let family = sheet.family(&FamilySpec {
        most: usize::MAX,
        ..spec(Kind::Count, "x", &["a", "b"])
    });
    family.count(&["first", ""]).add(1);
    for number in 0..layout::MOST_BYTES / layout::LONGEST_TEXT + 10 {
        family.count(&[&number.to_string(), &long]).add(1);
    }
    family.count(&["first", ""]).add(1);
    assert!(text(directory.path()).contains("x_total{a=\"first\"} 2\n"));
}

#[test]
fn what_is_no_file_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    sheet.family(&spec(Kind::Count, "x", &[])).count(&[]).add(1);
    let pipe = directory
        .path()
        .join(format!("pipe-{}-0", std::process::id()));
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    fs::create_dir(directory.path().join("folder-1-0")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", directory.path().join("zero-1-0")).unwrap();
    let mut collector = Collector::new(directory.path(), ProcessLabels::default());
    collector.bury().unwrap();
    assert!(text_of(&mut collector).contains("x_total 1\n"));
}

#[test]
fn bytes_that_are_no_sheet_are_read_without_harm() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    let family = sheet.family(&spec(Kind::Histogram, "time", &["a", "b"]));
    family.histogram(&["x", "y"]).observe(1.0);
    family.histogram(&["", "z"]).observe(1.0);
    let path = fs::read_dir(directory.path()).unwrap().next().unwrap();
    let whole = fs::read(path.unwrap().path()).unwrap();
    let used = reader::read(&whole).unwrap().families[0].series.len();
    assert_eq!(used, 2);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..8) {
            let at = random.usize(8..600);
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(0..bytes.len()));
        reader::read(&bytes);
    }
}

/// A histogram and a counter of one replica, killed with what it had counted if that is wanted.
fn replica(directory: &Path, replica: &str) -> Sheet {
    let sheet = Sheet::create(directory, "replica").unwrap();
    let labels = &["deployment", "replica", "application"];
    let time = sheet.family(&spec(Kind::Histogram, "time", labels));
    time.histogram(&["D", replica, "A"]).observe(2.0);
    let requests = sheet.family(&spec(Kind::Count, "requests", labels));
    requests.count(&["D", replica, "A"]).add(1);
    sheet
}

#[test]
fn which_metrics_say_their_replica_is_chosen_and_what_is_the_same_then_is_added_up() {
    for (labels, time, requests) in [
        (
            ProcessLabels::Single,
            "time_count{deployment=\"D\",application=\"A\"} 3\n",
            "requests_total{deployment=\"D\",replica=\"2\",application=\"A\"} 1\n",
        ),
        (
            ProcessLabels::All,
            "time_count{deployment=\"D\",replica=\"0\",application=\"A\"} 1\n",
            "requests_total{deployment=\"D\",replica=\"0\",application=\"A\"} 1\n",
        ),
        (
            ProcessLabels::None,
            "time_count{deployment=\"D\",application=\"A\"} 3\n",
            "requests_total{deployment=\"D\",application=\"A\"} 3\n",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut collector = Collector::new(directory.path(), labels);
        for name in ["0", "1"] {
            replica(directory.path(), name);
            kill(directory.path());
            collector.bury().unwrap();
        }
        let _living = replica(directory.path(), "2");
        let text = text_of(&mut collector);
        assert!(text.contains(time), "{labels:?}: {text}");
        assert!(text.contains(requests), "{labels:?}: {text}");
    }
}

#[test]
fn a_process_that_is_not_told_from_others_leaves_its_totals_to_all() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(directory.path(), ProcessLabels::default());
    for actor in ["DRIVER", "", "DRIVER", "a", "b"] {
        let sheet = Sheet::create(directory.path(), "driver").unwrap();
        let calls = sheet.family(&FamilySpec {
            most: usize::MAX,
            ..spec(Kind::Count, "calls", &["actor_id", "n"])
        });
        calls.count(&[actor]).add(1);
        // As many as are kept apart, so that the next such sheet takes the place of the one before.
        for number in 0..4096 * usize::from(actor == "a" || actor == "b") {
            calls.count(&[actor, &number.to_string()]).add(1);
        }
        kill(directory.path());
        collector.bury().unwrap();
    }
    let text = text_of(&mut collector);
    assert!(
        text.contains("calls_total{actor_id=\"DRIVER\"} 2\n"),
        "{text}"
    );
}

#[test]
fn no_line_comes_twice_however_two_declare_the_same_name() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    let count = |labels: &[&str], values: &[&str]| {
        let family = sheet.family(&spec(Kind::Count, "x", labels));
        family.count(values).add(1);
    };
    count(&["a", "b"], &["1", "2"]);
    count(&["b", "a"], &["2", "1"]);
    count(&[], &[]);
    count(&["a"], &[""]);
    count(&["overflow"], &["true"]);
    let full = sheet.family(&FamilySpec {
        most: 0,
        ..spec(Kind::Count, "x", &["a"])
    });
    full.count(&["7"]).add(1);
    let other_bounds = sheet.family(&FamilySpec {
        bounds: &[5.0],
        ..spec(Kind::Histogram, "y", &[])
    });
    let family = sheet.family(&spec(Kind::Histogram, "y", &[]));
    family.histogram(&[]).observe(2.0);
    other_bounds.histogram(&[]).observe(3.0);
    let text = text(directory.path());
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        samples,
        [
            "x_total 2",
            "x_total{a=\"1\",b=\"2\"} 2",
            "x_total{overflow=\"true\"} 2",
            "y_bucket{le=\"5.0\"} 1",
            "y_bucket{le=\"+Inf\"} 1",
            "y_sum 3",
            "y_count 1",
        ]
    );
}

#[test]
fn what_a_name_is_says_the_process_that_has_lived_longest() {
    let older = reader::Owner { started: 1, pid: 9 };
    assert!(older < reader::Owner { started: 2, pid: 1 });
    let directory = tempfile::tempdir().unwrap();
    let mut sheets = Vec::new();
    for number in 0..20 {
        let sheet = Sheet::create(directory.path(), &format!("test{number}")).unwrap();
        let kind = if number == 13 {
            Kind::Gauge
        } else {
            Kind::Count
        };
        let family = sheet.family(&spec(kind, "x", &[]));
        match kind {
            Kind::Gauge => family.gauge(&[]).set(7.0),
            _ => family.count(&[]).add(1),
        }
        sheets.push(sheet);
    }
    // One more process, which is alive and older than this one.
    let path = fs::read_dir(directory.path()).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        path.file_name()?
            .to_str()?
            .starts_with("test13-")
            .then_some(path)
    });
    let path = path.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[layout::PID_AT..layout::PID_AT + 4].copy_from_slice(&1_u32.to_ne_bytes());
    let started = crate::liveness::started(1).unwrap();
    bytes[layout::STARTED_AT..layout::STARTED_AT + 8].copy_from_slice(&started.to_ne_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(text(directory.path()).contains("# TYPE x gauge\nx 7\n"));
}

#[test]
fn a_family_that_prometheus_would_refuse_ends_the_reading_of_its_sheet() {
    for (kind, labels) in [
        (Kind::Count, &["a", "a"][..]),
        (Kind::Histogram, &["le"]),
        (Kind::Count, &["no-label"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let sheet = Sheet::create(directory.path(), "test").unwrap();
        let good = sheet.family(&spec(Kind::Count, "good", &[]));
        good.count(&[]).add(1);
        let family = sheet.family(&spec(kind, "bad", labels));
        match kind {
            Kind::Histogram => family.histogram(&["x"]).observe(1.0),
            _ => family.count(&["x", "y"]).add(1),
        }
        let text = text(directory.path());
        assert!(text.contains("good_total 1\n"), "{text}");
        assert!(!text.contains("bad"), "{text}");
    }
}

#[test]
fn one_name_in_very_many_shapes_is_read_in_good_time() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    for number in 0..60_000 {
        let label = format!("label_{number}");
        let family = sheet.family(&spec(Kind::Count, "x", &[&label]));
        family.count(&["v"]).add(1);
    }
    let text = text(directory.path());
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("x_total"))
            .count(),
        64
    );
}

#[test]
fn sets_of_the_dead_beyond_the_bound_count_together_and_the_sum_stays() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(directory.path(), ProcessLabels::default());
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    let family = sheet.family(&FamilySpec {
        most: usize::MAX,
        ..spec(Kind::Count, "x", &["user"])
    });
    for user in 0..70_000 {
        family.count(&[&user.to_string()]).add(1);
    }
    kill(directory.path());
    let text = text_of(&mut collector);
    let samples = text.lines().filter(|line| line.starts_with("x_total"));
    let numbers = samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(numbers.sum::<u64>(), 70_000);
    assert!(text.contains("x_total{overflow=\"true\"} 4464\n"));
}

fn open_metrics(directory: &Path) -> String {
    let options = TextOptions {
        format: Format::OpenMetrics,
        prefix: "",
    };
    let mut collector = Collector::new(directory, ProcessLabels::default());
    collector.text(options).unwrap()
}

#[test]
fn a_bucket_names_a_request_of_the_last_second_to_who_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    let family = sheet.family(&spec(Kind::Traced, "time", &["a"]));
    let cell = family.histogram(&["x"]);
    let count = |milliseconds, at_ms, id: ExemplarId<'_>| {
        let slot = cell.observe_traced(Duration::from_millis(milliseconds), at_ms);
        if let Some(slot) = slot {
            slot.write(id);
        }
    };
    let trace = [b'a'; 32];
    count(1, 5_000, ExemplarId::Trace(&trace));
    count(1, 5_999, ExemplarId::Request(b"too-soon"));
    count(2, 5_999, ExemplarId::Request(b"of-another-bucket"));
    count(3, 7_000, ExemplarId::Request(&[b'l'; 41]));
    let text = open_metrics(directory.path());
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        samples,
        [
            &format!(
                "time_bucket{{a=\"x\",le=\"1.0\"}} 2 # {{trace_id=\"{}\"}} 1 5.000",
                "a".repeat(32)
            ),
            "time_bucket{a=\"x\",le=\"2.5\"} 3 # {request_id=\"of-another-bucket\"} 2 5.999",
            "time_bucket{a=\"x\",le=\"+Inf\"} 4",
            "time_sum{a=\"x\"} 7",
            "time_count{a=\"x\"} 4",
        ]
    );
    assert!(
        !text_of(&mut Collector::new(
            directory.path(),
            ProcessLabels::default()
        ))
        .contains(" # ")
    );
    count(1, 6_000, ExemplarId::Request(b"later"));
    assert!(open_metrics(directory.path()).contains("3 # {request_id=\"later\"} 1 6.000\n"));
}

#[test]
fn of_two_processes_the_later_exemplar_is_shown_and_those_of_the_dead_are_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(directory.path(), ProcessLabels::default());
    let one = |at_ms: u64, id: &[u8]| {
        let sheet = Sheet::create(directory.path(), "test").unwrap();
        let cell = sheet
            .family(&spec(Kind::Traced, "time", &[]))
            .histogram(&[]);
        cell.observe_traced_alone(Duration::from_millis(2), at_ms)
            .unwrap()
            .write(ExemplarId::Request(id));
        sheet
    };
    drop(one(9_000, b"dead"));
    kill(directory.path());
    collector.bury().unwrap();
    let _living = [one(3_000, b"b"), one(4_000, b"c"), one(2_000, b"a")];
    let options = TextOptions {
        format: Format::OpenMetrics,
        prefix: "",
    };
    let text = collector.text(options).unwrap();
    assert!(
        text.contains("time_bucket{le=\"2.5\"} 4 # {request_id=\"c\"} 2 4.000\n"),
        "{text}"
    );
}

#[test]
fn a_slot_that_is_not_of_one_request_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let sheet = Sheet::create(directory.path(), "test").unwrap();
    let cell = sheet
        .family(&spec(Kind::Traced, "time", &[]))
        .histogram(&[]);
    let slot = cell
        .observe_traced(Duration::from_millis(1), 5_000)
        .unwrap();
    let words = slot.words;
    slot.write(ExemplarId::Request(b"\"id\\"));
    let text = open_metrics(directory.path());
    assert!(
        text.contains(" # {request_id=\"\\\"id\\\\\"} 1 5.000\n"),
        "{text}"
    );
    for word in words {
        let before = word.fetch_xor(1 << 17, Ordering::Relaxed);
        assert!(!open_metrics(directory.path()).contains(" # {"));
        word.store(before, Ordering::Relaxed);
    }
    assert!(open_metrics(directory.path()).contains(" # {"));
}
