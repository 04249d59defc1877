//! The control API over HTTP: the REST paths of Ray Serve, and our own below `/api/v1`.
//!
//! It runs in the controller's process, on a thread of its own, and listens on a unix socket to which the node forwards what
//! comes to the control port. It decides nothing and remembers nothing: each answer is made of messages that drivers get as
//! well ([`eagleray_types::control`]), asked through [`Calls`]. Parsing what strangers send, and writing long answers,
//! therefore never holds up the controller's loop.
//!
//! The way of a request: `listen` accepts, `guard` holds it to the rules of the port (token, Host, Origin), `router` finds
//! its handler, and `view` turns messages into JSON: the one place that knows both.

mod calls;
mod contract;
mod errors;
mod guard;
mod hosts;
mod listen;
mod router;
mod state;
mod status;
mod token;
mod view;

use std::{io, path::PathBuf, sync::Arc};

pub use calls::{Answer, Away, Calls};

/// What the API knows without asking.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; made anew.
    pub socket: PathBuf,
    /// The file of the token; made if it is not there.
    pub token: PathBuf,
    /// As clients see the port: `http://127.0.0.1:8265`.
    pub control_address: String,
    /// The release.
    pub version: &'static str,
}

/// Serves until the process ends. Must be called within a runtime that drives I/O and time.
///
/// # Errors
/// When the socket or the token cannot be made.
pub async fn serve(options: Options, calls: Arc<dyn Calls>) -> io::Result<()> {
    let listener = listen::Listener::bind(options.socket.clone())?;
    let token = token::Token::open(options.token.clone())?;
    let state = state::State::new(token, &options.control_address, options.version, calls);
    axum::serve(listener, router::router(state)).await
}
