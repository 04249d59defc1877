//! Frames of RFC 6455, without a socket.
//!
//! The data of a message is handed on as it comes and never gathered here, so a connection costs its read buffer however
//! long its messages are. Every length is checked on the header, before a byte of payload is waited for; that of a
//! compressed message as it is inflated, a step at a time. What breaks a rule is an error with the code that says so to
//! the client; after it nothing more can be read.

mod broken;
pub(crate) mod code;
mod decoder;
mod encode;
mod header;

pub(crate) use broken::Broken;
pub(crate) use decoder::{Decoder, Event};
pub(crate) use encode::{Place, put_close, put_data, put_ping, put_pong};

#[cfg(test)]
mod tests;
