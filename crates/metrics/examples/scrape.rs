//! What a scrape of a large node costs: 1,000 deployments with traffic and 1,000 replicas, in files as processes write them.
//!
//! `cargo run --release -p eagleray-metrics --example scrape` prints one line of JSON: milliseconds of the best and the median of
//! 20 scrapes (reading, text, gzip), and the bytes of the answer, plain and gzipped.

use std::{
    error::Error,
    io::Write as _,
    time::{Duration, Instant},
};

use eagleray_metrics::{Collector, Format, ProcessLabels, Sheet, TextOptions, registry};
use flate2::{Compression, write::GzEncoder};

const DEPLOYMENTS: usize = 1000;
const SCRAPES: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let names: Vec<String> = (0..DEPLOYMENTS)
        .map(|number| format!("deployment-{number}"))
        .collect();
    // Held until the end: a sheet whose process ends is the same, so these stand for processes.
    let mut sheets = Vec::new();
    let mut random = fastrand::Rng::with_seed(1);
    let mut time = || Duration::from_micros(random.u64(200..2_000_000));
    let proxy = Sheet::create(directory.path(), "proxy")?;
    let requests = registry::HTTP_REQUESTS.family(&proxy);
    let latency = registry::HTTP_LATENCY.family(&proxy);
    for name in &names {
        requests.count(&[name, "GET", name, "200"]).add_alone(1000);
        let histogram = latency.histogram(&["GET", name, name, "200"]);
        for _ in 0..100 {
            histogram.observe_time_alone(time());
        }
    }
    sheets.push(proxy);
    for (number, name) in names.iter().enumerate() {
        let sheet = Sheet::create(directory.path(), "replica")?;
        let replica = format!("replica-{number}");
        let labels = [name.as_str(), &replica, name];
        registry::REPLICA_STARTS
            .family(&sheet)
            .count(&labels)
            .add(1);
        registry::REPLICA_HEALTHY
            .family(&sheet)
            .level(&labels)
            .set(1);
        registry::REPLICA_PROCESSING
            .family(&sheet)
            .level(&labels)
            .set(3);
        let requests = registry::REPLICA_REQUESTS.family(&sheet);
        requests.count(&[name, &replica, name, name]).add(1000);
        let latency = registry::REPLICA_LATENCY.family(&sheet);
        let histogram = latency.histogram(&[name, &replica, name, name]);
        for _ in 0..100 {
            histogram.observe_time(time());
        }
        sheets.push(sheet);
    }
    let mut collector = Collector::new(directory.path(), ProcessLabels::default());
    let mut times = Vec::new();
    let (mut plain, mut packed) = (0, 0);
    for _ in 0..SCRAPES {
        let began = Instant::now();
        let options = TextOptions {
            format: Format::Prometheus,
            prefix: "",
        };
        let text = collector.text(options)?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes())?;
        packed = encoder.finish()?.len();
        plain = text.len();
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[0], times[SCRAPES / 2]);
    writeln!(
        std::io::stdout(),
        "{{\"best_ms\": {best:.1}, \"median_ms\": {median:.1}, \"plain_bytes\": {plain}, \"gzip_bytes\": {packed}}}"
    )?;
    Ok(())
}
