use std::time::SystemTime;

use super::{
    stale::{SCRIPT_LOGS_KEPT, SCRIPT_LOGS_KEPT_FOR, clean_stale_in},
    *,
};

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A script's node that ended and left its log.
fn ended(base: &Path, name: &str) -> PathBuf {
    let state = StateDirectory::locked(base, name).unwrap();
    fs::write(state.logs().join("replica.log"), "why").unwrap();
    fs::write(state.checkpoint(), "").unwrap();
    fs::write(state.blobs().join("blob"), "").unwrap();
    state.leave(Logs::Keep).unwrap();
    state.path
}

#[test]
fn logs_that_a_script_left_to_be_read_stay_and_nothing_else_does() {
    let base = tempfile::tempdir().unwrap();
    let path = ended(base.path(), "script-1-a");
    assert_eq!(names(&path), ["logs"]);
    assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
    let log = path.join("logs/replica.log");
    assert_eq!(fs::read_to_string(log).unwrap(), "why");
    let state = StateDirectory::locked(base.path(), "script-1-b").unwrap();
    state.leave(Logs::Remove).unwrap();
    assert_eq!(names(base.path()), ["script-1-a"]);
}

#[test]
fn logs_that_scripts_left_are_few_and_of_the_last_day() {
    let base = tempfile::tempdir().unwrap();
    for number in 0..SCRIPT_LOGS_KEPT + 3 {
        ended(base.path(), &format!("script-{number}-a"));
    }
    let live = StateDirectory::locked(base.path(), "script-1000-a").unwrap();
    assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
    assert_eq!(names(base.path()).len(), SCRIPT_LOGS_KEPT + 1);
    let later = SystemTime::now() + 2 * SCRIPT_LOGS_KEPT_FOR;
    assert!(clean_stale_in(base.path(), later).is_empty());
    assert_eq!(names(base.path()), ["script-1000-a"]);
    assert!(live.is_whole());
}

#[test]
fn of_a_node_that_was_killed_the_logs_stay() {
    let base = tempfile::tempdir().unwrap();
    let state = StateDirectory::locked(base.path(), "script-1-a").unwrap();
    fs::write(state.checkpoint(), "").unwrap();
    assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
    assert!(state.is_whole(), "it lives");
    let path = state.path().to_owned();
    drop(state);
    assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
    assert_eq!(names(&path), ["logs"]);
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let base = tempfile::tempdir().unwrap();
    let mut state = StateDirectory::locked(base.path(), "script-1-a").unwrap();
    fs::remove_dir_all(base.path()).unwrap();
    assert!(!state.is_whole());
    state.restore().unwrap();
    assert!(state.is_whole());
    assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
    assert!(state.is_whole(), "it is locked again");
}

#[test]
fn where_there_is_no_place_but_the_run_directory_it_is_there() {
    let run = tempfile::tempdir().unwrap();
    let file = run.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(StateDirectory::locked(&file.join("state"), "script-1-a").is_err());
    let state = StateDirectory::locked(run.path(), "state").unwrap();
    assert!(state.is_whole());
}
