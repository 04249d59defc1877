//! Whom the API asks.

use std::{future::Future, pin::Pin};

use eagleray_config::{Config, Problems};
use eagleray_types::control::{api_request, api_response, node_request, node_response};

/// An answer that is on its way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Away>> + Send + 'a>>;

/// What is wrong with a config beyond its schema, for who alone knows: the proxy has limits of its own.
pub type Judge = fn(&Config) -> Problems;

/// Nobody answered: in words for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away(pub String);

/// The controller and the node, as the API reaches them. A call that is dropped is taken back: nobody waits for it any more.
pub trait Calls: Send + Sync + 'static {
    /// Asks the controller. Answers with the first response; what a request changes may be under way when nobody is told.
    fn call(&self, request: api_request::Body) -> Answer<'_, api_response::Body>;

    /// Asks the node.
    fn node(&self, request: node_request::Body) -> Answer<'_, node_response::Body>;
}
