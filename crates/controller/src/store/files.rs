//! The blob directory: files that drivers write before a deploy, named by the hex SHA-256 of their content.
//!
//! The controller never writes here. It checks each file that a new revision names, and sweeps at its start what
//! no revision names any more. A driver writes first and deploys afterwards, so files of the last hour stay.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};

use super::hex;

/// Files younger than this are never swept: a driver may be about to deploy them.
pub const KEPT: Duration = Duration::from_secs(3600);

/// Whether `name` can name a blob, and so cannot leave the directory.
pub fn is_name(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads the file and compares it with its name. The text of an error says what to do.
pub fn verify(directory: &Path, name: &str) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!(
            "'{name}' does not name a blob (64 hexadecimal digits)"
        ));
    }
    let path = directory.join(name);
    let mut file = fs::File::open(&path).map_err(|error| {
        format!(
            "blob {} cannot be opened ({error}); deploy the application again",
            path.display()
        )
    })?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match io::Read::read(&mut file, &mut buffer) {
            Ok(0) => break,
            Ok(read) => sum.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("blob {} cannot be read: {error}", path.display())),
        }
    }
    if hex(&sum.finalize()) != name {
        return Err(format!(
            "blob {} is damaged; remove the file and deploy again",
            path.display()
        ));
    }
    Ok(())
}

/// Removes old files that `keep` does not name (blobs, and what a driver that died left half written). Returns how
/// many. Strange names are left alone.
pub fn sweep(directory: &Path, keep: &BTreeSet<&str>, now: SystemTime) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let ours = is_name(
            name.trim_start_matches('.')
                .split('.')
                .next()
                .unwrap_or_default(),
        );
        let metadata = entry.metadata()?;
        let young = metadata
            .modified()
            .is_ok_and(|at| now.duration_since(at).unwrap_or_default() < KEPT);
        if metadata.is_file() && ours && !young && !keep.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}
