//! What Prometheus reads: text 0.0.4, and `OpenMetrics` 1.0 for who asks for it.
//!
//! Families stand in the order of their names and series in that of their labels, so that two scrapes can be compared.

use std::{collections::BTreeMap, fmt::Write as _};

use rustc_hash::FxHashSet;

use crate::{
    exemplar::{self, Exemplar},
    layout::Kind,
    merged::{self, All, Key, Merged, Named},
    reader, registry,
};

/// Bytes of an answer from which on no more of user code's metrics are written.
const MOST_TEXT: usize = 64 * 1024 * 1024;
/// The label of what had no place of its own.
const OVERFLOW: &str = "overflow";

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

/// The text, and whether all is in it.
pub(crate) fn write(all: &All<'_>, options: Options<'_>) -> (String, bool) {
    let mut out = String::with_capacity(256 * 1024);
    let mut is_whole = true;
    for (name, named, is_ours) in without_clashes(all) {
        let mut writer = Writer {
            out: &mut out,
            options,
            name: format!("{}{name}", options.prefix),
            most: if is_ours { usize::MAX } else { MOST_TEXT },
        };
        is_whole &= writer.named(named);
    }
    if options.format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    (out, is_whole)
}

/// All but what has, in the text, a name that another has: two of one name would be refused as a whole by who reads it. What is
/// ours goes first. Each with whether it is ours.
fn without_clashes<'a>(all: &'a All<'_>) -> Vec<(&'a str, &'a Named<'a>, bool)> {
    let ours: FxHashSet<&str> = registry::ALL.iter().map(|one| one.name).collect();
    let named = all.by_name.iter();
    let named = named.map(|(name, named)| (&**name, named, ours.contains(&**name)));
    let (mut shown, others): (Vec<_>, Vec<_>) = named.partition(|(_, _, is_ours)| *is_ours);
    let names = |name: &str, kind: Kind| -> Vec<String> {
        let stem = name.strip_suffix("_total").unwrap_or(name);
        match kind {
            Kind::Count | Kind::Amount => ["", "_total", "_created"]
                .map(|ending| format!("{stem}{ending}"))
                .into(),
            Kind::Level | Kind::Gauge => vec![name.to_owned()],
            Kind::Histogram | Kind::Traced => ["", "_bucket", "_sum", "_count", "_created"]
                .map(|ending| format!("{name}{ending}"))
                .into(),
        }
    };
    let mut taken: FxHashSet<String> = shown
        .iter()
        .flat_map(|(name, named, _)| names(name, named.kind))
        .collect();
    for (name, named, _) in others {
        let wanted = names(name, named.kind);
        if wanted.iter().any(|one| taken.contains(one)) {
            tracing::debug!(name, "a metric is not shown: another has its name");
        } else {
            taken.extend(wanted);
            shown.push((name, named, false));
        }
    }
    shown.sort_unstable_by_key(|(name, ..)| *name);
    shown
}

/// Writes the families of one name.
struct Writer<'o> {
    out: &'o mut String,
    options: Options<'o>,
    name: String,
    /// No further series is begun from so many bytes on.
    most: usize,
}

impl Writer<'_> {
    /// Whether all of it was written.
    fn named(&mut self, named: &Named<'_>) -> bool {
        if self.out.len() >= self.most {
            return false;
        }
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
        // Two that differ in their labels, or one that has the label of what had no place, may come to the same line.
        let may_repeat = named.families.len() > 1
            || named
                .families
                .iter()
                .any(|one| one.labels.iter().any(|label| label == OVERFLOW));
        if may_repeat {
            return self.without_repeats(named);
        }
        named
            .families
            .iter()
            .all(|family| self.family(named.kind, family))
    }

    fn family(&mut self, kind: Kind, family: &Merged<'_>) -> bool {
        let mut series: Vec<(&Key<'_>, &Vec<u64>)> = family.series.iter().collect();
        // All that had no place comes last.
        series.sort_unstable_by_key(|((values, is_overflow), _)| (*is_overflow, &**values));
        let bounds = bounds(family);
        let mut labels = String::new();
        series.into_iter().all(|(key, words)| {
            labels.clear();
            push_labels(&mut labels, family, key);
            self.series(kind, &labels, &bounds, words)
        })
    }

    /// As [`Writer::family`] of several. What has the same labels is added up; where it has other bounds, the first stays.
    fn without_repeats(&mut self, named: &Named<'_>) -> bool {
        let mut lines: BTreeMap<String, (usize, Vec<u64>)> = BTreeMap::new();
        for (index, family) in named.families.iter().enumerate() {
            #[expect(
                clippy::iter_over_hash_type,
                reason = "sums do not depend on the order"
            )]
            for (key, words) in &family.series {
                let (first, sum) = lines
                    .entry(sorted_labels(family, key))
                    .or_insert_with(|| (index, Vec::new()));
                if sum.is_empty() {
                    sum.clone_from(words);
                } else if named.families[*first].bounds == family.bounds {
                    let bounds = family.bounds.len();
                    merged::add(named.kind, bounds, sum, words.iter().copied());
                }
            }
        }
        let bounds: Vec<Vec<String>> = named.families.iter().map(bounds).collect();
        lines
            .iter()
            .all(|(labels, (index, words))| self.series(named.kind, labels, &bounds[*index], words))
    }

    /// Whether there was room for it.
    fn series(&mut self, kind: Kind, labels: &str, bounds: &[String], words: &[u64]) -> bool {
        if self.out.len() >= self.most {
            return false;
        }
        match kind {
            Kind::Histogram | Kind::Traced => self.histogram(labels, bounds, words),
            _ => self.single(kind, labels, words),
        }
        true
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
        // One more than bounds, then the sum, then exemplars if they are wanted.
        let (counted, exemplars) = words.split_at((bounds.len() + 2).min(words.len()));
        let Some((sum, buckets)) = counted.split_last() else {
            return;
        };
        let mut exemplars = exemplars.chunks_exact(exemplar::WORDS);
        let mut count = 0_u64;
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        for (bucket, bound) in buckets.iter().zip(bounds) {
            count = count.wrapping_add(*bucket);
            self.begin("_bucket", labels, bound);
            push_whole(self.out, count);
            if let Some(found) = exemplars.next().and_then(exemplar::read) {
                push_exemplar(self.out, &found);
            }
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

fn bounds(family: &Merged<'_>) -> Vec<String> {
    let bounds = family.bounds.iter();
    bounds.map(|bound| format!("{bound:?}")).collect()
}

/// As [`push_labels`], in the order of the names: the same for the same labels, in whatever order they were declared.
fn sorted_labels(family: &Merged<'_>, key: &Key<'_>) -> String {
    let (values, is_overflow) = key;
    let mut labels = String::new();
    if *is_overflow {
        push_label(&mut labels, OVERFLOW, "true");
    }
    let names = family.labels.iter().map(|name| &**name);
    let mut pairs: Vec<(&str, &str)> = names.zip(reader::values(values)).collect();
    pairs.sort_unstable();
    for (name, value) in pairs {
        push_label(&mut labels, name, value);
    }
    labels
}

/// `name="value",...`; a label without a value is none.
fn push_labels(labels: &mut String, family: &Merged<'_>, key: &Key<'_>) {
    let (values, is_overflow) = key;
    if *is_overflow {
        push_label(labels, OVERFLOW, "true");
        return;
    }
    for (name, value) in family.labels.iter().zip(reader::values(values)) {
        push_label(labels, name, value);
    }
}

fn push_label(labels: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(name);
    labels.push_str("=\"");
    escape(labels, value, true);
    labels.push('"');
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

/// ` # {trace_id="..."} 0.25 1700000000.125`
fn push_exemplar(out: &mut String, found: &Exemplar) {
    out.push_str(" # {");
    out.push_str(found.label);
    out.push_str("=\"");
    escape(out, found.id(), true);
    out.push_str("\"} ");
    push_number(out, found.number);
    // Writing to a string does not fail.
    write!(out, " {}.{:03}", found.at_ms / 1000, found.at_ms % 1000).ok();
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
