//! What the router's thread does for one call, from its arguments to its outcome.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use eagleray_metrics::Level;
use eagleray_router::service::{Exchange, Failure, Handle, Outgoing};
use eagleray_types::{DeploymentKey, ErrorCode};
use eagleray_wire::{
    RequestHead,
    region::{Attached, Attachment, MOST_ATTACHMENTS, Pool},
};
use tokio::{
    sync::{oneshot, watch},
    time::{Duration, timeout_at},
};

use crate::{
    answer::{Item, Items, collect},
    arguments::{Arguments, Resolved},
    call::{Call, Failed, Outcome},
    metrics::{Metrics, OfDeployment},
    order::{Answer, Order, Request},
    reservation::Dispatched,
    targets::Targets,
};

/// How long a call waits for news of a deployment that is not known.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// Calls of a process whose arguments are answers that are not there yet.
const RESOLVING: usize = 65_536;

/// What all calls of the router's thread share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) metrics: Rc<Metrics>,
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
            route,
            arguments,
            answer,
            model,
            session,
            deadline,
        } = request;
        let reserves = matches!(answer, Answer::Reservation(_));
        let (counted, of_route) = self.metrics.begin(&key, &route);
        let _reserved = reserves.then(|| Reserved::new(&counted.reserved));
        let regions = if reserves {
            // Its head goes before its arguments are known.
            0
        } else {
            MOST_ATTACHMENTS
        };
        let Resolved {
            chunks,
            attachments,
        } = match self.resolve(arguments, deadline, regions, &counted).await? {
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
            outgoing.complete = !reserves;
            outgoing.deadline = deadline;
            outgoing.model = model;
            outgoing.session = session;
            outgoing
        };
        let exchange = self.submit(&key, &replica_id, outgoing, deadline).await?;
        of_route.requests.add_alone(1);
        match answer {
            Answer::Value => collect(exchange).await,
            Answer::Items => Items::new(exchange).hand_over(call).await,
            Answer::Reservation(dispatched) => {
                self.reserved(exchange, call, dispatched, deadline, &counted)
                    .await
            }
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
        metrics: &OfDeployment,
    ) -> Result<Result<Resolved, usize>, Failure> {
        let waits = !matches!(arguments, Arguments::Whole(_));
        let awaits_answers = arguments.has_answers();
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
        let began = Instant::now();
        let resolved = match deadline {
            None => Ok(resolved.await),
            Some(deadline) => timeout_at(deadline.into(), resolved)
                .await
                .map_err(|_| Failure::new(ErrorCode::DeadlineExceeded)),
        };
        if awaits_answers {
            metrics.resolution.observe_time_alone(began.elapsed());
        }
        resolved
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
        dispatched: oneshot::Receiver<Dispatched>,
        deadline: Option<Instant>,
        metrics: &OfDeployment,
    ) -> Result<Outcome, Failure> {
        let mut items = Items::new(exchange);
        match items.next().await? {
            Item::Whole(identity) => call.push(identity),
            Item::Error(error) => return Ok(Outcome::Answer(error, true)),
            Item::End => return Err(Failure::new(ErrorCode::Internal)),
        }
        let Dispatched { arguments, stream } = tokio::select! {
            // An error: nobody can say any more what runs there.
            dispatched = dispatched => {
                dispatched.map_err(|_| Failure::new(ErrorCode::Cancelled))?
            }
            // The replica says nothing more before it has the call, so this is its end.
            ended = items.next() => {
                return Err(ended.err().unwrap_or_else(|| Failure::new(ErrorCode::Internal)));
            }
        };
        let chunks = match self.resolve(arguments, deadline, 0, metrics).await? {
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

/// A slot that is reserved.
struct Reserved<'a>(&'a Level);

impl<'a> Reserved<'a> {
    fn new(level: &'a Level) -> Self {
        level.add_alone(1);
        Self(level)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.add_alone(-1);
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
