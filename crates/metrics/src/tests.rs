//! From counting to text, by the public interface, with files as a node has them.

use std::{fs, path::Path, process::Command};

use crate::{Collector, Family, FamilySpec, Format, Kind, Sheet, TextOptions, layout, reader};

fn spec<'a>(kind: Kind, name: &'a str, labels: &'a [&'a str]) -> FamilySpec<'a> {
    FamilySpec {
        name,
        help: "What it is.",
        kind,
        labels,
        bounds: if kind == Kind::Histogram {
            &[1.0, 2.5]
        } else {
            &[]
        },
        most: 3,
    }
}

fn text(directory: &Path) -> String {
    text_of(&mut Collector::new(directory))
}

fn text_of(collector: &mut Collector) -> String {
    let options = TextOptions {
        format: Format::Prometheus,
        prefix: "",
    };
    collector.text(options).unwrap()
}

/// A number that belongs to no process any more.
fn dead_pid() -> u32 {
    let mut child = Command::new("sh").args(["-c", ":"]).spawn().unwrap();
    child.wait().unwrap();
    child.id()
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
        Collector::new(directory.path()).text(options).unwrap(),
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
    let mut collector = Collector::new(directory.path());
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
    let mut collector = Collector::new(directory.path());
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
    let mut collector = Collector::new(directory.path());
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
