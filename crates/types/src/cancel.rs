//! How a request ends what it started.

/// Something that a request started and that ends with it: a replica's request holds it, the caller's side makes it.
pub trait Cancel: std::fmt::Debug + Send + Sync {
    /// Asks it to end. Must neither wait nor call back.
    fn cancel(&self);
}
