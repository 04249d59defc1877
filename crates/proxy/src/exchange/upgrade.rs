//! From a request to a WebSocket: the wish goes along with it, and what user code accepts is left for the connection.

use std::{cell::RefCell, rc::Rc};

use bytes::Bytes;
use eagleray_router::service::{Answer, Data, Exchange};
use eagleray_wire::ResponseHead;
use http::Response;

use super::{
    body::Body,
    failure::{answer_failure, unsendable},
    record::Record,
};
use crate::websocket::{Accepted, Handshake};

/// A request's wish for a WebSocket.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) handshake: Handshake,
    /// Where one is left that user code has accepted, until hyper has written the answer.
    pub(super) place: Rc<UpgradePlace>,
}

pub(super) type UpgradePlace = RefCell<Option<Box<Accepted>>>;

impl Upgrade {
    /// Accepts a WebSocket, which begins when hyper has written this answer. `data`: what came with its head.
    pub(super) fn accept(
        &self,
        head: &ResponseHead<'_>,
        answer: &Answer,
        data: Bytes,
        exchange: Exchange,
        mut record: Record,
    ) -> Response<Body> {
        let handshake = &self.handshake;
        let Ok(response) = handshake.accept(head, &answer.payload, &record.request_id) else {
            return answer_failure(&mut record, &unsendable(), "");
        };
        let says_more = !data.is_empty() || answer.is_complete();
        self.place.replace(Some(Box::new(Accepted {
            exchange,
            record,
            first: says_more.then_some(Data {
                flags: answer.flags,
                bytes: data,
                arrivals: Vec::new(),
            }),
            agreed: handshake.agreed,
        })));
        response
    }
}
