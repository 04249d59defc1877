//! What series cost a node: a sample, and an answer, of 100 and of 1,000 deployments at work, with a replica each, in files as
//! processes write them.
//!
//! `cargo run --release -p eagleray-series --example sample` prints one line of JSON a size: milliseconds of processor time that a
//! sample and an answer of ten minutes take, and the bytes that the file has on disk. A sample is taken every 2 s.

use std::{
    error::Error, io::Write as _, iter, os::unix::fs::MetadataExt as _, path::Path, time::Duration,
};

use eagleray_metrics::{Collector, Count, Histogram, ProcessLabels, Sheet, registry};
use eagleray_series::{Moment, Query, Ring, SAMPLE_EVERY_MS, Sampler, Window};
use rustix::time::{ClockId, clock_gettime};

const SAMPLES: u64 = 100;
const WALL_MS: u64 = 1_790_000_000_000;

/// A replica, as its process counts.
struct Replica {
    requests: Count,
    latency: Histogram,
    _sheet: Sheet,
}

fn main() -> Result<(), Box<dyn Error>> {
    for deployments in [100, 1000] {
        measure(deployments)?;
    }
    Ok(())
}

fn measure(deployments: usize) -> Result<(), Box<dyn Error>> {
    let sheets = tempfile::tempdir()?;
    let home = tempfile::tempdir()?;
    let names: Vec<String> = (0..deployments)
        .map(|number| format!("deployment-{number}"))
        .collect();
    let mut random = fastrand::Rng::with_seed(1);
    let controller = Sheet::create(sheets.path(), "controller")?;
    let wanted = registry::REPLICAS_WANTED.family(&controller);
    let mut replicas = Vec::new();
    for name in &names {
        wanted.level(&[name, name]).set(1);
        let id: String = iter::repeat_with(|| random.alphanumeric())
            .take(8)
            .collect();
        replicas.push(replica(sheets.path(), name, &id)?);
    }
    let path = home.path().join("series.ring");
    let (ring, _) = Ring::open(&path)?;
    let at = |sample: u64| Moment {
        monotonic_ms: sample * SAMPLE_EVERY_MS,
        wall_ms: WALL_MS + sample * SAMPLE_EVERY_MS,
    };
    let mut collector = Collector::new(sheets.path(), ProcessLabels::default());
    let mut sampler = Sampler::new(ring.clone(), at(0));
    let mut sampling = Duration::ZERO;
    for sample in 1..=SAMPLES {
        for replica in &replicas {
            for _ in 0..random.u64(1..100) {
                replica.requests.add(1);
                replica
                    .latency
                    .observe_time(Duration::from_micros(random.u64(200..90_000)));
            }
        }
        let began = processor_time();
        sampler.sample(&mut collector, at(sample))?;
        sampling += processor_time().saturating_sub(began);
    }
    let now_ms = at(SAMPLES).wall_ms + 1;
    let query = Query {
        from_ms: now_ms - 600_000,
        to_ms: now_ms,
        now_ms,
        ..Query::default()
    };
    let began = processor_time();
    let window = Window::read(&ring, &query)?;
    let answering = processor_time().saturating_sub(began);
    writeln!(
        std::io::stdout(),
        "{{\"deployments\": {deployments}, \"sample_ms\": {:.2}, \"answer_ms\": {:.1}, \"left_out\": {}, \"bytes_on_disk\": {}}}",
        sampling.as_secs_f64() * 1e3 / SAMPLES as f64,
        answering.as_secs_f64() * 1e3,
        window.left_out,
        path.metadata()?.blocks() * 512,
    )?;
    Ok(())
}

fn replica(directory: &Path, name: &str, id: &str) -> Result<Replica, Box<dyn Error>> {
    let sheet = Sheet::create(directory, "replica")?;
    let labels = [name, id, name];
    registry::REPLICA_STARTS
        .family(&sheet)
        .count(&labels)
        .add(1);
    registry::REPLICA_PROCESSING
        .family(&sheet)
        .level(&labels)
        .set(3);
    Ok(Replica {
        requests: registry::REPLICA_REQUESTS
            .family(&sheet)
            .count(&[name, id, name, name]),
        latency: registry::REPLICA_LATENCY
            .family(&sheet)
            .histogram(&[name, id, name, name]),
        _sheet: sheet,
    })
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}
