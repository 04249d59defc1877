//! What the router's thread does for one call, from its arguments to its outcome.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use eagleray_router::service::{Data, Exchange, Failure, Handle, Outgoing};
use eagleray_types::{DeploymentKey, ErrorCode};
use eagleray_wire::{
    Flags, ModelKey, RequestHead, SessionKey,
    region::{self, Arrival, Attached, Attachment, MOST_ATTACHMENTS, Pool},
};
use tokio::{
    sync::watch,
    time::{Duration, timeout_at},
};

use crate::{
    arguments::{Arguments, Resolved},
    call::{Call, Dispatched, Failed, Outcome},
    content::Content,
    targets::Targets,
};

/// How long a call waits for news of a deployment that is not known.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// Calls of a process whose arguments are answers that are not there yet.
const RESOLVING: usize = 65_536;

/// What kind of answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Value,
    Items,
    /// The call names its method and arguments later, and reserves a slot until then.
    Reservation,
}

/// A call on its way to the router's thread.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) request: Request,
    pub(crate) call: Unfinished,
}

/// What is asked of whom.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) key: DeploymentKey,
    /// The only replica that the call may go to; empty: any.
    pub(crate) replica_id: String,
    pub(crate) head: Bytes,
    pub(crate) arguments: Arguments,
    pub(crate) answer: Answer,
    /// The multiplexed model that it asks for.
    pub(crate) model: Option<ModelKey>,
    /// The session that it belongs to.
    pub(crate) session: Option<SessionKey>,
    pub(crate) deadline: Option<Instant>,
}

/// Ends the call when whatever held it is dropped, at whichever step: a caller never waits for nothing.
#[derive(Debug)]
pub(crate) struct Unfinished(pub(crate) Arc<Call>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.finish(Outcome::Failure(Failed::new(
            "Unavailable",
            "the router of this process has ended",
        )));
    }
}

/// What all calls of the router's thread share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) handle: Handle,
    pub(crate) targets: Arc<Targets>,
    pub(crate) news: watch::Receiver<u64>,
    pub(crate) resolving: Rc<Cell<usize>>,
    /// Regions for arguments.
    pub(crate) regions: Arc<Pool>,
}

impl Shared {
    pub(crate) async fn carry_out(self, order: Order) {
        let Order { request, call } = order;
        tokio::select! {
            outcome = self.outcome(request, &call.0) => call.0.finish(outcome),
            () = call.0.cancelled.notified() => {
                call.0.finish(Outcome::Failure(Failed::new("Cancelled", "")));
            }
        }
    }

    async fn outcome(&self, request: Request, call: &Call) -> Outcome {
        let key = request.key.clone();
        match self.run(request, call).await {
            Ok(outcome) => outcome,
            Err(failure) => {
                let mut failed = Failed::new(name(failure.code), failure.message);
                if failure.code == ErrorCode::BackPressure {
                    failed.refusal = self.targets.refusal(&key);
                }
                Outcome::Failure(failed)
            }
        }
    }

    async fn run(&self, request: Request, call: &Call) -> Result<Outcome, Failure> {
        let Request {
            key,
            replica_id,
            head,
            arguments,
            answer,
            model,
            session,
            deadline,
        } = request;
        let regions = if answer == Answer::Reservation {
            // Its head goes before its arguments are known.
            0
        } else {
            MOST_ATTACHMENTS
        };
        let Resolved {
            chunks,
            attachments,
        } = match self.resolve(arguments, deadline, regions).await? {
            Ok(resolved) => resolved,
            Err(number) => return Ok(Outcome::Upstream(number)),
        };
        let (head, attached) = self.attach(head, attachments)?;
        let outgoing = move || {
            let mut rest = chunks.clone();
            let first = rest.pop_front().unwrap_or_default();
            let mut outgoing = Outgoing::whole(head.clone(), first);
            outgoing.keep_bytes += rest.iter().map(Bytes::len).sum::<usize>();
            outgoing.rest = rest;
            outgoing.attached.clone_from(&attached);
            outgoing.complete = answer != Answer::Reservation;
            outgoing.deadline = deadline;
            outgoing.model = model;
            outgoing.session = session;
            outgoing
        };
        let exchange = self.submit(&key, &replica_id, outgoing, deadline).await?;
        match answer {
            Answer::Value => collect(exchange).await,
            Answer::Items => Items::new(exchange).hand_over(call).await,
            Answer::Reservation => self.reserved(exchange, call, deadline).await,
        }
    }

    /// Names what goes beside the body in the head.
    fn attach(
        &self,
        head: Bytes,
        attachments: Vec<Attachment>,
    ) -> Result<(Bytes, Vec<Attached>), Failure> {
        if attachments.is_empty() {
            return Ok((head, Vec::new()));
        }
        let attached: Vec<_> = attachments
            .into_iter()
            .map(|attachment| Attached {
                number: self.regions.number(),
                attachment,
            })
            .collect();
        let head =
            RequestHead::attach(&head, attached.iter().map(Attached::named)).map_err(|error| {
                Failure {
                    code: ErrorCode::BadRequest,
                    message: error.to_string().into(),
                }
            })?;
        Ok((head, attached))
    }

    /// Waits for the answers that are arguments. They are not counted as queued.
    async fn resolve(
        &self,
        arguments: Arguments,
        deadline: Option<Instant>,
        regions: usize,
    ) -> Result<Result<Resolved, usize>, Failure> {
        let waits = !matches!(arguments, Arguments::Whole(_));
        let resolved = arguments.resolve(&self.regions, regions);
        if !waits {
            return Ok(resolved.await);
        }
        if self.resolving.get() >= RESOLVING {
            let message = format!("{RESOLVING} calls of this process wait for their arguments");
            return Err(Failure {
                code: ErrorCode::Overloaded,
                message: message.into(),
            });
        }
        let _counted = Counted::new(&self.resolving);
        match deadline {
            None => Ok(resolved.await),
            Some(deadline) => timeout_at(deadline.into(), resolved)
                .await
                .map_err(|_| Failure::new(ErrorCode::DeadlineExceeded)),
        }
    }

    async fn submit(
        &self,
        key: &DeploymentKey,
        replica_id: &str,
        outgoing: impl Fn() -> Outgoing,
        deadline: Option<Instant>,
    ) -> Result<Exchange, Failure> {
        let mut news = self.news.clone();
        let mut patience = tokio::time::Instant::now() + UNKNOWN_FOR;
        if let Some(deadline) = deadline {
            patience = patience.min(deadline.into());
        }
        loop {
            news.borrow_and_update();
            let view =
                (!replica_id.is_empty()).then(|| self.targets.view(&self.handle, key, replica_id));
            let key = match &view {
                None => key,
                Some(Some(view)) => view,
                Some(None) => {
                    return Err(Failure {
                        code: ErrorCode::Unavailable,
                        message: format!("replica {replica_id} of {key} is gone").into(),
                    });
                }
            };
            match self.handle.submit(Instant::now(), key, outgoing()) {
                Err(failure) if failure.code == ErrorCode::NotFound => {
                    // An error is either the time or the end of the thread: no news will come.
                    if !matches!(timeout_at(patience, news.changed()).await, Ok(Ok(()))) {
                        return Err(Failure {
                            message: format!("there is no deployment {key}").into(),
                            ..failure
                        });
                    }
                }
                submitted => return submitted,
            }
        }
    }

    /// Holds a slot: its replica says who it is, and gets the call once the caller dispatches it.
    async fn reserved(
        &self,
        exchange: Exchange,
        call: &Call,
        deadline: Option<Instant>,
    ) -> Result<Outcome, Failure> {
        let mut items = Items::new(exchange);
        match items.next().await? {
            Item::Whole(identity) => call.push(identity),
            Item::Error(error) => return Ok(Outcome::Answer(error, true)),
            Item::End => return Err(Failure::new(ErrorCode::Internal)),
        }
        let Dispatched { arguments, stream } = tokio::select! {
            dispatched = call.dispatched() => dispatched,
            // The replica says nothing more before it has the call, so this is its end.
            ended = items.next() => {
                return Err(ended.err().unwrap_or_else(|| Failure::new(ErrorCode::Internal)));
            }
        };
        let chunks = match self.resolve(arguments, deadline, 0).await? {
            Ok(resolved) => resolved.chunks,
            Err(number) => return Ok(Outcome::Upstream(number)),
        };
        let exchange = &mut items.exchange;
        for chunk in chunks {
            std::future::poll_fn(|context| exchange.poll_room(context)).await;
            exchange.push_body(chunk);
        }
        exchange.end_body();
        if stream {
            return items.hand_over(call).await;
        }
        match items.next().await? {
            Item::Whole(value) => {
                // DONE follows, and with it the slot is free.
                Ok(Outcome::Answer(value, false))
            }
            Item::Error(error) => Ok(Outcome::Answer(error, true)),
            Item::End => Err(Failure::new(ErrorCode::Internal)),
        }
    }
}

struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(cell: &'a Cell<usize>) -> Self {
        cell.set(cell.get() + 1);
        Self(cell)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn collect(exchange: Exchange) -> Result<Outcome, Failure> {
    let value = exchange.collect().await?;
    let content = content(value.data, value.attachments)?;
    Ok(Outcome::Answer(content, value.is_error))
}

/// The body of an answer, which has no attachments but itself.
fn content(data: Bytes, attachments: Vec<Attachment>) -> Result<Content, Failure> {
    let (content, others) = Content::of(data, attachments);
    if others.is_empty() {
        Ok(content)
    } else {
        Err(Failure::new(ErrorCode::Internal))
    }
}

enum Item {
    Whole(Content),
    /// The pickled exception that ends it.
    Error(Content),
    End,
}

/// An answer as items, each put together from as many frames as it came in.
struct Items {
    exchange: Exchange,
    begun: bool,
    ended: bool,
}

impl Items {
    const fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            begun: false,
            ended: false,
        }
    }

    async fn hand_over(mut self, call: &Call) -> Result<Outcome, Failure> {
        loop {
            call.room().await;
            match self.next().await? {
                Item::Whole(item) => call.push(item),
                Item::Error(error) => return Ok(Outcome::Answer(error, true)),
                Item::End => return Ok(Outcome::End),
            }
        }
    }

    async fn next(&mut self) -> Result<Item, Failure> {
        let mut parts = Parts::default();
        loop {
            let Some(Data {
                flags,
                bytes,
                arrivals,
            }) = self.piece().await?
            else {
                return Ok(Item::End);
            };
            parts.add(bytes);
            parts.arrivals.extend(arrivals);
            if flags.contains(Flags::ERROR) {
                return Ok(Item::Error(parts.join()?));
            }
            if flags.contains(Flags::END_OF_MESSAGE) {
                return Ok(Item::Whole(parts.join()?));
            }
        }
    }

    /// Data and the flags that it came with; `None` at the end. ERROR: it is the last, of a pickled exception.
    async fn piece(&mut self) -> Result<Option<Data>, Failure> {
        if !self.begun {
            self.begun = true;
            let answer = self.exchange.answer().await?;
            let data = answer.parse().map(|parsed| parsed.data(&answer.payload));
            let data = data.map_err(|_| Failure::new(ErrorCode::Internal))?;
            self.ended = answer.is_complete();
            let nothing =
                data.is_empty() && answer.arrivals.is_empty() && self.ended && !answer.is_error();
            return Ok((!nothing).then_some(Data {
                flags: answer.flags,
                bytes: data,
                arrivals: answer.arrivals,
            }));
        }
        if self.ended {
            return Ok(None);
        }
        match self.exchange.data().await {
            Some(Ok(data)) => Ok(Some(data)),
            // The flag of the last frame: what was collected is the pickled exception.
            Some(Err(failure)) if failure.code == ErrorCode::UserCode => Ok(Some(Data {
                flags: Flags::ERROR,
                bytes: Bytes::new(),
                arrivals: Vec::new(),
            })),
            Some(Err(failure)) => Err(failure),
            None => Ok(None),
        }
    }
}

/// Bytes that are mostly one piece.
#[derive(Default)]
struct Parts {
    first: Bytes,
    rest: BytesMut,
    arrivals: Vec<Arrival>,
}

impl Parts {
    fn add(&mut self, bytes: Bytes) {
        if self.first.is_empty() {
            self.first = bytes;
        } else {
            if self.rest.is_empty() {
                self.rest.extend_from_slice(&self.first);
            }
            self.rest.extend_from_slice(&bytes);
        }
    }

    fn join(self) -> Result<Content, Failure> {
        let data = if self.rest.is_empty() {
            self.first
        } else {
            self.rest.freeze()
        };
        if self.arrivals.is_empty() {
            return Ok(Content::Bytes(data));
        }
        let assembled = region::assemble(data, self.arrivals);
        let (data, attachments) = assembled.ok_or(Failure::new(ErrorCode::Internal))?;
        content(data, attachments)
    }
}

/// The code's name, for Python.
const fn name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadRequest => "BadRequest",
        ErrorCode::NotFound => "NotFound",
        // For whoever called, its time limit is over either way.
        ErrorCode::DeadlineExceeded | ErrorCode::NoReplica => "DeadlineExceeded",
        ErrorCode::RequestTimeout => "RequestTimeout",
        ErrorCode::PayloadTooLarge => "PayloadTooLarge",
        ErrorCode::Cancelled => "Cancelled",
        ErrorCode::UserCode => "UserCode",
        ErrorCode::Internal => "Internal",
        ErrorCode::ReplicaDied => "ReplicaDied",
        // A full queue in bytes is a full queue to Python.
        ErrorCode::BackPressure | ErrorCode::Overloaded => "BackPressure",
        ErrorCode::Unavailable => "Unavailable",
        ErrorCode::Draining => "Draining",
    }
}
