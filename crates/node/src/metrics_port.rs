//! A port for Prometheus on another machine: it answers metrics and health, and nothing else, without a token.
//!
//! So it can listen where the control port must not. Bounds: [`CONNECTIONS`] at once, further ones wait in the backlog; a head
//! comes within [`HEAD_WITHIN`], which is also how long a connection may be idle; a client takes something of its
//! answer within [`TAKES_WITHIN`], or its connection ends.

use std::{
    convert::Infallible,
    io,
    net::TcpListener as StdTcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};

use crate::{
    metrics::{self, Metrics},
    taking::Taking,
};

const CONNECTIONS: usize = 64;
const HEAD_WITHIN: Duration = Duration::from_secs(30);
const TAKES_WITHIN: Duration = Duration::from_secs(30);
const HEAD_BYTES: usize = 16 * 1024;
/// Pause after `accept` failed (no descriptor left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends.
pub(crate) async fn serve(
    listener: StdTcpListener,
    metrics: Arc<Metrics>,
    ending: Arc<AtomicBool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (metrics, ending) = (Arc::clone(&metrics), Arc::clone(&ending));
                tokio::spawn(async move {
                    connection(stream, &metrics, &ending).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "connections for metrics cannot be accepted");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    Ok(())
}

async fn connection(stream: TcpStream, metrics: &Metrics, ending: &AtomicBool) {
    let service = service_fn(|request| async move {
        Ok::<_, Infallible>(answer(&request, metrics, ending.load(Ordering::Relaxed)).await)
    });
    let served = server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Taking::new(stream, TAKES_WITHIN)), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection for metrics broke");
    }
}

async fn answer(
    request: &Request<Incoming>,
    metrics: &Metrics,
    ends: bool,
) -> Response<Full<Bytes>> {
    match request.uri().path() {
        metrics::PATH => metrics.answer(request.method(), request.headers()).await,
        "/-/healthz" => health(request.method(), ends),
        _ => {
            let text = "here is only /metrics and /-/healthz; the control port has the rest\n";
            let mut response = Response::new(Full::from(text));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

/// Whether the node goes on; on the control port too.
pub(crate) fn health(method: &Method, ends: bool) -> Response<Full<Bytes>> {
    let (status, text) = match *method {
        Method::GET | Method::HEAD if ends => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
        Method::GET | Method::HEAD => (StatusCode::OK, "success"),
        _ => (StatusCode::METHOD_NOT_ALLOWED, ""),
    };
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let methods = HeaderValue::from_static("GET, HEAD");
        answer.headers_mut().insert(header::ALLOW, methods);
    }
    answer
}
