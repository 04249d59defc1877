//! Crashes between steps, damaged bytes, newer formats, sweeping.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use eagleray_types::control::ApplicationSpec;
use prost::Message as _;
use tempfile::TempDir;

use super::{
    Sqlite, Store, StoreError,
    checkpoint::{self, Root, RootApplication},
    files, sha256_hex,
};

fn revision(name: &str) -> (String, Vec<u8>) {
    let spec = ApplicationSpec {
        name: name.to_owned(),
        revision: "r".repeat(300),
        ..Default::default()
    };
    let bytes = spec.encode_to_vec();
    (sha256_hex(&bytes), bytes)
}

fn root(names: &[&str]) -> Root {
    let application = |name: &&str| RootApplication {
        name: (*name).to_owned(),
        serving: [("d".to_owned(), revision(name).0)].into(),
        ..Default::default()
    };
    Root {
        applications: names.iter().map(application).collect(),
        ..Default::default()
    }
}

fn open(directory: &TempDir) -> Sqlite {
    Sqlite::open(&directory.path().join("state/checkpoint.sqlite")).unwrap()
}

#[test]
fn what_is_saved_is_loaded_and_the_epoch_counts_up() {
    let directory = TempDir::new().unwrap();
    assert_eq!(checkpoint::open(&mut open(&directory)).unwrap().epoch, 1);
    let mut store = open(&directory);
    let loaded = checkpoint::open(&mut store).unwrap();
    assert_eq!((loaded.epoch, loaded.root), (2, Root::default()));
    checkpoint::save(
        &mut store,
        2,
        &root(&["a", "b"]),
        &[revision("a"), revision("b")],
    )
    .unwrap();
    drop(store);
    let loaded = checkpoint::open(&mut open(&directory)).unwrap();
    assert_eq!((loaded.epoch, &loaded.root), (3, &root(&["a", "b"])));
    assert_eq!(loaded.revisions[&revision("a").0].name, "a");
}

/// Writes as its inner store does, up to a step at which the process dies.
struct Dying {
    inner: Sqlite,
    steps: usize,
}

impl Dying {
    fn step(&mut self) -> Result<(), StoreError> {
        let dead = StoreError::Unavailable {
            location: String::new(),
            detail: "dead".to_owned(),
        };
        self.steps = self.steps.checked_sub(1).ok_or(dead)?;
        Ok(())
    }
}

impl Store for Dying {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn put_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.step()?;
        self.inner.put_blob(name, bytes)
    }
    fn blob(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.blob(name)
    }
    fn blob_names(&mut self) -> Result<Vec<String>, StoreError> {
        self.inner.blob_names()
    }
    fn remove_blob(&mut self, name: &str) -> Result<(), StoreError> {
        self.step()?;
        self.inner.remove_blob(name)
    }
    fn root(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.root()
    }
    fn replace_root(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.step()?;
        self.inner.replace_root(bytes)
    }
}

#[test]
fn a_death_between_any_two_steps_leaves_the_old_state_or_the_new_one() {
    let (old, new) = (root(&["a", "b"]), root(&["b", "c", "d"]));
    let mut seen = BTreeSet::new();
    for steps in 0..8 {
        let directory = TempDir::new().unwrap();
        let mut store = open(&directory);
        checkpoint::save(&mut store, 1, &old, &[revision("a"), revision("b")]).unwrap();
        let mut dying = Dying {
            inner: store,
            steps,
        };
        let saved = checkpoint::save(&mut dying, 1, &new, &[revision("c"), revision("d")]);
        let opened = saved.is_ok().then(|| checkpoint::open(&mut dying));
        drop(dying);
        let loaded = checkpoint::open(&mut open(&directory)).unwrap();
        let is_new = loaded.root == new;
        assert!(is_new || loaded.root == old, "after {steps} steps");
        assert_eq!(is_new, saved.is_ok(), "what was acknowledged is there");
        assert_eq!(loaded.revisions.len(), loaded.root.blobs().len());
        seen.insert((is_new, opened.is_some_and(|opened| opened.is_ok())));
    }
    assert_eq!(seen.len(), 3, "all cases were met: {seen:?}");
}

#[test]
fn revisions_that_nothing_names_are_swept_at_the_next_start() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&directory);
    checkpoint::save(
        &mut store,
        1,
        &root(&["a"]),
        &[revision("a"), revision("b")],
    )
    .unwrap();
    assert_eq!(store.blob_names().unwrap().len(), 2);
    checkpoint::open(&mut store).unwrap();
    assert_eq!(store.blob_names().unwrap(), [revision("a").0]);
}

#[test]
fn a_root_with_any_byte_changed_or_missing_is_refused() {
    let bytes = checkpoint::encode(7, &root(&["a"]));
    assert_eq!(
        checkpoint::decode("here", &bytes).unwrap(),
        (7, root(&["a"]))
    );
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(checkpoint::decode("here", &damaged).is_err(), "byte {at}");
        assert!(
            matches!(
                checkpoint::decode("here", &bytes[..at]),
                Err(StoreError::Corrupt { .. })
            ),
            "cut at {at}"
        );
    }
}

#[test]
fn a_newer_root_is_refused_and_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&directory);
    let mut bytes = checkpoint::encode(7, &root(&[]));
    bytes[4..8].copy_from_slice(&(checkpoint::FORMAT + 1).to_le_bytes());
    store.replace_root(&bytes).unwrap();
    let error = checkpoint::open(&mut store).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Newer {
                found: 3,
                known: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("left untouched"));
    assert_eq!(store.root().unwrap().unwrap(), bytes);
}

#[test]
fn a_root_of_the_format_before_gets_a_record_for_each_revision() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&directory);
    let (old, new) = (revision("a"), revision("a2"));
    let application = RootApplication {
        name: "a".into(),
        history: vec![old.0.clone(), new.0.clone()],
        deployed_at_s: 7.0,
        ..Default::default()
    };
    let root = Root {
        applications: vec![application],
        ..Default::default()
    };
    let mut bytes = checkpoint::encode(4, &root);
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    let sum = {
        use sha2::{Digest as _, Sha256};
        Sha256::new()
            .chain_update(&bytes[..20])
            .chain_update(&bytes[52..])
            .finalize()
    };
    bytes[20..52].copy_from_slice(&sum);
    for (name, content) in [&old, &new] {
        store.put_blob(name, content).unwrap();
    }
    store.replace_root(&bytes).unwrap();

    let first = checkpoint::open(&mut store).unwrap();
    let again = checkpoint::open(&mut store).unwrap();
    assert_eq!((first.root.clone(), 6), (again.root.clone(), again.epoch));
    let records = &again.root.applications[0].records;
    let of = |at: usize| &again.records[&records[at].record];
    assert_eq!((of(0).number, of(0).deployed_at_s), (1, 0.0));
    assert_eq!((of(1).number, of(1).deployed_at_s), (2, 7.0));
    assert_eq!(
        [&records[0].revision, &records[1].revision],
        [&old.0, &new.0]
    );
    assert_eq!(of(1).revision, "r".repeat(300));
    assert!(again.root.applications[0].history.is_empty());
}

#[test]
fn a_root_without_its_revision_is_refused() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&directory);
    checkpoint::save(&mut store, 1, &root(&["a"]), &[]).unwrap();
    assert!(matches!(
        checkpoint::open(&mut store),
        Err(StoreError::Corrupt { .. })
    ));
    store.put_blob(&revision("a").0, b"other bytes").unwrap();
    let error = checkpoint::open(&mut store).unwrap_err();
    assert!(
        error.to_string().contains("does not have the content"),
        "{error}"
    );
}

fn refused(path: &Path) -> StoreError {
    let before = fs::read(path).unwrap();
    let error = Sqlite::open(path).unwrap_err();
    assert_eq!(fs::read(path).unwrap(), before, "the file is untouched");
    error
}

#[test]
fn a_file_that_is_no_checkpoint_is_refused_untouched() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("checkpoint.sqlite");
    fs::write(
        &path,
        b"this is not a database, it is a letter to a friend ".repeat(100),
    )
    .unwrap();
    assert!(matches!(refused(&path), StoreError::Corrupt { .. }));

    let strange = directory.path().join("strange.sqlite");
    rusqlite::Connection::open(&strange)
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    let error = refused(&strange);
    assert!(error.to_string().contains("another program"), "{error}");
}

#[test]
fn a_file_of_a_newer_schema_is_refused_untouched() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("checkpoint.sqlite");
    drop(Sqlite::open(&path).unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    assert!(matches!(
        refused(&path),
        StoreError::Newer { found: 99, .. }
    ));
}

#[test]
fn a_second_controller_is_refused_while_the_first_one_lives() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("checkpoint.sqlite");
    let mut first = Sqlite::open(&path).unwrap();
    checkpoint::open(&mut first).unwrap();
    let error = Sqlite::open_within(&path, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("another controller"), "{error}");
    drop(first);
    checkpoint::open(&mut Sqlite::open(&path).unwrap()).unwrap();
}

#[test]
fn the_checkpoint_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new().unwrap();
    drop(open(&directory));
    let mode = |path: &str| {
        fs::metadata(directory.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("state"), mode("state/checkpoint.sqlite")),
        (0o700, 0o600)
    );
}

#[test]
fn a_blob_is_verified_by_its_content() {
    let directory = TempDir::new().unwrap();
    let name = sha256_hex(b"code");
    assert!(
        files::verify(directory.path(), &name)
            .unwrap_err()
            .contains("cannot be opened")
    );
    fs::write(directory.path().join(&name), b"code").unwrap();
    assert_eq!(files::verify(directory.path(), &name), Ok(()));
    fs::write(directory.path().join(&name), b"c0de").unwrap();
    assert!(
        files::verify(directory.path(), &name)
            .unwrap_err()
            .contains("damaged")
    );
    assert!(files::verify(directory.path(), "../../etc/passwd").is_err());
}

#[test]
fn old_files_that_nothing_names_are_swept_and_all_others_stay() {
    let directory = TempDir::new().unwrap();
    let (kept, old) = (sha256_hex(b"kept"), sha256_hex(b"old"));
    for name in [
        kept.as_str(),
        old.as_str(),
        "README",
        &format!(".{old}.tmp"),
    ] {
        fs::write(directory.path().join(name), b"x").unwrap();
    }
    let keep = BTreeSet::from([kept.as_str()]);
    assert_eq!(
        files::sweep(directory.path(), &keep, SystemTime::now()).unwrap(),
        0,
        "they are young"
    );
    let later = SystemTime::now() + files::KEPT + Duration::from_secs(60);
    assert_eq!(files::sweep(directory.path(), &keep, later).unwrap(), 2);
    let left: BTreeSet<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, BTreeSet::from([kept.clone(), "README".to_owned()]));
}

#[test]
fn what_a_dead_driver_left_half_written_goes_at_once() {
    let directory = TempDir::new().unwrap();
    let name = sha256_hex(b"a blob");
    // No process has this number: it is above the greatest that Linux gives.
    let (dead, alive) = (
        format!(".{name}.4194305.1"),
        format!(".{name}.{}.1", std::process::id()),
    );
    for half in [&dead, &alive] {
        fs::write(directory.path().join(half), b"x").unwrap();
    }
    let swept = files::sweep(directory.path(), &BTreeSet::new(), SystemTime::now()).unwrap();
    assert_eq!(swept, 1);
    assert!(directory.path().join(alive).exists());
}

#[test]
fn a_store_that_was_removed_is_made_again_and_is_empty() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&directory);
    checkpoint::save(&mut store, 1, &root(&["a"]), &[revision("a")]).unwrap();
    assert!(!store.restore().unwrap());
    fs::remove_dir_all(directory.path().join("state")).unwrap();
    assert!(store.restore().unwrap());
    assert_eq!(store.root().unwrap(), None);
    checkpoint::save(&mut store, 1, &root(&["a"]), &[revision("a")]).unwrap();
    drop(store);
    assert_eq!(checkpoint::load(&mut open(&directory)).unwrap().epoch, 1);
}
