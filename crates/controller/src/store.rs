//! Where desired state outlives the controller.
//!
//! The trait asks only what the weakest store can do: immutable blobs named by the SHA-256 of their bytes, and one
//! small root record that is replaced last, whole or not at all. So a crash between any two steps leaves the old
//! state or the new one, and blobs that nothing names are swept after the next save. [`checkpoint`] gives the
//! root its format; [`Sqlite`] keeps both on one machine; code and callables, written by drivers, are plain files
//! ([`files`]).

pub mod checkpoint;
pub mod files;
mod root;
mod sqlite;
mod upgrade;

use sha2::{Digest as _, Sha256};

pub use sqlite::Sqlite;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is there cannot be what we wrote. It is left as it is.
    #[error(
        "the checkpoint {location} is damaged ({detail}); it was left untouched. Move it away to start empty, or put a good copy back"
    )]
    Corrupt { location: String, detail: String },
    #[error(
        "the checkpoint {location} was written by a newer Eagleray (format {found}, this one reads up to {known}); it was left untouched. Run the newer version, or move the file away to start empty"
    )]
    Newer {
        location: String,
        found: u32,
        known: u32,
    },
    #[error("the checkpoint {location} cannot be written or read: {detail}")]
    Unavailable { location: String, detail: String },
}

/// Content-addressed blobs and one root record.
pub trait Store: Send {
    /// Shown in messages.
    fn location(&self) -> String;
    /// Keeps `bytes` under their name, durably before the next `replace_root` returns. Known names are left alone.
    fn put_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;
    fn blob(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
    fn blob_names(&mut self) -> Result<Vec<String>, StoreError>;
    fn remove_blob(&mut self, name: &str) -> Result<(), StoreError>;
    fn root(&mut self) -> Result<Option<Vec<u8>>, StoreError>;
    /// Makes the store anew if somebody removed it, empty; returns whether it did.
    fn restore(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }
    /// Replaces the root: durable when it returns, and after a crash either the old or the new one.
    fn replace_root(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| {
        [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]
    });
    digits.map(char::from).collect()
}

#[cfg(test)]
mod tests;
