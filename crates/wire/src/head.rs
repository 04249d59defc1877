//! Heads: what a REQUEST and a RESPONSE say before their body.
//!
//! Flat and length-prefixed, read in place: a head is borrowed from its frame, nothing is allocated to look at it.
//! Strings and header values are bytes; whoever shows them to user code decides what they mean.

use bytes::{BufMut, Bytes, BytesMut};

use crate::region::{self, MOST_ATTACHMENTS, Named};

#[cfg(test)]
mod tests;

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

/// The table of a message's attachments, borrowed. See [`region`](crate::region).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attachments<'a>(&'a [u8]);

impl<'a> Attachments<'a> {
    /// Encodes a table into `table` (cleared first) and borrows it.
    ///
    /// # Errors
    /// More entries than a message may have.
    pub fn build(
        table: &'a mut BytesMut,
        entries: impl IntoIterator<Item = Named>,
    ) -> Result<Self, HeadError> {
        table.clear();
        region::encode_named(table, entries);
        let count = table.len() / Named::BYTES;
        if count > MOST_ATTACHMENTS {
            return Err(HeadError::TooLong {
                field: "attachments",
                length: count,
                limit: MOST_ATTACHMENTS,
            });
        }
        Ok(Self(table))
    }

    /// Cuts a table of `count` entries off the front of `bytes`.
    ///
    /// # Errors
    /// There are not so many, or more than a message may have.
    pub fn split(count: usize, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), HeadError> {
        let mut reader = Reader(bytes);
        let table = reader.attachments(count)?;
        Ok((table, reader.0))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Named> + use<'a> {
        Named::read(self.0)
    }
}

/// Header fields, in order, borrowed: `count` times name length (u16), value length (u32), name, value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    count: u16,
    block: &'a [u8],
}

impl<'a> Headers<'a> {
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Names (lower case) and values. The block was checked when the head was read.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut reader = Reader(self.block);
        (0..self.count).map_while(move |_| reader.header().ok())
    }
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
                    headers: reader.headers()?,
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
                    reader.attachments(count.into())?
                },
            }),
            other => return Err(HeadError::UnknownKind(other)),
        };
        Ok((head, payload.0))
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
        let mut out = BytesMut::with_capacity(head.len() + attachments.0.len());
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
                out.put_u16_le(head.headers.count);
                out.put_slice(head.headers.block);
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
                out.put_u16_le((head.attachments.0.len() / Named::BYTES) as u16);
                out.put_slice(head.attachments.0);
                Ok(())
            }
        }
    }
}

impl<'a> Headers<'a> {
    /// Encodes header fields into `block` (cleared first) and borrows them. Names must be lower case.
    ///
    /// # Errors
    /// More than 65,535 fields, or a name that long, do not fit.
    pub fn build<'f>(
        block: &'a mut BytesMut,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<Self, HeadError> {
        block.clear();
        let count = put_headers(block, fields)?;
        Ok(Self { count, block })
    }
}

/// The head of an HTTP response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    pub status: u16,
    pub headers: Headers<'a>,
}

/// A RESPONSE's payload, taken apart by its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponsePayload<'a> {
    pub head: Option<ResponseHead<'a>>,
    pub trailers: Option<Headers<'a>>,
    /// Offset of the data in the payload, so that it can be sliced without a copy.
    pub data_offset: usize,
}

impl<'a> ResponsePayload<'a> {
    pub fn decode(flags: crate::Flags, payload: &'a [u8]) -> Result<Self, HeadError> {
        let mut reader = Reader(payload);
        let head = if flags.contains(crate::Flags::HEAD) {
            let status = reader.u16("status")?;
            Some(ResponseHead {
                status,
                headers: reader.headers()?,
            })
        } else {
            None
        };
        let trailers = if flags.contains(crate::Flags::TRAILERS) {
            Some(reader.headers()?)
        } else {
            None
        };
        Ok(Self {
            head,
            trailers,
            data_offset: payload.len() - reader.0.len(),
        })
    }

    /// The data, sharing the frame's memory.
    pub fn data(&self, payload: &Bytes) -> Bytes {
        payload.slice(self.data_offset..)
    }
}

/// Appends a response head; data follows.
///
/// # Errors
/// More than 65,535 fields, a longer name, or a head over [`MAX_HEAD_BYTES`] do not fit; `out` is as it was.
pub fn encode_response_head<'f>(
    out: &mut BytesMut,
    status: u16,
    headers: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), HeadError> {
    let start = out.len();
    out.put_u16_le(status);
    put_counted(out, headers).inspect_err(|_| out.truncate(start))
}

/// Appends a block of trailers: after the head of the same frame, or first in a frame without one.
///
/// # Errors
/// As [`encode_response_head`]; `out` is as it was.
pub fn encode_trailers<'f>(
    out: &mut BytesMut,
    trailers: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), HeadError> {
    let start = out.len();
    put_counted(out, trailers).inspect_err(|_| out.truncate(start))
}

/// The number of fields, then the fields.
fn put_counted<'f>(
    out: &mut BytesMut,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), HeadError> {
    let count_at = out.len();
    out.put_u16_le(0);
    let count = put_headers(out, fields)?;
    out[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
    Ok(())
}

fn put_headers<'f>(
    out: &mut BytesMut,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<u16, HeadError> {
    let start = out.len();
    let mut count: usize = 0;
    for (name, value) in fields {
        let name_length =
            u16::try_from(name.len()).map_err(|_| too_long("header name", name.len()))?;
        let value_length = fits(value.len())?;
        // Checked before the copy, so that a head that does not fit never grows past its limit.
        fits(out.len() - start + 6 + name.len() + value.len())?;
        out.reserve(6 + name.len() + value.len());
        out.put_u16_le(name_length);
        out.put_u32_le(value_length);
        out.put_slice(name);
        out.put_slice(value);
        count += 1;
    }
    u16::try_from(count).map_err(|_| too_long("header count", count))
}

fn put_short(out: &mut BytesMut, text: &[u8], field: &'static str) -> Result<(), HeadError> {
    let length = u16::try_from(text.len()).map_err(|_| too_long(field, text.len()))?;
    out.reserve(2 + text.len());
    out.put_u16_le(length);
    out.put_slice(text);
    Ok(())
}

fn fits(length: usize) -> Result<u32, HeadError> {
    if length > MAX_HEAD_BYTES {
        return Err(HeadError::TooLong {
            field: "head",
            length,
            limit: MAX_HEAD_BYTES,
        });
    }
    Ok(length as u32)
}

const fn too_long(field: &'static str, length: usize) -> HeadError {
    HeadError::TooLong {
        field,
        length,
        limit: u16::MAX as usize,
    }
}

/// Reads from the front of a slice; never past its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], HeadError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(HeadError::Truncated { field })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], HeadError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(HeadError::Truncated { field })?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, HeadError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, HeadError> {
        self.array(field).map(u16::from_le_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, HeadError> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn attachments(&mut self, count: usize) -> Result<Attachments<'a>, HeadError> {
        if count > MOST_ATTACHMENTS {
            return Err(HeadError::TooLong {
                field: "attachments",
                length: count,
                limit: MOST_ATTACHMENTS,
            });
        }
        self.take(count * Named::BYTES, "attachments")
            .map(Attachments)
    }

    fn short(&mut self, field: &'static str) -> Result<&'a [u8], HeadError> {
        let length = self.u16(field)?;
        self.take(length.into(), field)
    }

    fn header(&mut self) -> Result<(&'a [u8], &'a [u8]), HeadError> {
        let name_length = self.u16("header name")?;
        let value_length = self.u32("header value")?;
        let name = self.take(name_length.into(), "header name")?;
        let value = self.take(value_length as usize, "header value")?;
        Ok((name, value))
    }

    fn headers(&mut self) -> Result<Headers<'a>, HeadError> {
        let count = self.u16("header count")?;
        let start = self.0;
        for _ in 0..count {
            self.header()?;
        }
        let block = &start[..start.len() - self.0.len()];
        Ok(Headers { count, block })
    }
}
