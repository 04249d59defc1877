use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt, symlink},
};

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
        control_address: String::new(),
        metrics_address: String::new(),
        owner_pid: 0,
        argv: Vec::new(),
        log_directory: "/state/logs".into(),
    })
    .unwrap();
    let logs = fs::read_link(held.path().join("logs")).unwrap();
    assert_eq!(logs.to_str(), Some("/state/logs"));
    assert!(matches!(
        RunDirectory::acquire(root.path(), "one", "id-2"),
        Err(Error::Held { .. })
    ));
    assert!(is_held(held.path()));
    drop(held);
    assert!(RunDirectory::acquire(root.path(), "one", "id-2").is_ok());
}

#[test]
fn what_a_dead_node_left_is_removed() {
    let root = tempfile::tempdir().unwrap();
    for name in ["script-1", "resident"] {
        let directory = RunDirectory::acquire(root.path(), name, "no-such-node-id").unwrap();
        fs::write(directory.path().join("node.json"), "{}").unwrap();
        fs::write(directory.path().join("r/x.sock"), "").unwrap();
    }
    assert!(clean_stale(root.path()).is_empty());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_live_directory_is_not_cleaned() {
    let root = tempfile::tempdir().unwrap();
    let live = RunDirectory::acquire(root.path(), "script-1", "id").unwrap();
    assert!(clean_stale(root.path()).is_empty());
    assert!(live.path().join("r").exists());
}

#[test]
fn a_directory_that_cannot_be_made_says_which_variable_puts_it_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let error = private_directory(&file.join("one"))
        .unwrap_err()
        .or_elsewhere("XDG_STATE_HOME");
    let text = error.to_string();
    assert!(text.starts_with(&format!("{}: ", file.display())), "{text}");
    assert!(
        text.ends_with("; set XDG_STATE_HOME to a directory that you can write"),
        "{text}"
    );
    let held = Error::Held { name: "one".into() };
    assert!(matches!(held.or_elsewhere("X"), Error::Held { .. }));
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

#[test]
fn a_directory_that_was_removed_under_a_node_is_made_again_and_is_its_own() {
    let root = tempfile::tempdir().unwrap();
    let mut held = RunDirectory::acquire(root.path(), "one", "id-1").unwrap();
    assert!(held.is_whole());
    fs::remove_dir_all(root.path()).unwrap();
    assert!(!held.is_whole());
    held.restore("id-1").unwrap();
    assert!(held.is_whole() && is_held(held.path()));
    assert_eq!(
        fs::read_to_string(held.path().join("lock")).unwrap(),
        "id-1"
    );
    let mode = fs::metadata(held.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_directory_that_another_node_has_taken_meanwhile_is_left_to_it() {
    let root = tempfile::tempdir().unwrap();
    let mut first = RunDirectory::acquire(root.path(), "script-1", "id-1").unwrap();
    fs::remove_dir_all(root.path()).unwrap();
    let second = RunDirectory::acquire(root.path(), "script-1", "id-2").unwrap();
    let error = first.restore("id-1").unwrap_err();
    assert!(error.to_string().contains("another node"), "{error}");
    first.leave().unwrap();
    assert!(second.is_whole());
}
