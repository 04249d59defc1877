//! Calls that wait: for an application to run or fail, or to be gone.

use std::time::Duration;

use eagleray_types::control::{AwaitApplication, Empty, api_response};

use super::{CallId, Core, WAITS_KEPT, Wait, status, validate::api_error};

impl Core {
    pub(super) fn on_await(&mut self, call: CallId, wait: AwaitApplication) {
        let refusal = if self.awaiting.len() >= WAITS_KEPT {
            Some(api_error(
                "internal",
                format!("{WAITS_KEPT} calls are waiting for applications; try again later"),
            ))
        } else {
            self.cannot_settle(&wait.name, &wait.revision)
        };
        match refusal {
            Some(error) => self.reply(call, api_response::Body::Error(error)),
            None => self.awaiting.push(Wait {
                call,
                name: wait.name,
                revision: wait.revision,
            }),
        }
    }

    fn cannot_settle(
        &self,
        name: &str,
        revision: &str,
    ) -> Option<eagleray_types::control::ApiError> {
        let target = self
            .applications
            .get(name)
            .and_then(|one| one.target.as_ref());
        match target {
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

    /// Ends the waits for other revisions of `name`.
    pub(super) fn supersede_waits(&mut self, name: &str) {
        let (over, kept): (Vec<Wait>, Vec<Wait>) = std::mem::take(&mut self.awaiting)
            .into_iter()
            .partition(|wait| {
                wait.name == name && self.cannot_settle(&wait.name, &wait.revision).is_some()
            });
        self.awaiting = kept;
        for wait in over {
            if let Some(error) = self.cannot_settle(&wait.name, &wait.revision) {
                self.reply(wait.call, api_response::Body::Error(error));
            }
        }
    }

    pub(super) fn on_await_deleted(&mut self, call: CallId, name: String) {
        if self.deleting.len() >= WAITS_KEPT {
            let message =
                "too many clients wait for the end of applications; try again in a moment";
            let error = api_error("internal", message);
            return self.reply(call, api_response::Body::Error(error));
        }
        // Answered at once where there is nothing to wait for.
        self.deleting.push(Wait {
            call,
            name,
            revision: String::new(),
        });
    }

    pub(super) fn fail_waits(&mut self, name: &str) {
        for wait in self
            .awaiting
            .extract_if(.., |wait| wait.name == name)
            .collect::<Vec<_>>()
        {
            let message = format!("application '{name}' was deleted while it was deployed");
            self.reply(
                wait.call,
                api_response::Body::Error(api_error("not_found", message)),
            );
        }
    }

    pub(super) fn on_client_gone(&mut self, connection: u64) {
        self.awaiting
            .retain(|wait| wait.call.connection != connection);
        self.deleting
            .retain(|wait| wait.call.connection != connection);
    }

    /// Answers what has come true. `RUNNING` counts once the proxy has applied the update that says so, so that
    /// the caller's first request is routed.
    pub(super) fn answer_waits(&mut self, now: Duration) {
        let settled = |wait: &Wait| {
            let application = self.applications.get(&wait.name)?;
            let over = match status::application_word(application) {
                "RUNNING" => self.applied >= self.targets.number_of(&wait.name),
                word => word == "DEPLOY_FAILED",
            };
            over.then(|| {
                (
                    wait.call,
                    api_response::Body::Settled(status::render(application, now)),
                )
            })
        };
        let gone = |wait: &Wait| {
            let gone = match wait.name.as_str() {
                "" => !self.applications.values().any(super::Application::deleting),
                // Deployed again counts too: what was there is not any more.
                name => self
                    .applications
                    .get(name)
                    .is_none_or(|application| !application.deleting()),
            };
            gone.then_some((wait.call, api_response::Body::Done(Empty {})))
        };
        let answers: Vec<_> = self
            .awaiting
            .iter()
            .filter_map(settled)
            .chain(self.deleting.iter().filter_map(gone))
            .collect();
        for (call, body) in answers {
            self.awaiting.retain(|wait| wait.call != call);
            self.deleting.retain(|wait| wait.call != call);
            self.reply(call, body);
        }
    }
}
