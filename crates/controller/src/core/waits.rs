//! Calls that wait: for an application to run or fail, or to be gone.

use std::time::Duration;

use eagleray_types::control::{ApiError, AwaitApplication, Empty, api_response};

use super::{event::CallId, outbox::Outbox, render::render, validate::api_error};
use crate::{books::Books, targets::Targets};

/// Calls of each kind that may wait; more are refused.
const WAITS_KEPT: usize = 4096;

#[derive(Debug)]
struct Wait {
    call: CallId,
    /// The application; of a delete, empty for all of them.
    name: String,
    revision: String,
}

#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Until the application has settled.
    running: Vec<Wait>,
    /// Until it is gone.
    gone: Vec<Wait>,
}

impl Waits {
    /// No more calls may wait for the end of applications.
    pub(super) fn is_full(&self) -> bool {
        self.gone.len() >= WAITS_KEPT
    }

    pub(super) fn until_running(
        &mut self,
        call: CallId,
        wait: AwaitApplication,
        books: &Books,
        out: &mut Outbox,
    ) {
        let refusal = if self.running.len() >= WAITS_KEPT {
            Some(api_error(
                "internal",
                format!("{WAITS_KEPT} calls are waiting for applications; try again later"),
            ))
        } else {
            cannot_settle(books, &wait.name, &wait.revision)
        };
        match refusal {
            Some(error) => out.refuse(call, error),
            None => self.running.push(Wait {
                call,
                name: wait.name,
                revision: wait.revision,
            }),
        }
    }

    /// Answered at once where there is nothing to wait for.
    pub(super) fn until_gone(&mut self, call: CallId, name: String, out: &mut Outbox) {
        if self.is_full() {
            let message =
                "too many clients wait for the end of applications; try again in a moment";
            return out.refuse(call, api_error("internal", message));
        }
        self.gone.push(Wait {
            call,
            name,
            revision: String::new(),
        });
    }

    /// An application has another revision: ends the waits for others, and those for the end of what was there.
    pub(super) fn on_deployed(
        &mut self,
        books: &Books,
        name: &str,
        ends_delete: bool,
        out: &mut Outbox,
    ) {
        self.running.retain(|wait| {
            let over = (wait.name == name).then(|| cannot_settle(books, name, &wait.revision));
            let error = over.flatten();
            match error {
                Some(error) => {
                    out.refuse(wait.call, error);
                    false
                }
                None => true,
            }
        });
        if ends_delete {
            for wait in self.gone.extract_if(.., |wait| wait.name == name) {
                out.reply(wait.call, api_response::Body::Done(Empty {}));
            }
        }
    }

    pub(super) fn on_deleted(&mut self, name: &str, out: &mut Outbox) {
        for wait in self.running.extract_if(.., |wait| wait.name == name) {
            let message = format!("application '{name}' was deleted while it was deployed");
            out.refuse(wait.call, api_error("not_found", message));
        }
    }

    pub(super) fn on_client_gone(&mut self, connection: u64) {
        self.running
            .retain(|wait| wait.call.connection != connection);
        self.gone.retain(|wait| wait.call.connection != connection);
    }

    /// Answers what has come true. `RUNNING` counts once the proxy has applied the update that says so, so that
    /// the caller's first request is routed.
    pub(super) fn answer(
        &mut self,
        books: &Books,
        targets: &Targets,
        applied: u64,
        now: Duration,
        out: &mut Outbox,
    ) {
        self.running.retain(|wait| {
            let Some(application) = books.applications.get(&wait.name) else {
                return true;
            };
            let plan = books.plan(&wait.name);
            let over = match application.word(plan) {
                "RUNNING" => applied >= targets.number_of(&wait.name),
                word => word == "DEPLOY_FAILED",
            };
            if over {
                let body = api_response::Body::Settled(render(application, books, now, out));
                out.reply(wait.call, body);
            }
            !over
        });
        self.gone.retain(|wait| {
            let remains = match wait.name.as_str() {
                "" => books.is_any_deleting(),
                // Deployed again counts too: what was there is not any more.
                name => books.is_deleting(name),
            };
            if !remains {
                out.reply(wait.call, api_response::Body::Done(Empty {}));
            }
            remains
        });
    }
}

fn cannot_settle(books: &Books, name: &str, revision: &str) -> Option<ApiError> {
    match books.plan(name).map(|plan| &plan.target) {
        None => Some(api_error(
            "not_found",
            format!("there is no application '{name}'"),
        )),
        Some(target) if revision.is_empty() || target.spec.revision == revision => None,
        Some(target) => {
            let now = &target.spec.revision;
            let message = format!(
                "revision {revision} of application '{name}' was replaced by revision {now}"
            );
            Some(api_error("conflict", message))
        }
    }
}
