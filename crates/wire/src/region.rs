//! Regions: shared memory that carries one big value from one process to another, in place of DATA.
//!
//! A region is a memfd. Its maker copies a value in, once, and **lends** it: the descriptor goes over a socket of its
//! own ([`Channel`]), and the message on the data connection names it by number and length. The other side maps it,
//! for reading only, and sends RELEASE when it is done with it. Then the maker fills the same memory again, which is
//! the point: page faults and zeroing cost ten times the copy. For the same reason the other side keeps its mapping for a
//! while, out of everybody's sight, and knows the file again when it comes with the next message.
//!
//! **The rule**: a region is written to only while nobody else can see it. Whoever cannot promise that (its process
//! forked while it had the region, its connection ended, user code kept the value for long) spoils the region: its
//! maker forgets it, and the kernel frees it with the last mapping. A region is as long as its maker says or longer, for
//! ever: it is sealed against shrinking before anybody else has it, and whoever gets one checks both.
//!
//! What is bounded: the bytes of all regions of a [`Pool`] ([`CREDIT_BYTES`]) and their number ([`MOST_REGIONS`]), both
//! with the same answer when they are spent: the value goes as DATA. So does a value whose descriptor cannot be sent.
//! Descriptors that came and were not named yet are at most [`MOST_ATTACHMENTS`]. Mappings that nobody sees are bounded in
//! bytes, number and time, and the longest unseen makes room (the module `idle`).

mod channel;
mod idle;
mod lent;
mod memory;
mod message;
mod pool;
mod received;

#[cfg(test)]
mod tests;

pub use channel::{Channel, ChannelError, without_channel};
pub use lent::{Lent, Pool};
pub use memory::Mapping;
pub use message::{Arrival, Attached, Attachment, Named, assemble, charge, encode_named, inline};
pub use received::{Held, Received, Release};

/// Bytes of all regions of a pool, lent or warm.
pub const CREDIT_BYTES: u64 = 1 << 30;
/// Regions of a pool, each with a descriptor: a quarter of the descriptors that a process usually may have.
pub const MOST_REGIONS: usize = 256;
/// What an answer's frame with regions costs of the credit for its data, at most: a reader that takes its time has three
/// big items before it, not all that fit into shared memory.
pub const CHARGE_BYTES: u64 = 16 * 1024;
/// Regions that one message may name.
pub const MOST_ATTACHMENTS: usize = 64;
