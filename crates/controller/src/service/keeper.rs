//! The store's side of the loop: one save at a time, on a blocking thread, and blobs that nobody needs any more.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use prost::Message as _;
use tokio::task::{JoinError, JoinHandle};

use crate::{
    core::{Entry, Revision, Save, SaveError},
    store::{
        Store, StoreError,
        checkpoint::{self, Loaded},
        files::{self, Known},
    },
};

/// The store comes back with what came of the save, and what was learnt of files.
type Saved = (Box<dyn Store>, Result<Known, SaveError>);

/// All that the checkpoint needs, should it have to be made anew.
pub(super) struct Everything {
    pub(super) revisions: Vec<Arc<Revision>>,
    pub(super) entries: Vec<Arc<Entry>>,
}

impl Everything {
    fn blobs(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let revisions = self.revisions.iter();
        let revisions = revisions.map(|one| (one.blob.clone(), one.spec.encode_to_vec()));
        let entries = self.entries.iter();
        revisions.chain(entries.map(|one| (one.blob.clone(), one.record.encode_to_vec())))
    }
}

pub(super) struct Keeper {
    epoch: u64,
    blob_directory: PathBuf,
    /// Away while a save runs.
    store: Option<Box<dyn Store>>,
    saving: Option<JoinHandle<Saved>>,
    known: Known,
}

impl Keeper {
    /// Old files that no revision of the checkpoint names are removed first.
    pub(super) fn new(store: Box<dyn Store>, blob_directory: PathBuf, loaded: &Loaded) -> Self {
        Self {
            epoch: loaded.epoch,
            known: sweep(&blob_directory, loaded),
            blob_directory,
            store: Some(store),
            saving: None,
        }
    }

    /// Begins a save; [`Keeper::saved`] says when it is done.
    pub(super) fn save(&mut self, save: Save, all: Everything) {
        let Some(mut store) = self.store.take() else {
            debug_assert!(false, "the core gives one save at a time");
            return;
        };
        let (epoch, directory) = (self.epoch, self.blob_directory.clone());
        self.saving = Some(tokio::task::spawn_blocking(move || {
            let mut learnt = Known::default();
            learnt.learn(&directory, save.files.iter().map(String::as_str));
            for name in &save.files {
                if let Err(error) = files::verify(&directory, name) {
                    return (store, Err(SaveError::Blob(error)));
                }
            }
            let result = perform(&mut *store, epoch, &save, &all);
            (store, result.map(|()| learnt))
        }));
    }

    /// Bytes of the files that are known, by name.
    pub(super) fn sizes(&self) -> Vec<(String, u64)> {
        self.known.sizes()
    }

    /// What came of the save that runs: bytes of the files that it has met, by name. Never, if none does. Cancel safe.
    pub(super) async fn saved(
        &mut self,
    ) -> Result<Result<Vec<(String, u64)>, SaveError>, JoinError> {
        let Some(saving) = &mut self.saving else {
            return std::future::pending().await;
        };
        let (store, result) = saving.await?;
        self.saving = None;
        self.store = Some(store);
        Ok(result.map(|learnt| {
            let sizes = learnt.sizes();
            self.known.add(learnt);
            sizes
        }))
    }

    /// The next controller begins above `newest`, with what this one has read. For when no save runs yet.
    pub(super) fn begin_above(&mut self, newest: u64) -> Result<(), StoreError> {
        let Some(store) = self.store.as_deref_mut() else {
            return Ok(());
        };
        let Loaded { root, .. } = checkpoint::load(store)?;
        checkpoint::save(store, newest, &root, &[])
    }

    /// Frees the blobs of revisions that are gone, beside the loop and after the save that let go of them. `pending`:
    /// files of changes that are on their way.
    pub(super) fn remove_blobs(&mut self, needed: &[Arc<Revision>], pending: &[String]) {
        let named = needed.iter().flat_map(|revision| revision.files());
        let keep: BTreeSet<&str> = named.chain(pending.iter().map(String::as_str)).collect();
        let goners = self.known.forget(&self.blob_directory, &keep);
        if !goners.is_empty() {
            // Nobody waits for it.
            drop(tokio::task::spawn_blocking(move || {
                let removed = files::remove(&goners);
                tracing::info!(removed, "removed blobs that no revision names any more");
            }));
        }
    }
}

/// Removes old files that no revision names, and returns the others. A failure costs disk space only.
fn sweep(directory: &Path, loaded: &Loaded) -> Known {
    let revisions: Vec<Revision> = loaded
        .revisions
        .values()
        .cloned()
        .map(Revision::new)
        .collect();
    let keep: BTreeSet<&str> = revisions.iter().flat_map(Revision::files).collect();
    match files::sweep(directory, &keep, SystemTime::now()) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "swept blobs that no revision names"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "cannot sweep the blob directory");
        }
    }
    let mut known = Known::default();
    known.learn(directory, keep.into_iter());
    known
}

fn perform(
    store: &mut dyn Store,
    epoch: u64,
    save: &Save,
    all: &Everything,
) -> Result<(), SaveError> {
    let saved = store.restore().and_then(|made| {
        let mut blobs = save.blobs.clone();
        if made {
            tracing::warn!(
                location = store.location(),
                "somebody removed the checkpoint, which is made again"
            );
            blobs.extend(all.blobs());
        }
        checkpoint::save(store, epoch, &save.root, &blobs)
    });
    saved.map_err(|error| SaveError::Store(error.to_string()))?;
    if let Err(error) = checkpoint::sweep(store, &save.root) {
        // It costs space in the file only, and the next save tries again.
        tracing::warn!(%error, "revisions that are gone were not removed");
    }
    Ok(())
}
