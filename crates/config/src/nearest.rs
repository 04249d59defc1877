//! The known word that somebody may have meant.

/// How alike two words must be, from 0 to 1.
const ALIKE: f64 = 0.6;

/// The one of `known` that is most like `word`, if any is alike.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing takes the product of both lengths; whoever writes more than this has not misspelt a word of ours.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    let alike = |other: &str| {
        let other = other.to_lowercase();
        let within = lower.len() >= 4 && other.contains(&lower);
        let alike = strsim::normalized_damerau_levenshtein(&lower, &other);
        if within { alike.max(ALIKE) } else { alike }
    };
    known
        .filter(|other| other.len() <= LONGEST)
        .map(|other| (alike(other), other))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, other)| other)
}
