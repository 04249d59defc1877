//! Which metrics say the process that they are of: the labels `replica` and `actor_id`.
//!
//! Whoever counts says both wherever they belong, so a sheet has all that can be shown. What is shown is chosen where it is
//! read: a label that is left out is taken out of each series, and what is the same then is added up, of the living and the
//! dead alike. A histogram of twenty series for every replica that ever was is what fills a Prometheus, so by default
//! none names one.

use std::borrow::Cow;

use crate::{
    layout::Kind,
    reader::{Read, ReadFamily, ReadSeries, values},
};

/// Labels that name one process.
const OF_A_PROCESS: &[&str] = &["replica", "actor_id"];
/// What stands there for processes that are not told apart: proxies, and whoever is no replica.
const OF_NOBODY: &[&str] = &["", "DRIVER"];

/// Which metrics have the labels `replica` and `actor_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProcessLabels {
    /// Counters and gauges.
    #[default]
    Single,
    /// Histograms, too.
    All,
    /// None.
    None,
}

impl ProcessLabels {
    const fn are_on(self, kind: Kind) -> bool {
        match self {
            Self::Single => !kind.is_histogram(),
            Self::All => true,
            Self::None => false,
        }
    }

    /// Takes out what is not to be shown.
    pub(crate) fn apply(self, read: &mut Read<'_>) {
        for family in &mut read.families {
            if self.are_on(family.kind) || !family.labels.iter().any(is_of_a_process) {
                continue;
            }
            let stays: Vec<bool> = family
                .labels
                .iter()
                .map(|label| !is_of_a_process(label))
                .collect();
            for series in &mut family.series {
                if !series.is_overflow {
                    series.values = Cow::Owned(without(&series.values, &stays));
                }
            }
            family.labels.retain(|label| !is_of_a_process(label));
        }
    }
}

fn is_of_a_process(label: &&str) -> bool {
    OF_A_PROCESS.contains(label)
}

/// The values that stay, as they lay.
fn without(bytes: &[u8], stays: &[bool]) -> Vec<u8> {
    let mut left = Vec::with_capacity(bytes.len());
    for (value, _) in values(bytes).zip(stays).filter(|(_, stays)| **stays) {
        // As long as it was where it lay.
        left.extend_from_slice(&(value.len() as u16).to_ne_bytes());
        left.extend_from_slice(value.as_bytes());
    }
    left
}

/// Whether a series belongs to one process: it cannot be added to that of another.
pub(crate) fn names_a_process(family: &ReadFamily<'_>, series: &ReadSeries<'_>) -> bool {
    let index = family.labels.iter().position(is_of_a_process);
    index.is_some_and(|index| {
        let value = values(&series.values).nth(index);
        value.is_some_and(|value| !OF_NOBODY.contains(&value))
    })
}
