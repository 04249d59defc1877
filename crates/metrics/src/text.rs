//! What Prometheus reads: text 0.0.4, and `OpenMetrics` 1.0 for who asks for it.
//!
//! Families stand in the order of their names and series in that of their labels, so that two scrapes can be compared.

use std::fmt::Write as _;

use rustc_hash::FxHashSet;

use crate::{
    layout::Kind,
    merged::{All, Key, Merged, Named},
    reader, registry,
};

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 0.0.4.
    Prometheus,
    /// 1.0.
    OpenMetrics,
}

impl Format {
    /// From an `Accept` header: `OpenMetrics` if it is named with at least the weight of plain text.
    pub fn accepted(accept: &str) -> Self {
        let weight = |wanted: &str| {
            accept
                .split(',')
                .filter_map(|one| {
                    let mut parts = one.split(';').map(str::trim);
                    let kind = parts.next()?;
                    let weight = parts
                        .find_map(|part| part.strip_prefix("q="))
                        .map_or(Some(1.0), |text| text.parse().ok())?;
                    kind.eq_ignore_ascii_case(wanted).then_some(weight)
                })
                .fold(0.0, f64::max)
        };
        let open = weight("application/openmetrics-text");
        if open > 0.0 && open >= weight("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How the text is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    pub format: Format,
    /// Stands before every name: `ray_`, or nothing.
    pub prefix: &'a str,
}

pub(crate) fn write(all: &All<'_>, options: Options<'_>) -> String {
    let mut out = String::with_capacity(256 * 1024);
    for (name, named) in without_clashes(all) {
        Writer {
            out: &mut out,
            options,
            name: format!("{}{name}", options.prefix),
        }
        .named(named);
    }
    if options.format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

/// All but what has, in the text, a name that another has: two of one name would be refused as a whole by who reads it. What is
/// ours goes first.
fn without_clashes<'a>(all: &'a All<'_>) -> Vec<(&'a str, &'a Named<'a>)> {
    let ours: FxHashSet<&str> = registry::ALL.iter().map(|one| one.name).collect();
    let named = all.by_name.iter().map(|(name, named)| (&**name, named));
    let (mut shown, others): (Vec<_>, Vec<_>) = named.partition(|(name, _)| ours.contains(name));
    let names = |name: &str, kind: Kind| -> Vec<String> {
        let stem = name.strip_suffix("_total").unwrap_or(name);
        match kind {
            Kind::Count | Kind::Amount => vec![stem.to_owned(), format!("{stem}_total")],
            Kind::Level | Kind::Gauge => vec![name.to_owned()],
            Kind::Histogram => ["", "_bucket", "_sum", "_count"]
                .map(|ending| format!("{name}{ending}"))
                .into(),
        }
    };
    let mut taken: FxHashSet<String> = shown
        .iter()
        .flat_map(|(name, named)| names(name, named.kind))
        .collect();
    for (name, named) in others {
        let wanted = names(name, named.kind);
        if wanted.iter().any(|one| taken.contains(one)) {
            tracing::debug!(name, "a metric is not shown: another has its name");
        } else {
            taken.extend(wanted);
            shown.push((name, named));
        }
    }
    shown.sort_unstable_by_key(|(name, _)| *name);
    shown
}

/// Writes the families of one name.
struct Writer<'o> {
    out: &'o mut String,
    options: Options<'o>,
    name: String,
}

impl Writer<'_> {
    fn named(&mut self, named: &Named<'_>) {
        let is_counter = matches!(named.kind, Kind::Count | Kind::Amount);
        let stem = self.name.strip_suffix("_total").filter(|_| is_counter);
        let stem = stem.unwrap_or(&self.name).to_owned();
        let sample = if is_counter {
            format!("{stem}_total")
        } else {
            stem.clone()
        };
        let head = match self.options.format {
            Format::Prometheus => &sample,
            Format::OpenMetrics => &stem,
        };
        self.out.push_str("# HELP ");
        self.out.push_str(head);
        self.out.push(' ');
        escape(
            self.out,
            &named.help,
            self.options.format == Format::OpenMetrics,
        );
        self.out.push_str("\n# TYPE ");
        self.out.push_str(head);
        self.out.push(' ');
        self.out.push_str(named.kind.word());
        self.out.push('\n');
        self.name = sample;
        for family in &named.families {
            self.family(named.kind, family);
        }
    }

    fn family(&mut self, kind: Kind, family: &Merged<'_>) {
        let mut series: Vec<(&Key<'_>, &Vec<u64>)> = family.series.iter().collect();
        // All that had no place comes last.
        series.sort_unstable_by_key(|((values, is_overflow), _)| (*is_overflow, &**values));
        let bounds: Vec<String> = family
            .bounds
            .iter()
            .map(|bound| format!("{bound:?}"))
            .collect();
        let mut labels = String::new();
        for (key, words) in series {
            labels.clear();
            push_labels(&mut labels, family, key);
            match kind {
                Kind::Histogram => self.histogram(&labels, &bounds, words),
                _ => self.single(kind, &labels, words),
            }
        }
    }

    fn single(&mut self, kind: Kind, labels: &str, words: &[u64]) {
        let Some(word) = words.first() else { return };
        self.begin("", labels, "");
        match kind {
            Kind::Count => push_whole(self.out, *word),
            Kind::Level => {
                let mut digits = itoa::Buffer::new();
                self.out.push_str(digits.format(word.cast_signed()));
            }
            _ => push_number(self.out, f64::from_bits(*word)),
        }
        self.out.push('\n');
    }

    fn histogram(&mut self, labels: &str, bounds: &[String], words: &[u64]) {
        let Some((sum, buckets)) = words.split_last() else {
            return;
        };
        let mut count = 0_u64;
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        for (bucket, bound) in buckets.iter().zip(bounds) {
            count = count.wrapping_add(*bucket);
            self.begin("_bucket", labels, bound);
            push_whole(self.out, count);
            self.out.push('\n');
        }
        self.begin("_sum", labels, "");
        push_number(self.out, f64::from_bits(*sum));
        self.out.push('\n');
        self.begin("_count", labels, "");
        push_whole(self.out, count);
        self.out.push('\n');
    }

    /// `name_suffix{labels,le="bound"} `
    fn begin(&mut self, suffix: &str, labels: &str, bound: &str) {
        let out = &mut *self.out;
        out.push_str(&self.name);
        out.push_str(suffix);
        if !labels.is_empty() || !bound.is_empty() {
            out.push('{');
            out.push_str(labels);
            if !bound.is_empty() {
                out.push_str(if labels.is_empty() { "le=\"" } else { ",le=\"" });
                out.push_str(bound);
                out.push('"');
            }
            out.push('}');
        }
        out.push(' ');
    }
}

/// `name="value",...`; a label without a value is none.
fn push_labels(labels: &mut String, family: &Merged<'_>, key: &Key<'_>) {
    let (values, is_overflow) = key;
    if *is_overflow {
        labels.push_str("overflow=\"true\"");
        return;
    }
    for (name, value) in family.labels.iter().zip(reader::values(values)) {
        if value.is_empty() {
            continue;
        }
        if !labels.is_empty() {
            labels.push(',');
        }
        labels.push_str(name);
        labels.push_str("=\"");
        escape(labels, value, true);
        labels.push('"');
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    if !text.contains(['\\', '\n', '"']) {
        out.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

fn push_whole(out: &mut String, number: u64) {
    let mut digits = itoa::Buffer::new();
    out.push_str(digits.format(number));
}

fn push_number(out: &mut String, number: f64) {
    if number.is_nan() {
        out.push_str("NaN");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    } else if number.fract() == 0.0 && number.abs() < 9e15 {
        let mut digits = itoa::Buffer::new();
        out.push_str(digits.format(number as i64));
    } else {
        // Writing to a string does not fail.
        write!(out, "{number:?}").ok();
    }
}
