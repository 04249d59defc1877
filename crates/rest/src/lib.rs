//! The control API over HTTP: the REST paths of Ray Serve, and our own below `/api/v1`.
//!
//! It runs in the controller's process, on a thread of its own, and listens on a unix socket to which the node forwards what
//! comes to the control port. It decides nothing and remembers nothing: each answer is made of messages that drivers get as
//! well ([`eagleray_types::control`]), asked through [`Calls`]. Parsing what strangers send, and writing long answers,
//! therefore never holds up the controller's loop.
//!
//! The way of a request: `listen` accepts, `guard` holds it to the rules of the port (token, Host, Origin), `router` finds
//! its handler, and `view` turns messages into JSON: the one place that knows both.

mod applications;
mod autoscaling;
mod calls;
mod contract;
mod deploys;
mod errors;
mod events;
mod extract;
mod guard;
mod hosts;
mod listen;
mod logs;
mod node;
mod openapi;
mod readers;
mod replicas;
mod resources;
mod router;
mod series;
mod state;
mod status;
mod stream;
mod token;
mod view;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

pub use calls::{Answer, Away, Calls, Judge};
pub use hosts::Hosts;
pub use openapi::openapi;
pub use series::Series;

/// Longest body of a request.
const MOST_BODY_BYTES: usize = 4 << 20;

/// How often the token's file is looked for: somebody may remove it while the node lives.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// What the API knows without asking.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; made anew.
    pub socket: PathBuf,
    /// The file of the token; made if it is not there.
    pub token: PathBuf,
    /// Where it is kept for the next start of the node, if it is.
    pub kept_token: Option<PathBuf>,
    /// Where the logs of this node are.
    pub logs: PathBuf,
    /// As clients see the port: `http://127.0.0.1:8265`.
    pub control_address: String,
    /// The release.
    pub version: &'static str,
    pub judge: Judge,
}

/// The API, which can be reached and does not answer yet.
pub struct Api {
    listener: listen::Listener,
    state: Arc<state::State>,
}

impl Api {
    /// Makes the socket and, if there is none, the token: whoever is told afterwards that there is a node finds both. Must be
    /// called within a runtime that drives I/O and time.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub fn bind(options: Options, calls: Arc<dyn Calls>) -> io::Result<Self> {
        let token = token::Token::open(options.token, options.kept_token)?;
        let listener = listen::Listener::bind(options.socket)?;
        let state = state::State::new(
            token,
            &options.control_address,
            options.version,
            readers::Readers::new(options.logs),
            options.judge,
            calls,
        );
        Ok(Self { listener, state })
    }

    /// Answers until the process ends.
    ///
    /// # Errors
    /// When it cannot go on.
    pub async fn serve(self) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        let keep = async move {
            loop {
                tokio::time::sleep(KEEP_EVERY).await;
                state.token.keep();
            }
        };
        tokio::select! {
            served = axum::serve(self.listener, router::router(self.state)) => served,
            () = keep => Ok(()),
        }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Api").finish_non_exhaustive()
    }
}
