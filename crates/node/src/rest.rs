//! The control API beside the controller's loop: a thread of its own, which asks the loop and the node.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use bytes::BytesMut;
use eagleray_controller::LocalCalls;
use eagleray_rest::{Answer, Api, Away, Calls};
use eagleray_types::control::{
    NodeRequest, NodeResponse, api_request, api_response, node_request, node_response,
};
use eagleray_wire::{Decoder, Frame, Kind};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime::Builder,
};

use crate::{cli, settings::ChildOptions};

/// What the API is started with.
pub(crate) struct Rest {
    options: eagleray_rest::Options,
    node_socket: PathBuf,
}

impl Rest {
    pub(crate) fn new(options: &ChildOptions) -> Self {
        let directory = &options.run_directory;
        Self {
            options: eagleray_rest::Options {
                socket: directory.join("rest.sock"),
                token: directory.join("token"),
                kept_token: options.kept_token.clone(),
                logs: options.logs.directory.clone(),
                control_address: options.control_address.clone(),
                version: env!("CARGO_PKG_VERSION"),
                judge: cli::http_options_and_files,
            },
            node_socket: directory.join("node.sock"),
        }
    }

    /// Serves on a thread of its own from now on. Without the API the controller goes on: requests, and scripts, need none.
    pub(crate) fn start(self, calls: LocalCalls) {
        if let Err(error) = self.try_start(calls) {
            tracing::error!(%error, "the control API cannot be started; applications are served all the same");
        }
    }

    fn try_start(self, calls: LocalCalls) -> io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()?;
        let calls = Arc::new(Asked {
            controller: calls,
            node_socket: self.node_socket,
        });
        let entered = runtime.enter();
        let api = Api::bind(self.options, calls)?;
        drop(entered);
        let serve = move || {
            if let Err(error) = runtime.block_on(api.serve()) {
                tracing::error!(%error, "the control API ends; applications are served all the same");
            }
        };
        thread::Builder::new().name("rest".into()).spawn(serve)?;
        Ok(())
    }
}

/// Controller and node, as the API asks them.
struct Asked {
    controller: LocalCalls,
    node_socket: PathBuf,
}

impl Calls for Asked {
    fn call(&self, request: api_request::Body) -> Answer<'_, api_response::Body> {
        Box::pin(async move {
            let answer = self.controller.call(request).await;
            answer.map_err(|error| Away(error.to_string()))
        })
    }

    fn node(&self, request: node_request::Body) -> Answer<'_, node_response::Body> {
        Box::pin(async move {
            let request = NodeRequest {
                body: Some(request),
            };
            let answer = ask(&self.node_socket, request.encode_to_vec()).await;
            answer.map_err(|error| Away(format!("the node does not answer: {error}")))
        })
    }
}

/// One question on `node.sock`.
async fn ask(socket: &Path, request: Vec<u8>) -> io::Result<node_response::Body> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut buffer = BytesMut::new();
    Frame::control(1, request).encode(&mut buffer);
    stream.write_all_buf(&mut buffer).await?;
    loop {
        let frame = Decoder::control()
            .decode(&mut buffer)
            .map_err(|error| io::Error::other(error.to_string()))?;
        if let Some(frame) = frame.filter(|frame| frame.header.kind == Kind::Control) {
            let response = NodeResponse::decode(frame.payload).map_err(io::Error::other)?;
            return response.body.ok_or_else(|| {
                io::Error::other("it gave an answer that this release does not know")
            });
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
