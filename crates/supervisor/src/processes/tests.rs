use std::process::{Command, Stdio};

use super::*;

#[test]
fn the_session_is_read_behind_a_name_with_brackets_and_spaces() {
    let rest = |flags: u32, environment_end: u64| {
        format!("40 39 0 -1 {flags}{} {environment_end} 0", " 7".repeat(41))
    };
    let status = Status::parse(&format!("42 (a) b (c) S 1 {}", rest(0, 9))).unwrap();
    assert!(!status.dead);
    assert_eq!(status.session, 39);
    assert_eq!(status.parent, 1);
    assert!(!status.no_environment_yet);
    assert!(
        Status::parse(&format!("42 (a) Z 1 {}", rest(0, 9)))
            .unwrap()
            .dead
    );
    let in_exec = Status::parse(&format!("42 (a) R 1 {}", rest(0x40_0000, 0))).unwrap();
    assert!(in_exec.no_environment_yet);
    let kernel_thread = Status::parse(&format!("2 (kthreadd) S 0 {}", rest(0x20_8040, 0))).unwrap();
    assert!(!kernel_thread.no_environment_yet);
    let own = Status::read(std::process::id()).unwrap();
    assert!(!own.no_environment_yet);
}

#[test]
fn a_mark_is_of_one_process_and_of_its_node_and_no_limit_that_anybody_has() {
    let (one, other) = (Mark::of_node("one"), Mark::of_node("other"));
    assert_ne!(one.node(), other.node());
    assert_eq!(one.of_process((1 << 22) - 1).node(), one.node());
    let mine = Belongs::to_replica("one", "r", 7);
    assert!(mine.has(one.of_process(7)));
    assert!(!mine.has(one.of_process(8)));
    assert!(!mine.has(other.of_process(7)));
    assert!(Belongs::to_node("one").has(one.of_process(8)));
    for name in ["", "one", "a-longer-name-0123456789"] {
        assert!(Mark::of_node(name).0 < u64::MAX >> 1);
    }
    // "unlimited", as of nearly every process.
    assert!(Mark::read(std::process::id()).is_none_or(|mark| !mine.has(mark)));
}

#[test]
fn a_process_that_has_just_been_started_is_found() {
    // Returning from spawn does not mean that the new program's environment is in place.
    for number in 0..200 {
        let mark = format!("new-{}-{number}", std::process::id());
        let mut child = Command::new("sleep")
            .arg("60")
            .env("EAGLERAY_NODE", &mark)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ended = end_all(
            &Belongs::to_node(&mark),
            Instant::now() + Duration::from_secs(10),
        );
        let state = child.try_wait().unwrap();
        let killed = ended && (state.is_some() || !is_alive(child.id()));
        child.kill().ok();
        child.wait().unwrap();
        assert!(killed, "child {number} was not found");
    }
}

#[test]
fn a_process_is_found_by_its_environment_and_gone_afterwards() {
    let mark = format!("found-{}", std::process::id());
    let mut child = Command::new("sleep")
        .arg("60")
        .env("EAGLERAY_NODE", &mark)
        .env("EAGLERAY_REPLICA", "one")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let belongs = Belongs::to_replica(&mark, "one", u32::MAX);
    let deadline = Instant::now() + Duration::from_secs(10);
    assert!(end_all(
        &Belongs::to_replica(&mark, "another", u32::MAX),
        deadline
    ));
    assert!(is_alive(child.id()));
    assert!(end_all(&belongs, deadline));
    assert!(!child.wait().unwrap().success());
}
