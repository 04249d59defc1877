//! Heads: what a REQUEST and a RESPONSE say before their body.
//!
//! Flat and length-prefixed, read in place: a head is borrowed from its frame, nothing is allocated to look at it.
//! Strings and header values are bytes; whoever shows them to user code decides what they mean.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{model::is_model_header, region::Named, session::is_session_header};
use parts::{Reader, fits, put_short};

mod attachments;
mod headers;
mod http;
mod parts;
mod response;

#[cfg(test)]
mod tests;

pub use attachments::Attachments;
pub use headers::Headers;
pub use http::percent_decoded;
pub use response::{ResponseHead, ResponsePayload, encode_response_head, encode_trailers};

/// Longest head, request or response. It leaves room in one data frame for the body bytes that come with it.
pub const MAX_HEAD_BYTES: usize = 256 * 1024;

/// A head that cannot be read: the peer is broken, the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("head ends inside {field}")]
    Truncated { field: &'static str },
    #[error("unknown request kind {0}")]
    UnknownKind(u8),
    #[error("{field} of {length} bytes is longer than {limit}")]
    TooLong {
        field: &'static str,
        length: usize,
        limit: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RequestKind {
    Http = 0,
    WebSocket = 1,
    Grpc = 2,
    Call = 3,
}

/// A string of request heads that says nothing. Older releases named a revision there, before it was known whose replica
/// gets the request; a replica knows its own.
const UNUSED: &[u8] = b"";

/// The head of a request, borrowed from the payload that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestHead<'a> {
    Http(HttpHead<'a>),
    Call(CallHead<'a>),
}

/// An HTTP request as the client sent it, nothing decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpHead<'a> {
    /// `Http` or `WebSocket`.
    pub websocket: bool,
    /// The user-visible id: the client's `x-request-id`, or a fresh UUID4.
    pub request_id: &'a [u8],
    /// W3C `traceparent`, or empty.
    pub traceparent: &'a [u8],
    /// 10 or 11 for HTTP/1.0 and 1.1, 20 for HTTP/2.
    pub version: u8,
    /// 0 is ordinary.
    pub priority: u8,
    pub tls: bool,
    pub method: &'a [u8],
    /// The path, percent-encoded as received.
    pub path: &'a [u8],
    /// Without the `?`.
    pub query: &'a [u8],
    /// The application's route prefix; empty for `/`.
    pub root_path: &'a [u8],
    /// Address of the client, as text, and its port.
    pub client: (&'a [u8], u16),
    pub server: (&'a [u8], u16),
    pub headers: Headers<'a>,
}

/// A call through a handle. The body holds its arguments, pickled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallHead<'a> {
    pub request_id: &'a [u8],
    pub traceparent: &'a [u8],
    pub priority: u8,
    /// The method of the deployment. Empty: a slot is reserved, and the body, which comes later, names the method.
    pub method: &'a [u8],
    pub multiplexed_model_id: &'a [u8],
    pub session_id: &'a [u8],
    /// The caller iterates over the result.
    pub stream: bool,
    /// Where the request entered that the caller serves: a route prefix, or empty.
    pub route: &'a [u8],
    /// What goes with the body, but not in it.
    pub attachments: Attachments<'a>,
}

impl<'a> RequestHead<'a> {
    /// Splits a REQUEST's payload into its head and the first bytes of the body.
    pub fn decode(payload: &'a [u8]) -> Result<(Self, &'a [u8]), HeadError> {
        let mut payload = Reader(payload);
        let length = payload.u32("head length")? as usize;
        if length > MAX_HEAD_BYTES {
            return Err(HeadError::TooLong {
                field: "head",
                length,
                limit: MAX_HEAD_BYTES,
            });
        }
        // Bytes after the last known field are fields of a later version.
        let mut reader = Reader(payload.take(length, "head")?);
        let kind = reader.u8("kind")?;
        let priority = reader.u8("priority")?;
        let request_id = reader.short("request id")?;
        reader.short("unused")?;
        let traceparent = reader.short("traceparent")?;
        let head = match kind {
            0 | 1 => {
                let version = reader.u8("version")?;
                let tls = reader.u8("tls")? != 0;
                Self::Http(HttpHead {
                    websocket: kind == 1,
                    request_id,
                    traceparent,
                    version,
                    priority,
                    tls,
                    method: reader.short("method")?,
                    path: reader.short("path")?,
                    query: reader.short("query")?,
                    root_path: reader.short("root path")?,
                    client: (reader.short("client")?, reader.u16("client port")?),
                    server: (reader.short("server")?, reader.u16("server port")?),
                    headers: Headers::read(&mut reader)?,
                })
            }
            3 => Self::Call(CallHead {
                request_id,
                traceparent,
                priority,
                method: reader.short("method")?,
                multiplexed_model_id: reader.short("multiplexed model id")?,
                session_id: reader.short("session id")?,
                stream: reader.u8("stream")? != 0,
                route: reader.short("route")?,
                attachments: {
                    let count = reader.u16("attachment count")?;
                    Attachments::read(&mut reader, count.into())?
                },
            }),
            other => return Err(HeadError::UnknownKind(other)),
        };
        Ok((head, payload.0))
    }

    /// The user-visible id.
    pub const fn request_id(&self) -> &'a [u8] {
        match self {
            Self::Http(head) => head.request_id,
            Self::Call(head) => head.request_id,
        }
    }

    /// W3C `traceparent`, or empty.
    pub const fn traceparent(&self) -> &'a [u8] {
        match self {
            Self::Http(head) => head.traceparent,
            Self::Call(head) => head.traceparent,
        }
    }

    /// The id of the trace that it names, 32 hexadecimal digits; empty if it names none.
    pub fn trace_id(&self) -> &'a [u8] {
        let parts = self.traceparent().get(3..35);
        parts
            .filter(|id| {
                let is_hex = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
                self.traceparent().get(2) == Some(&b'-')
                    && self.traceparent().get(35) == Some(&b'-')
                    && id.iter().all(is_hex)
                    && id.iter().any(|byte| *byte != b'0')
            })
            .unwrap_or_default()
    }

    /// Where the request entered, or that which its caller serves: a route prefix; empty if that was not over HTTP.
    pub const fn route(&self) -> &'a [u8] {
        match self {
            Self::Http(head) if head.root_path.is_empty() => b"/",
            Self::Http(head) => head.root_path,
            Self::Call(head) => head.route,
        }
    }

    /// The multiplexed model that it asks for; empty: none.
    pub fn multiplexed_model_id(&self) -> &'a [u8] {
        match self {
            Self::Http(head) => head.headers.first(is_model_header),
            Self::Call(head) => head.multiplexed_model_id,
        }
    }

    /// The session that it belongs to; empty: none.
    pub fn session_id(&self) -> &'a [u8] {
        match self {
            Self::Http(head) => head.headers.first(is_session_header),
            Self::Call(head) => head.session_id,
        }
    }

    /// Appends the head, with its length before it; the body follows.
    ///
    /// # Errors
    /// A string of 64 KiB or more, or a head over [`MAX_HEAD_BYTES`], does not fit; `out` is as it was.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), HeadError> {
        let start = out.len();
        out.put_u32_le(0);
        let result = self
            .encode_fields(out)
            .and_then(|()| fits(out.len() - start - 4));
        match result {
            Ok(length) => out[start..start + 4].copy_from_slice(&length.to_le_bytes()),
            Err(_) => out.truncate(start),
        }
        result.map(drop)
    }

    /// An encoded head of a call with another table of attachments.
    ///
    /// # Errors
    /// It is no head of a call, or does not fit with that table.
    pub fn attach(
        head: &[u8],
        entries: impl IntoIterator<Item = Named>,
    ) -> Result<Bytes, HeadError> {
        let (decoded, _) = RequestHead::decode(head)?;
        let RequestHead::Call(call) = decoded else {
            return Err(HeadError::UnknownKind(RequestKind::Http as u8));
        };
        let mut table = BytesMut::new();
        let attachments = Attachments::build(&mut table, entries)?;
        let mut out = BytesMut::with_capacity(head.len() + attachments.as_bytes().len());
        RequestHead::Call(CallHead {
            attachments,
            ..call
        })
        .encode(&mut out)?;
        Ok(out.freeze())
    }

    fn encode_fields(&self, out: &mut BytesMut) -> Result<(), HeadError> {
        match self {
            Self::Http(head) => {
                out.put_u8(if head.websocket {
                    RequestKind::WebSocket
                } else {
                    RequestKind::Http
                } as u8);
                out.put_u8(head.priority);
                put_short(out, head.request_id, "request id")?;
                put_short(out, UNUSED, "unused")?;
                put_short(out, head.traceparent, "traceparent")?;
                out.put_u8(head.version);
                out.put_u8(u8::from(head.tls));
                put_short(out, head.method, "method")?;
                put_short(out, head.path, "path")?;
                put_short(out, head.query, "query")?;
                put_short(out, head.root_path, "root path")?;
                put_short(out, head.client.0, "client")?;
                out.put_u16_le(head.client.1);
                put_short(out, head.server.0, "server")?;
                out.put_u16_le(head.server.1);
                head.headers.put(out);
                Ok(())
            }
            Self::Call(head) => {
                out.put_u8(RequestKind::Call as u8);
                out.put_u8(head.priority);
                put_short(out, head.request_id, "request id")?;
                put_short(out, UNUSED, "unused")?;
                put_short(out, head.traceparent, "traceparent")?;
                put_short(out, head.method, "method")?;
                put_short(out, head.multiplexed_model_id, "multiplexed model id")?;
                put_short(out, head.session_id, "session id")?;
                out.put_u8(u8::from(head.stream));
                put_short(out, head.route, "route")?;
                // At most `MOST_ATTACHMENTS`.
                out.put_u16_le((head.attachments.as_bytes().len() / Named::BYTES) as u16);
                out.put_slice(head.attachments.as_bytes());
                Ok(())
            }
        }
    }
}
