//! From the first word of the end to the last process: the phases of [`Phase`], one after the other.

use std::time::Duration;

use eagleray_types::control::{Empty, proxy_command};
use rustix::process::Signal;

use super::{
    Accepting, Command, Core, Level, Outcome, Role, START_WITHIN, ServiceCommand,
    phase::{Patience, Phase},
};
use crate::ready::{Failure, Kind};

impl Core {
    /// The second signal ends the node at once: whoever sent it does not want to wait.
    pub(super) fn on_signal(&mut self, name: &str, now: Duration) {
        if !self.phase.is_ending() {
            return self.begin_end(name, Patience::ORDERLY, now);
        }
        let message = format!("second signal ({name}): the node ends at once");
        self.out.log(Level::Warning, message);
        self.replicas.kill_all(&mut self.out);
        self.signal(Role::Controller, Signal::KILL);
        self.signal(Role::Proxy, Signal::KILL);
        self.phase = Phase::Over;
        self.outcome = Some(Outcome {
            as_asked: false,
            in_order: false,
        });
    }

    pub(super) fn begin_end(&mut self, reason: &str, patience: Patience, now: Duration) {
        if self.phase.is_ending() {
            return;
        }
        self.out
            .log(Level::Info, format!("the node begins to end: {reason}"));
        if matches!(self.phase, Phase::Starting { .. }) && self.failure.is_none() {
            self.failure = Some(Failure::new(
                Kind::Failed,
                format!("the node was ended while it started: {reason}"),
            ));
        }
        self.patience = patience;
        // The controller lives on for those who wait for its answers, and is not started again.
        self.controller.end();
        self.proxy.end();
        self.out
            .service(Role::Proxy, ServiceCommand::CloseListeners);
        if self.proxy.is_running() {
            // Not read: then the time of this phase ends it.
            self.out.ask_proxy(proxy_command::Body::Drain(Empty {}));
        }
        self.phase = Phase::Draining {
            until: now + patience.draining,
        };
    }

    /// Goes on to the next phase when what the present one waits for has come.
    pub(super) fn advance(&mut self, now: Duration) {
        let services_until = now + Patience::SERVICES;
        match self.phase {
            Phase::Starting { .. } if self.accepting == Accepting::Yes && self.controller_spoke => {
                self.phase = Phase::Up;
                self.look_at = now;
                self.out.push(Command::Announce(Ok(())));
            }
            Phase::Draining { .. } if self.proxy.is_over() => {
                self.replicas
                    .stop_all(self.patience.replicas, now, &mut self.out);
                // The time of a replica is kept by `Replicas`; this one is for processes that cannot be killed.
                let until = services_until + self.patience.replicas;
                self.phase = Phase::StoppingReplicas { until };
                self.advance(now);
            }
            Phase::StoppingReplicas { .. } if self.replicas.is_empty() => {
                self.signal(Role::Controller, Signal::TERM);
                self.phase = Phase::EndingServices {
                    until: services_until,
                };
                self.advance(now);
            }
            Phase::EndingServices { .. } if self.controller.is_over() => {
                if !self.replicas.is_empty() {
                    return self.over(false);
                }
                self.reaper.end();
                self.out.service(Role::Reaper, ServiceCommand::SayAllIsWell);
                self.phase = Phase::DismissingReaper {
                    until: services_until,
                };
                self.advance(now);
            }
            Phase::DismissingReaper { .. } if self.reaper.is_over() => self.over(true),
            _ => {}
        }
    }

    pub(super) fn on_deadline(&mut self, now: Duration) {
        let until = now + Patience::SERVICES;
        match self.phase {
            Phase::Starting { .. } => {
                let silent = if self.accepting == Accepting::Yes {
                    Role::Controller
                } else {
                    Role::Proxy
                };
                let message = format!(
                    "the {} did not come up within {START_WITHIN:?}",
                    silent.name()
                );
                self.fail_to_start(silent, message, now);
            }
            Phase::Draining { .. } => {
                self.out.log(
                    Level::Warning,
                    "the proxy has not finished in time and is killed",
                );
                self.signal(Role::Proxy, Signal::KILL);
                self.phase = Phase::Draining { until };
            }
            Phase::StoppingReplicas { .. } => {
                let left = self.replicas.ids().collect::<Vec<_>>().join(", ");
                let message =
                    format!("replicas could not be ended and are left to the reaper: {left}");
                self.out.log(Level::Error, message);
                self.replicas.kill_all(&mut self.out);
                self.signal(Role::Controller, Signal::KILL);
                self.phase = Phase::EndingServices { until };
            }
            Phase::EndingServices { .. } => {
                self.signal(Role::Controller, Signal::KILL);
                self.phase = Phase::EndingServices { until };
            }
            Phase::DismissingReaper { .. } => {
                self.signal(Role::Reaper, Signal::KILL);
                self.over(true);
            }
            Phase::Up | Phase::Over => {}
        }
    }

    fn over(&mut self, in_order: bool) {
        self.phase = Phase::Over;
        self.outcome = Some(Outcome {
            as_asked: !self.failed && self.failure.is_none(),
            in_order,
        });
        // Said last: who hears that it failed may count on nothing being left.
        if let Some(failure) = self.failure.take() {
            self.out.push(Command::Announce(Err(failure)));
        }
    }

    /// Passes on what was read of the log of the process that does not start.
    pub(super) fn on_log(&mut self, tail: &str) {
        let Some(failure) = &mut self.failure else {
            return;
        };
        let tail = tail.trim();
        if !tail.is_empty() {
            failure.message = format!("{}; the end of its log:\n{tail}", failure.message);
        }
        let message = format!("the node does not come up: {}", failure.message);
        self.out.log(Level::Error, message);
    }

    pub(super) fn fail_to_start(&mut self, role: Role, message: String, now: Duration) {
        self.failure = Some(Failure::new(Kind::Failed, message));
        self.out.push(Command::ReadLog(role));
        self.begin_end("it does not come up", Patience::ABANDONED, now);
    }
}
