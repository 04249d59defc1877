//! What all handlers share, and how they ask.

use std::{sync::Arc, time::Duration};

use eagleray_types::control::{
    ApiError, Empty, NodeInfo, Status, api_request, api_response, node_request, node_response,
};
use http::StatusCode;

use crate::{
    calls::{Calls, Judge},
    errors::Refusal,
    hosts::Hosts,
    readers::Readers,
    token::Token,
};

/// The controller answers within this time, or it hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What all handlers share.
pub(crate) struct State {
    pub(crate) token: Token,
    pub(crate) hosts: Hosts,
    pub(crate) version: &'static str,
    pub(crate) readers: Readers,
    pub(crate) judge: Judge,
    calls: Arc<dyn Calls>,
}

impl State {
    pub(crate) fn new(
        token: Token,
        control_address: &str,
        version: &'static str,
        readers: Readers,
        judge: Judge,
        calls: Arc<dyn Calls>,
    ) -> Arc<Self> {
        Arc::new(Self {
            token,
            hosts: Hosts::of(control_address),
            version,
            readers,
            judge,
            calls,
        })
    }

    /// Asks the controller; its error is a refusal.
    pub(crate) async fn call(
        &self,
        request: api_request::Body,
    ) -> Result<api_response::Body, Refusal> {
        self.call_within(request, ANSWER_WITHIN).await
    }

    /// As [`State::call`], for what takes long by its nature.
    pub(crate) async fn call_within(
        &self,
        request: api_request::Body,
        time: Duration,
    ) -> Result<api_response::Body, Refusal> {
        let late = || {
            let message = format!("the controller has not answered within {time:?}");
            Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                "controller_away",
                message,
                "`eagleray status` says whether it runs; its log is controller.log in the node's log directory",
            )
        };
        match tokio::time::timeout(time, self.calls.call(request)).await {
            Err(_) => Err(late()),
            Ok(Err(away)) => Err(away.into()),
            Ok(Ok(api_response::Body::Error(error))) => Err(error.into()),
            Ok(Ok(body)) => Ok(body),
        }
    }

    /// What the controller says of all applications.
    pub(crate) async fn status(&self) -> Result<Status, Refusal> {
        match self.call(api_request::Body::Status(Empty {})).await? {
            api_response::Body::Status(status) => Ok(status),
            _ => Err(Refusal::unexpected("status")),
        }
    }

    /// What the node says of itself.
    pub(crate) async fn node_info(&self) -> Result<NodeInfo, Refusal> {
        match self.node(node_request::Body::Info(Empty {})).await? {
            node_response::Body::Info(info) => Ok(info),
            _ => Err(Refusal::unexpected("node")),
        }
    }

    pub(crate) async fn node(
        &self,
        request: node_request::Body,
    ) -> Result<node_response::Body, Refusal> {
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.calls.node(request)).await;
        match asked {
            Err(_) => Err(Refusal::from(ApiError {
                kind: "internal".to_owned(),
                message: format!("the node has not answered within {ANSWER_WITHIN:?}"),
            })),
            Ok(Err(away)) => Err(away.into()),
            Ok(Ok(node_response::Body::Error(error))) => Err(error.into()),
            Ok(Ok(body)) => Ok(body),
        }
    }
}
