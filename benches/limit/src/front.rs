//! HTTP/1.1 connections, and what a request becomes.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{Frame, Headers, HttpHead, RequestHead, ResponsePayload};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::Body,
    body::Incoming,
    header::{HeaderName, HeaderValue},
    rt::ReadBufCursor,
    server::conn::http1,
    service::service_fn,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use crate::link::Link;

pub(crate) async fn accept(listener: TcpListener, link: Rc<Link>) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let link = Rc::clone(&link);
        tokio::task::spawn_local(async move {
            let addresses = Addresses::new(peer, local);
            let service = service_fn(|request| answer(&link, &addresses, request));
            let io = Io {
                stream,
                scratch: vec![0; 16 * 1024],
            };
            // A client that breaks off is no matter here.
            drop(
                http1::Builder::new()
                    .header_read_timeout(None)
                    .serve_connection(io, service)
                    .await,
            );
        });
    }
}

struct Addresses {
    client: (String, u16),
    server: (String, u16),
}

impl Addresses {
    fn new(client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            client: (client.ip().to_string(), client.port()),
            server: (server.ip().to_string(), server.port()),
        }
    }
}

async fn answer(
    link: &Link,
    addresses: &Addresses,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = if body.is_end_stream() {
        Bytes::new()
    } else {
        body.collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default()
    };
    let mut block = BytesMut::new();
    let fields = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let Ok(headers) = Headers::build(&mut block, fields) else {
        return Ok(failed());
    };
    let head = RequestHead::Http(HttpHead {
        websocket: false,
        request_id: b"",
        traceparent: b"",
        version: 11,
        priority: 0,
        tls: false,
        method: parts.method.as_str().as_bytes(),
        path: parts.uri.path().as_bytes(),
        query: parts.uri.query().unwrap_or_default().as_bytes(),
        root_path: b"",
        client: (addresses.client.0.as_bytes(), addresses.client.1),
        server: (addresses.server.0.as_bytes(), addresses.server.1),
        headers,
    });
    let mut encoded = BytesMut::with_capacity(block_size(&head) + body.len());
    if head.encode(&mut encoded).is_err() {
        return Ok(failed());
    }
    let frame = link
        .ask(|out| {
            out.extend_from_slice(&encoded);
            out.extend_from_slice(&body);
        })
        .await;
    Ok(response(&frame).unwrap_or_else(failed))
}

fn block_size(head: &RequestHead<'_>) -> usize {
    match head {
        RequestHead::Http(head) => 128 + 64 * head.headers.len(),
        RequestHead::Call(_) => 128,
    }
}

fn response(frame: &Frame) -> Option<Response<Full<Bytes>>> {
    let payload = ResponsePayload::decode(frame.header.flags, &frame.payload).ok()?;
    let head = payload.head?;
    let mut response = Response::builder().status(head.status);
    for (name, value) in head.headers.iter() {
        let name = HeaderName::from_bytes(name).ok()?;
        response = response.header(name, HeaderValue::from_bytes(value).ok()?);
    }
    response.body(Full::new(payload.data(&frame.payload))).ok()
}

fn failed() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"bad head\n")));
    *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// A tokio stream as hyper wants it. Bytes are copied once from `scratch`, which is cheaper than zeroing hyper's
/// own buffer for each read, and needs no unsafe code.
struct Io {
    stream: TcpStream,
    scratch: Vec<u8>,
}

impl hyper::rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, scratch } = self.get_mut();
        let length = scratch.len().min(cursor.remaining());
        let mut buffer = ReadBuf::new(&mut scratch[..length]);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }
}
