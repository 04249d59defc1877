use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_directory_that_is_held_is_refused_and_free_again_when_the_holder_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let held = RunDirectory::acquire(root.path(), "one", "id-1").unwrap();
    held.publish(&NodeRecord {
        name: "one".into(),
        pid: 1,
        node_id: "id-1".into(),
        http_address: String::new(),
        owner_pid: 0,
        argv: Vec::new(),
    })
    .unwrap();
    assert!(matches!(
        RunDirectory::acquire(root.path(), "one", "id-2"),
        Err(Error::Held { .. })
    ));
    assert!(is_held(held.path()));
    drop(held);
    assert!(RunDirectory::acquire(root.path(), "one", "id-2").is_ok());
}

#[test]
fn what_a_dead_node_left_is_cleaned_but_logs_of_a_resident_node_stay() {
    let root = tempfile::tempdir().unwrap();
    for name in ["script-1", "resident"] {
        let directory = RunDirectory::acquire(root.path(), name, "no-such-node-id").unwrap();
        fs::write(directory.path().join("node.json"), "{}").unwrap();
        fs::write(directory.path().join("r/x.sock"), "").unwrap();
        fs::write(directory.path().join("logs/node.log"), "").unwrap();
    }
    assert!(clean_stale(root.path()).is_empty());
    assert!(!root.path().join("script-1").exists());
    assert!(!root.path().join("resident/node.json").exists());
    assert!(!root.path().join("resident/r").exists());
    assert!(root.path().join("resident/logs/node.log").exists());
}

#[test]
fn a_live_directory_is_not_cleaned() {
    let root = tempfile::tempdir().unwrap();
    let live = RunDirectory::acquire(root.path(), "script-1", "id").unwrap();
    assert!(clean_stale(root.path()).is_empty());
    assert!(live.path().join("r").exists());
}

#[test]
fn a_link_in_place_of_the_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), root.path().join("one")).unwrap();
    let error = RunDirectory::acquire(root.path(), "one", "id").unwrap_err();
    assert!(error.to_string().contains("link"), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_that_others_can_write_is_refused_with_the_way_out() {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
    let error = RunDirectory::acquire(root.path(), "one", "id").unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[test]
fn a_path_too_long_for_sockets_is_refused_at_once() {
    let root = tempfile::tempdir().unwrap();
    let error = RunDirectory::acquire(&root.path().join("x".repeat(90)), "one", "id").unwrap_err();
    assert!(error.to_string().contains("shorter path"), "{error}");
}

#[test]
fn names_that_leave_the_root_are_refused() {
    for hostile in ["", ".", "..", "a/b", ".hidden", "a b"] {
        assert!(!is_valid_name(hostile), "{hostile:?}");
    }
    assert!(is_valid_name("default"));
}
