use std::fs;

use super::*;

const WITHIN: Duration = Duration::from_secs(20);

/// A writer whose thread does nothing.
fn standing_still() -> (Writer, Receiver<Order>) {
    let (orders, queue) = sync_channel(QUEUE);
    let writer = Writer {
        orders,
        common: Arc::default(),
        limits: Limits::default(),
    };
    (writer, queue)
}

#[test]
fn lines_reach_their_files_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Writer::start(Limits::default()).unwrap();
    let logs = ["a.log", "b.log"].map(|name| writer.open(&directory.path().join(name)));
    for log in &logs {
        log.write(b"one\n".to_vec(), 1);
        log.clone().write(b"two\n".to_vec(), 1);
    }
    writer.flush(WITHIN);
    for name in ["a.log", "b.log"] {
        let text = fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }
}

#[test]
fn a_disk_that_stands_still_costs_lines_and_no_memory_and_nobody_waits() {
    let (writer, queue) = standing_still();
    let log = writer.open(Path::new("unused"));
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..100 {
        log.write(piece.clone(), 3);
    }
    let kept = (WAITING_BYTES / piece.len()) as u64;
    assert_eq!(queue.try_iter().count() as u64, kept);
    assert_eq!(log.0.state.lost.load(Ordering::Relaxed), (100 - kept) * 3);
    // Others have room, until all together have too much.
    let others: Vec<Log> = (0..100)
        .map(|_| {
            let other = writer.open(Path::new("unused"));
            other.write(vec![b'x'; WAITING_BYTES], 1);
            other
        })
        .collect();
    let held = writer.common.waiting.load(Ordering::Relaxed);
    assert!(held <= WAITING_BYTES_OF_ALL, "{held}");
    let lost = |log: &Log| log.0.state.lost.load(Ordering::Relaxed);
    assert_eq!(lost(&others[0]), 0);
    assert_eq!(lost(&others[99]), 1);
    writer.flush(Duration::from_millis(10));
}

#[test]
fn lines_that_were_lost_are_counted_in_their_place_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs/replica.log");
    let writer = Writer::start(Limits::default()).unwrap();
    let log = writer.open(&path);
    // There is no such directory yet.
    log.write(b"one\ntwo\n".to_vec(), 2);
    log.write(b"three\n".to_vec(), 1);
    writer.flush(WITHIN);
    let trouble = writer.trouble().unwrap();
    assert!(
        trouble.contains("logs/replica.log: No such file"),
        "{trouble}"
    );
    fs::create_dir(path.parent().unwrap()).unwrap();
    log.write(b"four\n".to_vec(), 1);
    writer.flush(WITHIN);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("... 3 lines lost: No such file"), "{text}");
    assert!(text.ends_with("\nfour\n"), "{text}");
    assert_eq!(text.lines().count(), 2);
    assert_eq!(writer.trouble(), None);
}

#[test]
fn a_full_disk_is_named_and_ends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Writer::start(Limits::default()).unwrap();
    let full = writer.open(Path::new("/dev/full"));
    let well = writer.open(&directory.path().join("node.log"));
    for _ in 0..3 {
        full.write(b"one\n".to_vec(), 1);
        well.write(b"one\n".to_vec(), 1);
        full.write(b"two\n".to_vec(), 1);
        well.write(b"two\n".to_vec(), 1);
    }
    writer.flush(WITHIN);
    let trouble = writer.trouble().unwrap();
    assert!(trouble.starts_with("/dev/full: No space left"), "{trouble}");
    assert_eq!(full.0.state.lost.load(Ordering::Relaxed), 6);
    let text = fs::read_to_string(directory.path().join("node.log")).unwrap();
    assert_eq!(text, "one\ntwo\n".repeat(3));
    drop(full);
    writer.flush(WITHIN);
    assert_eq!(writer.trouble(), None);
}

#[test]
fn a_log_that_is_dropped_closes_its_file_and_says_what_it_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("replica.log");
    let writer = Writer::start(Limits::default()).unwrap();
    let log = writer.open(&path);
    log.write(b"one\n".to_vec(), 1);
    writer.flush(WITHIN);
    log.write(vec![b'x'; WAITING_BYTES + 1], 7);
    drop(log);
    writer.flush(WITHIN);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "one\n... 7 lines lost: the disk did not keep up\n");
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let held = open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == path));
    assert_eq!(held.count(), 0);
}
