//! How much the logs of a node may hold.

use serde::{Deserialize, Serialize};

/// The least that a file may be made to hold: a long line fits.
const LEAST_FILE_BYTES: u64 = 64 * 1024;

/// One table for all logs of a node: of its processes, of its replicas, and of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A file is turned over before it gets larger.
    pub file_bytes: u64,
    /// Old files kept beside each, as `FILE.1` (the newest) to `FILE.N`.
    pub kept_files: u32,
    /// All logs of a directory; the oldest files go first.
    pub directory_bytes: u64,
    /// Files of replicas that a directory keeps, since one that dies while starting makes a file each time.
    pub replica_files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 64 * 1024 * 1024,
            kept_files: 4,
            directory_bytes: 4 * 1024 * 1024 * 1024,
            replica_files: 200,
        }
    }
}

/// A variable, the least that it may say, and what it sets.
type Entry = (&'static str, u64, fn(&mut Limits, u64));

/// As Ray names them, with our prefix.
const TABLE: [Entry; 3] = [
    (
        "EAGLERAY_ROTATION_MAX_BYTES",
        LEAST_FILE_BYTES,
        |limits, number| {
            limits.file_bytes = number;
        },
    ),
    ("EAGLERAY_ROTATION_BACKUP_COUNT", 0, |limits, number| {
        limits.kept_files = u32::try_from(number).unwrap_or(u32::MAX);
    }),
    (
        "EAGLERAY_LOGS_MAX_BYTES",
        LEAST_FILE_BYTES,
        |limits, number| {
            limits.directory_bytes = number;
        },
    ),
];

impl Limits {
    /// The defaults, changed by environment variables that `variable` looks up. An empty one counts as not set.
    ///
    /// # Errors
    /// What is wrong with a variable, in words for its user.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut limits = Self::default();
        for (name, least, set) in TABLE {
            let Some(text) = variable(name).filter(|text| !text.is_empty()) else {
                continue;
            };
            match text.trim().parse() {
                Ok(number) if number >= least => set(&mut limits, number),
                _ => {
                    return Err(format!(
                        "{name} must be a whole number, {least} or more, got {text:?}"
                    ));
                }
            }
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Limits, String> {
        Limits::from_variables(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn variables_change_the_defaults_and_nonsense_is_refused_by_name() {
        assert_eq!(read(&[]), Ok(Limits::default()));
        let limits = read(&[
            ("EAGLERAY_ROTATION_MAX_BYTES", "1000000"),
            ("EAGLERAY_ROTATION_BACKUP_COUNT", "0"),
            ("EAGLERAY_LOGS_MAX_BYTES", ""),
        ])
        .unwrap();
        assert_eq!((limits.file_bytes, limits.kept_files), (1_000_000, 0));
        assert_eq!(limits.directory_bytes, Limits::default().directory_bytes);
        for nonsense in ["12", "-1", "1e9", "many"] {
            let error = read(&[("EAGLERAY_ROTATION_MAX_BYTES", nonsense)]).unwrap_err();
            assert!(
                error.contains("EAGLERAY_ROTATION_MAX_BYTES") && error.contains(nonsense),
                "{error}"
            );
        }
    }
}
