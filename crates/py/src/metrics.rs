//! Metrics of user code, and the sheet of a replica: what `eagleray.serve.metrics` counts in.
//!
//! Whoever counts holds the interpreter lock, so a fork never comes between the lock of a family and its release.

use std::path::Path;

use eagleray_metrics::{Family, FamilySpec, Kind, registry};
use pyo3::{exceptions::PyValueError, prelude::*};

/// Where this process counts. Without a directory, or where no file can be made in it, that is memory nobody reads.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Sheet(pub(crate) eagleray_metrics::Sheet);

#[pymethods]
impl Sheet {
    #[new]
    fn new(directory: &str, role: &str) -> Self {
        if directory.is_empty() {
            return Self(eagleray_metrics::Sheet::of_nobody());
        }
        let made = eagleray_metrics::Sheet::create(Path::new(directory), role);
        Self(made.unwrap_or_else(|_| eagleray_metrics::Sheet::of_nobody()))
    }

    /// One of Eagleray's own that Python counts, by its name.
    fn own(&self, name: &str) -> PyResult<MetricFamily> {
        let found = registry::ALL.iter().find(|one| one.name == name);
        let one = found.ok_or_else(|| PyValueError::new_err(format!("{name} is not declared")))?;
        Ok(MetricFamily {
            family: one.family(&self.0),
            kind: one.kind,
        })
    }

    /// `kind`: counter, gauge or histogram.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what comes from Python is owned"
    )]
    fn family(
        &self,
        kind: &str,
        name: &str,
        help: &str,
        labels: Vec<String>,
        bounds: Vec<f64>,
        most: usize,
    ) -> PyResult<MetricFamily> {
        let kind = match kind {
            "counter" => Kind::Amount,
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            other => {
                return Err(PyValueError::new_err(format!(
                    "{other} is no kind of metric"
                )));
            }
        };
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let family = self.0.family(&FamilySpec {
            name,
            help,
            kind,
            labels: &labels,
            bounds: &bounds,
            most,
        });
        Ok(MetricFamily { family, kind })
    }
}

/// A metric of this process.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct MetricFamily {
    family: Family,
    kind: Kind,
}

#[pymethods]
impl MetricFamily {
    /// The series with these values, in the order of the labels.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what comes from Python is owned"
    )]
    fn series(&self, values: Vec<String>) -> MetricSeries {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        MetricSeries(match self.kind {
            Kind::Gauge | Kind::Level => Cell::Gauge(self.family.gauge(&values)),
            Kind::Histogram | Kind::Traced => Cell::Histogram(self.family.histogram(&values)),
            Kind::Amount | Kind::Count => Cell::Counter(self.family.amount(&values)),
        })
    }
}

/// One series.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct MetricSeries(Cell);

#[derive(Debug)]
enum Cell {
    Counter(eagleray_metrics::Amount),
    Gauge(eagleray_metrics::Gauge),
    Histogram(eagleray_metrics::Histogram),
}

#[pymethods]
impl MetricSeries {
    /// Adds it to a counter, sets a gauge to it, or puts it into a histogram's bucket.
    fn record(&self, number: f64) {
        match &self.0 {
            Cell::Counter(counter) => counter.add(number),
            Cell::Gauge(gauge) => gauge.set(number),
            Cell::Histogram(histogram) => histogram.observe(number),
        }
    }
}

/// Names that Eagleray has for metrics of its own, as they are declared and with the ending that counters get.
#[pyfunction]
pub(crate) fn metric_names() -> Vec<String> {
    let of = |one: &registry::Definition| [one.name.to_owned(), format!("{}_total", one.name)];
    registry::ALL.iter().flat_map(of).collect()
}
