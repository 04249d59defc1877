//! How much room the blobs of revisions take, so that the history of an application stays within its own.

use std::collections::{BTreeMap, BTreeSet};

use super::history::History;

/// Bytes of the blobs of one application's revisions, code and arguments: the oldest are forgotten for those that come.
const BYTES_KEPT: u64 = 1024 * 1024 * 1024;
/// The present revision and the one before stay, whatever their size.
const ALWAYS_KEPT: usize = 2;

/// Bytes of blobs, by name.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    known: BTreeMap<String, u64>,
    news: bool,
}

impl Sizes {
    pub(crate) fn learn(&mut self, sizes: impl IntoIterator<Item = (String, u64)>) {
        let before = self.known.len();
        self.known.extend(sizes);
        self.news |= self.known.len() != before;
    }

    /// Whether there are others than when this was asked last.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Forgets blobs that nobody names.
    pub(crate) fn keep(&mut self, names: &BTreeSet<&str>) {
        self.known.retain(|name, _| names.contains(name.as_str()));
    }

    /// The number of the oldest deploy that there is room for. A blob that several name counts once; one whose size is
    /// not known counts nothing.
    pub(crate) fn first_with_room(&self, history: &History) -> u64 {
        let mut counted = BTreeSet::new();
        let (mut bytes, mut first) = (0_u64, 0);
        for (age, record) in history.newest_first().enumerate() {
            let news = record.revision.files().filter(|name| counted.insert(*name));
            let sizes = news.filter_map(|name| self.known.get(name));
            bytes = sizes.fold(bytes, |sum, size| sum.saturating_add(*size));
            if age >= ALWAYS_KEPT && bytes > BYTES_KEPT {
                break;
            }
            first = record.number();
        }
        first
    }
}
