//! The root record on disk: its envelope, and how it is written and read with the blobs that it names.
//!
//! ```text
//! magic "EGRT" | format u32 | epoch u64 | length u32 | SHA-256 of all that goes before and the payload | payload
//! ```
//!
//! Little-endian; the payload is a protobuf [`Root`]. Format N reads N-1 ([`super::upgrade`]); a newer one is refused
//! before anything else is looked at. The epoch stands outside the payload because it must count up even where the payload is of
//! another format.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

pub use super::root::{
    Loaded, Outcome, Root, RootApplication, RootCount, RootDeleted, RootRecord, Verdict,
};
use super::{Store, StoreError, sha256_hex, upgrade};

/// 2: deploys are recorded by number. 1: the revisions that can be gone back to, and no more.
pub const FORMAT: u32 = 2;
const MAGIC: &[u8; 4] = b"EGRT";
const HEADER_BYTES: usize = 20;
const SUM_BYTES: usize = 32;

pub fn encode(epoch: u64, root: &Root) -> Vec<u8> {
    let payload = root.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + SUM_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let sum = Sha256::new()
        .chain_update(&bytes)
        .chain_update(&payload)
        .finalize();
    bytes.extend_from_slice(&sum);
    bytes.extend_from_slice(&payload);
    bytes
}

pub fn decode(location: &str, bytes: &[u8]) -> Result<(u64, Root), StoreError> {
    let corrupt = |detail: &str| StoreError::Corrupt {
        location: location.to_owned(),
        detail: detail.to_owned(),
    };
    let (header, rest) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| corrupt("its root is too short"))?;
    let number = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if &header[..4] != MAGIC {
        return Err(corrupt("its root does not begin as ours do"));
    }
    if number(4) > FORMAT {
        return Err(StoreError::Newer {
            location: location.to_owned(),
            found: number(4),
            known: FORMAT,
        });
    }
    let (sum, payload) = rest
        .split_first_chunk::<SUM_BYTES>()
        .ok_or_else(|| corrupt("its root is too short"))?;
    if payload.len() != number(16) as usize {
        return Err(corrupt("its root was cut"));
    }
    if Sha256::new()
        .chain_update(header)
        .chain_update(payload)
        .finalize()
        .as_slice()
        != sum
    {
        return Err(corrupt("the checksum of its root is wrong"));
    }
    let root = Root::decode(payload).map_err(|error| corrupt(&error.to_string()))?;
    Ok((u64::from(number(8)) | u64::from(number(12)) << 32, root))
}

/// Reads everything that the root names, and checks it. Changes nothing.
pub fn load(store: &mut dyn Store) -> Result<Loaded, StoreError> {
    let location = store.location();
    let Some(bytes) = store.root()? else {
        return Ok(Loaded::default());
    };
    let (epoch, root) = decode(&location, &bytes)?;
    let mut loaded = Loaded {
        epoch,
        ..Loaded::default()
    };
    for name in root.revision_blobs() {
        let spec = read(store, &location, "revision", name)?;
        loaded.revisions.insert(name.to_owned(), spec);
    }
    for name in root.record_blobs() {
        let record = read(store, &location, "record", name)?;
        loaded.records.insert(name.to_owned(), record);
    }
    loaded.root = root;
    Ok(loaded)
}

/// One blob, which must be there and whole.
fn read<M: prost::Message + Default>(
    store: &mut dyn Store,
    location: &str,
    what: &str,
    name: &str,
) -> Result<M, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt {
        location: location.to_owned(),
        detail,
    };
    let bytes = store
        .blob(name)?
        .ok_or_else(|| corrupt(format!("{what} {name} is missing")))?;
    if sha256_hex(&bytes) != name {
        return Err(corrupt(format!(
            "{what} {name} does not have the content of that name"
        )));
    }
    M::decode(bytes.as_slice())
        .map_err(|error| corrupt(format!("{what} {name} cannot be read: {error}")))
}

/// Blobs first, root last.
pub fn save(
    store: &mut dyn Store,
    epoch: u64,
    root: &Root,
    blobs: &[(String, Vec<u8>)],
) -> Result<(), StoreError> {
    for (name, bytes) in blobs {
        store.put_blob(name, bytes)?;
    }
    store.replace_root(&encode(epoch, root))
}

/// Loads, and begins the next epoch durably, so that no two controllers ever act in the same one. Then sweeps
/// blobs that nothing names.
pub fn open(store: &mut dyn Store) -> Result<Loaded, StoreError> {
    let mut loaded = load(store)?;
    loaded.epoch += 1;
    let made = upgrade::upgrade(&mut loaded);
    save(store, loaded.epoch, &loaded.root, &made)?;
    sweep(store, &loaded.root)?;
    Ok(loaded)
}

/// Removes the blobs that the root does not name.
pub fn sweep(store: &mut dyn Store, root: &Root) -> Result<(), StoreError> {
    let keep = root.blobs();
    for name in store.blob_names()? {
        if !keep.contains(name.as_str()) {
            store.remove_blob(&name)?;
        }
    }
    Ok(())
}
