//! The index of files that grow, are turned over, damaged, or replaced.

use std::fs;

use super::*;

fn line(number: usize) -> String {
    format!(
        "2026-12-01T09:00:{:02}.000Z [request-{number}] GET /x 200 1.0ms\n",
        number % 60
    )
}

fn grow(path: &Path, numbers: std::ops::Range<usize>) {
    let mut text = fs::read(path).unwrap_or_default();
    text.extend(numbers.flat_map(|number| line(number).into_bytes()));
    // Written in place, as a log is: the inode stays.
    fs::write(path, text).unwrap();
}

/// Blocks of the only log, and how much of it they hold.
fn indexed(logs: &Path) -> (usize, u64) {
    let [part] = &parts(logs)[..] else {
        panic!("one log")
    };
    let mut blocks = 0;
    let (end, _) = load(logs, part, &part.open().unwrap(), |_| blocks += 1).unwrap();
    (blocks, end)
}

#[test]
fn full_blocks_are_added_as_the_file_grows_and_it_may_be_renamed() {
    let logs = tempfile::tempdir().unwrap();
    let path = logs.path().join("access.log");
    grow(&path, 0..100);
    assert!(refresh(logs.path(), u64::MAX).unwrap());
    assert_eq!(
        indexed(logs.path()),
        (0, 0),
        "less than a block is not worth it"
    );
    grow(&path, 100..5_000);
    refresh(logs.path(), u64::MAX).unwrap();
    let (first, end) = indexed(logs.path());
    assert!(first >= 4 && end > 4 * 60_000, "{first} {end}");
    fs::rename(&path, logs.path().join("access.log.1")).unwrap();
    assert_eq!(indexed(logs.path()), (first, end));
    grow(&logs.path().join("access.log.1"), 5_000..10_000);
    refresh(logs.path(), u64::MAX).unwrap();
    assert!(indexed(logs.path()).0 >= 2 * first);
}

#[test]
fn what_is_damaged_or_of_another_file_is_made_again() {
    let logs = tempfile::tempdir().unwrap();
    let path = logs.path().join("access.log");
    grow(&path, 0..10_000);
    refresh(logs.path(), u64::MAX).unwrap();
    let whole = indexed(logs.path());
    let index = index_path(logs.path(), parts(logs.path())[0].key());
    let bytes = fs::read(&index).unwrap();

    let mut torn = bytes.clone();
    torn.truncate(bytes.len() - 3);
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    let mut foreign = bytes.clone();
    foreign[MAGIC.len() + 2] ^= 1;
    for damaged in [torn, flipped, foreign, b"nonsense".to_vec(), Vec::new()] {
        fs::write(&index, damaged).unwrap();
        assert!(indexed(logs.path()).0 < whole.0);
        refresh(logs.path(), u64::MAX).unwrap();
        assert_eq!(indexed(logs.path()), whole);
        assert_eq!(fs::read(&index).unwrap(), bytes);
    }
}

#[test]
fn what_is_kept_of_a_log_goes_with_it_and_no_more_than_asked_is_done_at_once() {
    let logs = tempfile::tempdir().unwrap();
    let path = logs.path().join("access.log");
    grow(&path, 0..20_000);
    assert!(!refresh(logs.path(), 100_000).unwrap());
    let some = indexed(logs.path()).1;
    assert!((100_000..300_000).contains(&some), "{some}");
    fs::remove_file(&path).unwrap();
    refresh(logs.path(), u64::MAX).unwrap();
    let left: Vec<_> = fs::read_dir(logs.path().join("index")).unwrap().collect();
    assert_eq!(left.len(), 1, "the lock: {left:?}");
}

#[test]
fn two_do_not_write_at_a_time() {
    let logs = tempfile::tempdir().unwrap();
    grow(&logs.path().join("access.log"), 0..5_000);
    fs::create_dir(logs.path().join("index")).unwrap();
    let held = File::create(logs.path().join("index/lock")).unwrap();
    rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
    assert!(refresh(logs.path(), u64::MAX).unwrap());
    assert_eq!(indexed(logs.path()).0, 0);
    drop(held);
    refresh(logs.path(), u64::MAX).unwrap();
    assert!(indexed(logs.path()).0 > 0);
}
