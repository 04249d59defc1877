use std::io::Read;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

fn limits(file_bytes: u64, kept_files: u32) -> Limits {
    Limits {
        file_bytes,
        kept_files,
        ..Limits::default()
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_turned_over_and_so_many_old_ones_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.log");
    let mut log = LogFile::new(&path, limits(10, 2), false);
    for line in ["one---\n", "two---\n", "three-\n", "four--\n"] {
        log.append(line.as_bytes()).unwrap();
    }
    assert_eq!(
        names(directory.path()),
        ["node.log", "node.log.1", "node.log.2"]
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "four--\n");
    assert_eq!(fs::read_to_string(log.numbered(2)).unwrap(), "two---\n");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    // One line larger than a file may be is still a line.
    log.append(b"a line longer than all\n").unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "a line longer than all\n"
    );
}

#[test]
fn with_no_old_files_kept_the_file_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.log");
    let mut log = LogFile::new(&path, limits(10, 0), false);
    log.append(b"one---\n").unwrap();
    log.append(b"two---\n").unwrap();
    assert_eq!(names(directory.path()), ["node.log"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "two---\n");
}

#[test]
fn a_file_that_was_removed_is_made_again_and_without_its_directory_nothing_fails() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs/node.log");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let mut log = LogFile::new(&path, Limits::default(), false);
    let look_now = |log: &mut LogFile| {
        log.open.as_mut().unwrap().looked = Instant::now().checked_sub(LOOK_AFTER).unwrap();
    };
    log.append(b"first\n").unwrap();
    fs::remove_file(&path).unwrap();
    look_now(&mut log);
    log.append(b"second\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");

    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    look_now(&mut log);
    log.append(b"nowhere\n").unwrap();
    assert!(!path.parent().unwrap().exists(), "directories are not made");
    fs::create_dir(path.parent().unwrap()).unwrap();
    look_now(&mut log);
    log.append(b"third\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "third\n");
}

#[test]
fn two_writers_of_a_file_turn_it_over_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.log");
    let mut one = LogFile::new(&path, limits(12, 5), false);
    let mut two = LogFile::new(&path, limits(12, 5), false);
    one.append(b"first\n").unwrap();
    two.append(b"second\n").unwrap();
    one.append(b"a new one\n").unwrap();
    two.append(b"of both\n").unwrap();
    assert_eq!(names(directory.path()), ["node.log", "node.log.1"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "a new one\nof both\n");
}

#[test]
fn a_disk_without_space_costs_lines() {
    let mut log = LogFile::new(Path::new("/dev/full"), Limits::default(), false);
    let unwritten = log.append(b"one\ntwo\n").unwrap_err();
    assert_eq!(unwritten.lines, 2);
    assert!(is(&unwritten.error, Errno::NOSPC), "{unwritten:?}");
}

#[test]
fn after_a_write_that_failed_the_file_of_that_name_is_looked_for_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut log = LogFile::new(&path, Limits::default(), false);
    log.append(b"lost\n").unwrap_err();
    fs::remove_file(&path).unwrap();
    log.append(b"kept\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept\n");
}

#[test]
fn a_pipe_in_place_of_the_file_never_holds_the_thread() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut log = LogFile::new(&path, limits(10, 1), false);
    // Nobody reads.
    assert_eq!(log.append(b"one\n").unwrap_err().lines, 1);
    // Somebody reads nothing, until it is full.
    let mut reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&path)
        .unwrap();
    let mut line = vec![b'x'; 5000];
    line.push(b'\n');
    let lost = (0..100).filter_map(|_| log.append(&line).err()).count();
    assert!(lost > 0 && lost < 100, "{lost}");
    // Its lines end where they end, also those that were cut.
    let mut taken = vec![0; 60_000];
    let first = reader.read(&mut taken).unwrap();
    assert!(first > 0);
    log.append(b"after\n").unwrap();
    let mut rest = Vec::new();
    while let Ok(1..) = reader
        .read(&mut taken)
        .inspect(|read| rest.extend(&taken[..*read]))
    {}
    assert!(rest.ends_with(b"\nafter\n"));
    assert_eq!(
        names(directory.path()),
        ["access.log"],
        "it is not turned over"
    );
}
