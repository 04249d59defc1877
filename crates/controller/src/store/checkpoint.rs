//! The root record: what runs and what ran, by name of blob.
//!
//! ```text
//! magic "EGRT" | format u32 | epoch u64 | length u32 | SHA-256 of all that goes before and the payload | payload
//! ```
//!
//! Little-endian; the payload is a protobuf [`Root`]. Format N reads N-1; a newer one is refused before anything
//! else is looked at. The epoch stands outside the payload because it must count up even where the payload is of
//! another format.

use std::collections::{BTreeMap, BTreeSet};

use eagleray_types::control::ApplicationSpec;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, sha256_hex};

pub const FORMAT: u32 = 1;
const MAGIC: &[u8; 4] = b"EGRT";
const HEADER_BYTES: usize = 20;
const SUM_BYTES: usize = 32;

/// Desired state, complete.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Root {
    #[prost(message, repeated, tag = "1")]
    pub applications: Vec<RootApplication>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RootApplication {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Blobs of the revisions that can be gone back to, oldest first. The last is the target.
    #[prost(string, repeated, tag = "2")]
    pub history: Vec<String>,
    /// By deployment: the blob of the revision that last ran at full size.
    #[prost(btree_map = "string, string", tag = "3")]
    pub serving: BTreeMap<String, String>,
    #[prost(double, tag = "4")]
    pub deployed_at_s: f64,
    /// Where the application is reachable now; both empty: nowhere yet.
    #[prost(string, tag = "5")]
    pub route_prefix: String,
    #[prost(string, tag = "6")]
    pub route_ingress: String,
}

impl Root {
    pub fn blobs(&self) -> BTreeSet<&str> {
        let all = self
            .applications
            .iter()
            .flat_map(|one| one.history.iter().chain(one.serving.values()));
        all.map(String::as_str).collect()
    }
}

/// What the last controller left.
#[derive(Debug, Default)]
pub struct Loaded {
    pub epoch: u64,
    pub root: Root,
    /// Every revision that the root names, by blob.
    pub revisions: BTreeMap<String, ApplicationSpec>,
}

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
    let mut revisions = BTreeMap::new();
    for name in root.blobs() {
        let corrupt = |detail: String| StoreError::Corrupt {
            location: location.clone(),
            detail,
        };
        let bytes = store
            .blob(name)?
            .ok_or_else(|| corrupt(format!("revision {name} is missing")))?;
        if sha256_hex(&bytes) != name {
            return Err(corrupt(format!(
                "revision {name} does not have the content of that name"
            )));
        }
        let spec = ApplicationSpec::decode(bytes.as_slice())
            .map_err(|error| corrupt(format!("revision {name} cannot be read: {error}")))?;
        revisions.insert(name.to_owned(), spec);
    }
    Ok(Loaded {
        epoch,
        root,
        revisions,
    })
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
/// revisions that nothing names.
pub fn open(store: &mut dyn Store) -> Result<Loaded, StoreError> {
    let mut loaded = load(store)?;
    loaded.epoch += 1;
    save(store, loaded.epoch, &loaded.root, &[])?;
    sweep(store, &loaded.root)?;
    Ok(loaded)
}

/// Removes the revisions that the root does not name.
pub fn sweep(store: &mut dyn Store, root: &Root) -> Result<(), StoreError> {
    let keep = root.blobs();
    for name in store.blob_names()? {
        if !keep.contains(name.as_str()) {
            store.remove_blob(&name)?;
        }
    }
    Ok(())
}
