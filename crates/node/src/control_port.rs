//! The control port, as the node has it: it accepts, answers health, metrics and series itself, and forwards everything else to the
//! controller.
//!
//! So the port is there as long as the node is: a controller that is being started again costs an answer of 503 that says
//! so, and no refused connection. What may be asked, and by whom, is judged where the answer is made (`crates/rest`).
//! It runs on a thread of its own, so that whoever reads megabytes here never holds up the node's loop. Bounds:
//! [`CONNECTIONS`] at once (further ones wait in the backlog); a head comes within [`HEAD_WITHIN`], which is also how long a
//! connection may be idle; each part of a body within [`PART_WITHIN`]; bodies pass through, part by part; and a client takes
//! something of its answer within [`TAKES_WITHIN`], or its connection ends.

use std::{
    io,
    net::TcpListener as StdTcpListener,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use bytes::Bytes;
use eagleray_cli::socket;
use eagleray_rest::Hosts;
use eagleray_types::control::{Empty, NodeRequest, NodeResponse, node_request, node_response};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    runtime::Builder,
    sync::Semaphore,
    task::JoinHandle,
    time::{self, Instant, Sleep},
};

use crate::{
    metrics::{self, Metrics},
    metrics_port::{self, health},
    series::{self, Series},
    taking::Taking,
};

const CONNECTIONS: usize = 256;
/// One reads metrics, one takes samples, the others answer series and ask the node.
const BLOCKING_THREADS: usize = 4;
const HEAD_WITHIN: Duration = Duration::from_secs(30);
const PART_WITHIN: Duration = Duration::from_secs(30);
const TAKES_WITHIN: Duration = Duration::from_secs(30);
const HEAD_BYTES: usize = 64 * 1024;
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
/// A plan is answered when everything is built that must be. Handlers have limits of their own below this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(900);
/// Pause after `accept` failed (no descriptor left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Asked by load balancers, by Ray's operator for Kubernetes, and by people; answered without a token.
const HEALTH: &[&str] = &[
    "/-/healthz",
    "/api/gcs_healthz",
    "/api/local_raylet_healthz",
];

/// Ends the node, and with it the controller that answers.
const SHUTDOWN: &str = "/api/v1/shutdown";

/// Of one connection, and not of the message (RFC 9110, 7.6.1), or settled between the client and this process.
const OF_A_HOP: &[HeaderName] = &[
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// What the control port is served with.
pub(crate) struct ControlPort {
    pub(crate) listener: StdTcpListener,
    /// Where the controller listens.
    pub(crate) rest_socket: PathBuf,
    /// Where the node itself is asked what is wrong with its controller.
    pub(crate) node_socket: PathBuf,
    /// For messages that name it.
    pub(crate) log_directory: PathBuf,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) series: Arc<Series>,
    /// Where metrics and health alone are served too.
    pub(crate) metrics_listener: Option<StdTcpListener>,
}

impl ControlPort {
    /// Serves on a thread of its own, until the process ends.
    pub(crate) fn start(self, ending: Arc<AtomicBool>) -> io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        self.listener.set_nonblocking(true)?;
        let serve = move || {
            if let Err(error) = runtime.block_on(self.serve(ending)) {
                tracing::error!(%error, "the control port is not served");
            }
        };
        thread::Builder::new().name("control".into()).spawn(serve)?;
        Ok(())
    }

    async fn serve(self, ending: Arc<AtomicBool>) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let forward = Arc::new(Forward {
            rest_socket: self.rest_socket,
            node_socket: self.node_socket,
            log_directory: self.log_directory,
            ending: Arc::clone(&ending),
            metrics: Arc::clone(&self.metrics),
            series: Arc::clone(&self.series),
        });
        let buries = Arc::clone(&self.metrics);
        tokio::spawn(async move { buries.bury().await });
        let collector = self.metrics.collector();
        tokio::spawn(async move { self.series.sample(collector).await });
        if let Some(listener) = self.metrics_listener {
            let served = metrics_port::serve(listener, self.metrics, ending);
            tokio::spawn(async move {
                if let Err(error) = served.await {
                    tracing::error!(%error, "the port for metrics is not served");
                }
            });
        }
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let forward = Arc::clone(&forward);
                    tokio::spawn(async move {
                        forward.serve(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "connections to the control port cannot be accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        Ok(())
    }
}

type Answer = Response<Either<Full<Bytes>, Forwarded>>;

struct Forward {
    rest_socket: PathBuf,
    node_socket: PathBuf,
    log_directory: PathBuf,
    /// The node ends.
    ending: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    series: Arc<Series>,
}

impl Forward {
    async fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).ok();
        let service = service_fn(|request| async {
            Ok::<_, std::convert::Infallible>(self.answer(request).await)
        });
        let served = server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(Taking::new(stream, TAKES_WITHIN)), service);
        if let Err(error) = served.await {
            tracing::debug!(%error, "a connection to the control port broke");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let ends = self.ending.load(Ordering::Relaxed);
        if HEALTH.contains(&request.uri().path()) {
            return health(request.method(), ends).map(Either::Left);
        }
        if request.uri().path() == metrics::PATH {
            if !names_this_machine(&request) {
                let message =
                    "here metrics are for this machine; --metrics-port opens a port for others\n";
                return text(StatusCode::FORBIDDEN, message.to_owned());
            }
            let answer = self.metrics.answer(request.method(), request.headers());
            return answer.await.map(Either::Left);
        }
        if request.uri().path() == series::PATH {
            return self.series.answer(&request).await.map(Either::Left);
        }
        if ends && !request.method().is_safe() {
            // The controller would take it, and nothing would come of it.
            let message = "the node ends; nothing was changed";
            return unavailable(
                "node_ending",
                message,
                &["start it again: `eagleray start`"],
            );
        }
        let asks_for_the_end = request.uri().path() == SHUTDOWN;
        let late = Arc::new(AtomicBool::new(false));
        match self.forward(request, &late).await {
            Ok(answer) => answer,
            Err(_) if late.load(Ordering::Relaxed) => text(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not come\n".to_owned(),
            ),
            // The controller may be gone before it has said so.
            Err(_) if asks_for_the_end && self.ending.load(Ordering::Relaxed) => {
                json(StatusCode::ACCEPTED, &serde_json::json!({"ending": true}))
            }
            Err(error) => {
                tracing::debug!(%error, "a request is not forwarded");
                self.away().await
            }
        }
    }

    /// To the controller and back. A client that leaves ends it.
    async fn forward(
        &self,
        request: Request<Incoming>,
        late: &Arc<AtomicBool>,
    ) -> io::Result<Answer> {
        let connect = UnixStream::connect(&self.rest_socket);
        let stream = time::timeout(CONNECTED_WITHIN, connect).await??;
        let (mut sender, connection) = client::conn::http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = Driver(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the controller's answer broke off");
            }
        }));
        let sent = sender.send_request(to_controller(request, late)?);
        let answer = time::timeout(ANSWERED_WITHIN, sent).await?;
        let (mut head, body) = answer.map_err(io::Error::other)?.into_parts();
        remove_of_a_hop(&mut head.headers);
        let body = Forwarded {
            body,
            _driver: driver,
        };
        Ok(Response::from_parts(head, Either::Right(body)))
    }

    async fn away(&self) -> Answer {
        let socket = self.node_socket.clone();
        let asked = tokio::task::spawn_blocking(move || trouble_of_controller(&socket)).await;
        let message = match asked.ok().flatten() {
            Some(sentence) => sentence,
            None => "The controller is being started. Requests are served meanwhile.".to_owned(),
        };
        let log = self.log_directory.join("controller.log");
        unavailable(
            "controller_away",
            &message,
            &[
                "ask again in a moment",
                &format!("if it stays away, {} says why", log.display()),
            ],
        )
    }
}

/// A page of another origin whose name leads here cannot ask without a token either: a browser says that name.
fn names_this_machine(request: &Request<Incoming>) -> bool {
    let hosts = Hosts::of("");
    let mut named = request.headers().get_all(header::HOST).iter();
    named.all(|host| host.to_str().is_ok_and(|host| hosts.allow(host)))
}

/// What the node says of a controller that keeps dying; `None`: nothing. Blocks for as long as the node takes to answer.
fn trouble_of_controller(node_socket: &Path) -> Option<String> {
    let request = NodeRequest {
        body: Some(node_request::Body::Info(Empty {})),
    };
    match socket::call::<NodeResponse>(node_socket, &request)
        .ok()?
        .body
    {
        Some(node_response::Body::Info(info)) => {
            let mut reasons = info.why.into_iter();
            let controller = reasons.find(|one| one.code.starts_with("controller_"));
            controller.map(|one| one.sentence)
        }
        _ => None,
    }
}

fn unavailable(code: &str, message: &str, help: &[&str]) -> Answer {
    let object = serde_json::json!({"code": code, "message": message, "where": "", "help": help});
    let mut answer = json(StatusCode::SERVICE_UNAVAILABLE, &object);
    let soon = http::HeaderValue::from_static("1");
    answer.headers_mut().insert(header::RETRY_AFTER, soon);
    answer
}

fn json(status: StatusCode, object: &serde_json::Value) -> Answer {
    let mut answer = text(status, object.to_string());
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

fn text(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(text)));
    *answer.status_mut() = status;
    answer
}

/// The request as it goes to the controller: with the host in a header, however the client named it.
fn to_controller(
    request: Request<Incoming>,
    late: &Arc<AtomicBool>,
) -> io::Result<Request<Patient>> {
    let (mut head, body) = request.into_parts();
    remove_of_a_hop(&mut head.headers);
    if let Some(authority) = head.uri.authority() {
        let host = http::HeaderValue::from_str(authority.as_str()).map_err(io::Error::other)?;
        head.headers.insert(header::HOST, host);
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse().map_err(io::Error::other)?;
    head.version = Version::HTTP_11;
    Ok(Request::from_parts(
        head,
        Patient::new(body, Arc::clone(late)),
    ))
}

fn remove_of_a_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // What says where a request belongs is not a client's to take away.
        .filter(|name| *name != header::HOST && *name != header::AUTHORIZATION)
        .collect();
    for name in named.iter().chain(OF_A_HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// The task that moves the bytes of one forwarded request; ended with it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of an answer of the controller.
struct Forwarded {
    body: Incoming,
    _driver: Driver,
}

impl Body for Forwarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request, each part of which comes within a time.
struct Patient {
    body: Incoming,
    part_within: Pin<Box<Sleep>>,
    /// Set when one did not.
    late: Arc<AtomicBool>,
}

impl Patient {
    fn new(body: Incoming, late: Arc<AtomicBool>) -> Self {
        Self {
            body,
            part_within: Box::pin(time::sleep(PART_WITHIN)),
            late,
        }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Poll::Ready(frame) = pin!(&mut self.body).poll_frame(context) {
            self.part_within
                .as_mut()
                .reset(Instant::now() + PART_WITHIN);
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        ready!(self.part_within.as_mut().poll(context));
        self.late.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
