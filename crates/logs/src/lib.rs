//! The log files of a process, and the one thread that writes them.
//!
//! **Whoever logs never waits and never fails.** A [`Log`] takes whole lines and hands them to the thread of its
//! [`Writer`]. What the disk does is that thread's affair: it may be full, over its quota, read-only, gone, or so slow
//! that a write never returns. Then lines are lost, and counted; where the next line can be written, a line before it
//! says how many were lost and why. Nobody has to do anything when there is space again.
//!
//! **Everything is bounded.** Lines that wait for the disk by [`WAITING_BYTES`] a file and [`WAITING_BYTES_OF_ALL`]
//! a process; beyond that they are lost as above, so the file of the one that prints most loses first. Files by
//! [`Limits`]: each is turned over before it grows too large (`node.log` becomes `node.log.1`, and that
//! `node.log.2`), so many old ones are kept, and a directory of logs holds so many bytes in all.
//!
//! A file is made with its first line. One that somebody removes or moves away is made again within a second (after a
//! write that failed, with the next line), as `logrotate` and people expect. The directory is the caller's to make and to make again. Lines that several processes
//! write to one file stay whole: each write appends.
//!
//! What was written is found again with [`search`] and [`Follow`], which read the files and an index that an [`Indexer`]
//! keeps beside them; those who write know nothing of it.
//!
//! The lines are the caller's, text or JSON. The thread itself logs nothing, neither here nor on the terminal: what
//! is wrong with the disk is asked of [`Writer::trouble`], and stands in the file.

mod block;
mod clock;
mod directory;
mod encoding;
mod file;
mod filter;
mod follow;
mod head;
mod index;
mod level;
mod limits;
mod query;
mod record;
mod search;
mod when;
mod writer;

pub use clock::Clock;
pub use encoding::{Encoding, push_json_string};
pub use follow::Follow;
pub use index::{Indexer, refresh};
pub use level::{Level, Source};
pub use limits::Limits;
pub use query::{Query, as_in_lines};
pub use record::Record;
pub use search::{Search, search};
pub use when::parse_time;
pub use writer::{Log, WAITING_BYTES, WAITING_BYTES_OF_ALL, Writer};
